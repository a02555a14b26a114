"""A reward behind an http(s) address."""

from __future__ import annotations

import http.client
import ipaddress
import json
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from headwater.errors import UserError
from headwater.rlhf.outside_scores import KEPT, checked
from headwater.rlhf.settings import EndpointSettings

LARGEST_ANSWER = 1 << 24
"""Bytes of an address's answer: room for a hundred thousand scores and more."""


def is_here(url: str) -> bool:
    """Whether an address is one of this machine alone."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Endpoint:
    """A reward over HTTP: POST {"prompts": […], "answers": […]} gives {"scores": […]}, all as JSON."""

    def __init__(self, url: str, settings: EndpointSettings) -> None:
        self.url, self.settings = url, settings
        # A proxy of the environment is for the world, and knows nothing of an address on this machine.
        proxies = urllib.request.ProxyHandler({} if is_here(url) else None)
        self._opener = urllib.request.build_opener(proxies)

    def __call__(self, prompts: list[str], answers: list[str]) -> list[float]:
        """[answers] scores, asked for in batches. Raises UserError where an answer is wrong, or none comes in the end."""
        scores: list[float] = []
        for start in range(0, len(answers), self.settings.batch):
            part = slice(start, start + self.settings.batch)
            scores += checked(self._ask(prompts[part], answers[part]), len(answers[part]), f"The reward at {self.url}")
        return scores

    def _ask(self, prompts: list[str], answers: list[str]) -> Any:
        body = json.dumps({"prompts": prompts, "answers": answers}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        wait = self.settings.backoff
        for attempt in range(self.settings.retries + 1):
            if attempt:
                time.sleep(wait)
                wait *= 2
            request = urllib.request.Request(self.url, body, headers, method="POST")
            try:
                return self._scores(self._content(request))
            except urllib.error.HTTPError as error:
                why, mend = f"answers with HTTP error {error.code}", "look at its log"
                error.close()
                if error.code != 429 and error.code < 500:  # asking again would change nothing
                    break
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = getattr(error, "reason", error)
                if isinstance(reason, TimeoutError):
                    why, mend = f"does not answer within {self.settings.timeout:g} s", "raise ppo.endpoint.timeout"
                else:
                    why, mend = f"cannot be reached ({reason})", "check the address"
        tries = f"{attempt + 1} attempts" if attempt else "1 attempt"
        raise UserError(f"The reward at {self.url} {why} ({tries}): {mend} and run again; {KEPT}.")

    def _content(self, request: urllib.request.Request) -> bytes:
        """What the address answers, whole. Raises UserError where it is too long, TimeoutError where it takes too long."""
        found: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

        def read() -> None:
            try:
                with self._opener.open(request, timeout=self.settings.timeout) as response:
                    content = response.read(LARGEST_ANSWER + 1)
                    if len(content) <= LARGEST_ANSWER and response.length:
                        raise http.client.IncompleteRead(content, response.length)
                found.put(content)
            except Exception as error:
                found.put(error)

        # In a thread: a socket's own timeout begins anew with every byte that comes.
        threading.Thread(target=read, name="reward", daemon=True).start()
        try:
            content = found.get(timeout=self.settings.timeout)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(content, Exception):
            raise content
        if len(content) > LARGEST_ANSWER:
            raise UserError(
                f"The reward at {self.url} answers with more than {LARGEST_ANSWER:,} bytes: let it send "
                f'{{"scores": […]}} alone; {KEPT}.'
            )
        return content

    def _scores(self, content: bytes) -> Any:
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict) or "scores" not in found:
            raise UserError(f'The reward at {self.url} does not answer with {{"scores": […]}}: mend it; {KEPT}.')
        return found["scores"]
