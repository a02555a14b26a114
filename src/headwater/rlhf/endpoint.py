"""A reward behind an http(s) address."""

from __future__ import annotations

import http.client
import ipaddress
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from headwater.errors import UserError
from headwater.rlhf.outside_scores import KEPT, checked
from headwater.rlhf.settings import EndpointSettings


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
                with self._opener.open(request, timeout=self.settings.timeout) as response:
                    return self._scores(response.read())
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

    def _scores(self, content: bytes) -> Any:
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict) or "scores" not in found:
            raise UserError(f'The reward at {self.url} does not answer with {{"scores": […]}}: mend it; {KEPT}.')
        return found["scores"]
