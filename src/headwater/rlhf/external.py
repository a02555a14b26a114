"""Rewards from anywhere: a Python function, or an address that answers over HTTP."""

from __future__ import annotations

import http.client
import importlib
import importlib.util
import ipaddress
import json
import queue
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import Interrupted, UserError
from headwater.models.answer import Answer
from headwater.rlhf.scoring import fit_normaliser
from headwater.rlhf.settings import REWARD, EndpointSettings, PpoSettings
from headwater.storage import write_atomically

TextReward = Callable[[list[str], list[str]], Any]
"""Prompts and answers as text → one number per answer."""

NORMALISER = "reward.json"
"""Gain and bias of an external reward, in the stage that follows it."""

LARGEST = 1e18
"""Scores are fp32, and so are their squares."""

LARGEST_ANSWER = 1 << 24
"""Bytes of an address's answer: room for a hundred thousand scores and more."""

KEPT = "PPO goes on from its last checkpoint"
"""What a failing reward costs."""


class ExternalReward:
    """A `Scorer` around a reward that reads text. Scores are gain·r + bias.

    Prompt: the text before the assistant's turn that is answered; answer: that turn, opening included; both without control
    tokens.
    """

    def __init__(
        self, source: TextReward, tokenizer: Tokenizer, place: str, gain: float = 1.0, bias: float = 0.0
    ) -> None:
        self.source, self.tokenizer, self.place = source, tokenizer, place
        self.gain, self.bias = gain, bias
        turn = [{"role": "user", "content": ""}]
        opened = tokenizer.chat(turn, continuation="")
        pairs = zip(opened, tokenizer.chat(turn), strict=False)
        self.header = opened[sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)) :]
        """What opens an assistant's turn."""
        if not self.header:
            raise UserError(f"{place}: the chat template does not say where an answer begins; use ppo.reward=model.")

    def __call__(self, answers: Sequence[Answer], /) -> Tensor:
        """[answers] scores. Raises UserError where the source fails or does not give one finite number per answer."""
        texts = [self.texts(answer) for answer in answers]
        try:
            scores = self.source([prompt for prompt, _ in texts], [said for _, said in texts])
        except (UserError, Interrupted):
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}".rstrip(": ")
            raise UserError(f"{self.place} failed ({why}): mend it and run again; {KEPT}.") from error
        return self.gain * torch.tensor(checked(scores, len(answers), self.place)) + self.bias

    def texts(self, answer: Answer) -> tuple[str, str]:
        """Prompt and answer. What was asked ends with the header of the turn that is answered and its opening, whatever turns
        were before; a policy may write another header, and must not choose by it what is judged."""
        asked, width = answer.prompt, len(self.header)
        places = reversed(range(len(asked) - width + 1))
        start = next((place for place in places if asked[place : place + width] == self.header), None)
        if start is None:
            raise ValueError("the prompt does not open an assistant's turn")
        return self.tokenizer.decode(asked[:start]), self.tokenizer.decode(answer.ids[start + width :])

    def frozen(self, dtype: torch.dtype) -> ExternalReward:  # noqa: ARG002
        """Itself: it has no weights here."""
        return self

    def normalised(self, answers: Callable[[], Sequence[Answer]], folder: Path) -> ExternalReward:
        """The same with mean 0 and deviation 1 over the SFT policy's `answers`.

        Gain and bias are kept in `folder`, so that a resumed stage goes on with the same, whatever the source says by then.
        """
        path = folder / NORMALISER
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
        else:
            gain, bias = fit_normaliser(self(answers()), self.place, "a policy can learn nothing from it; check it")
            kept = {"reward": self.place, "gain": gain, "bias": bias}
            write_atomically(path, json.dumps(kept) + "\n")
        return ExternalReward(self.source, self.tokenizer, self.place, kept["gain"], kept["bias"])


def external_reward(settings: PpoSettings, tokenizer: Tokenizer) -> ExternalReward:
    """What `ppo.reward` names, unless that is `model`. Raises UserError where there is no such module, file or function."""
    given = REWARD.fullmatch(settings.reward)
    assert given is not None
    if given["url"]:
        place = f"The reward at {given['url']}"
        return ExternalReward(Endpoint(given["url"], settings.endpoint), tokenizer, place)
    name = given["name"] or given["function"]
    function = getattr(_module(given["module"]) if given["module"] else _file(Path(given["path"])), name, None)
    if not callable(function):
        place = given["module"] or given["path"]
        raise UserError(f"ppo.reward = {settings.reward}: there is no function `{name}` in {place}; check the name.")
    return ExternalReward(function, tokenizer, f"The reward {settings.reward}")


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise UserError(
            f"ppo.reward: the module {name} cannot be imported ({error}): install it, or give PATH.py:FUNCTION."
        ) from error


def _file(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"ppo.reward: there is no file {path}; give its path as seen from where the command runs.")
    specification = importlib.util.spec_from_file_location(f"headwater_reward_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # data classes look themselves up there
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"ppo.reward: {path} cannot be run ({type(error).__name__}: {error}): mend it.") from error
    return module


def checked(scores: Any, wanted: int, place: str) -> list[float]:
    """`scores` (a list, or an array with `tolist`) as floats. Raises UserError unless it is one finite number per answer."""
    values = scores.tolist() if hasattr(scores, "tolist") else scores
    if not isinstance(values, list | tuple):
        raise UserError(f"{place} gave {type(scores).__name__} in place of a list of numbers: mend it; {KEPT}.")
    if len(values) != wanted:
        raise UserError(f"{place} gave {len(values)} scores for {wanted} answers: it must give one each; {KEPT}.")
    for number, value in enumerate(values):
        value = value.item() if hasattr(value, "item") else value  # a scalar of NumPy or torch
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
            raise UserError(f"{place} gave {value!r} for answer {number}: a score is a finite number; {KEPT}.")
    return [float(value) for value in values]


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
            except TimeoutError:
                why, mend = f"does not answer within {self.settings.timeout:g} s", "raise ppo.endpoint.timeout"
            except (OSError, http.client.HTTPException, ValueError) as error:
                if isinstance(getattr(error, "reason", None), TimeoutError):
                    why, mend = f"does not answer within {self.settings.timeout:g} s", "raise ppo.endpoint.timeout"
                else:
                    why, mend = f"cannot be reached ({getattr(error, 'reason', error)})", "check the address"
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
