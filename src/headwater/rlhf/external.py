"""Rewards from anywhere: a Python function, or an address that answers over HTTP."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import Interrupted, UserError
from headwater.models.answer import Answer
from headwater.rlhf.endpoint import Endpoint
from headwater.rlhf.outside_scores import KEPT, checked
from headwater.rlhf.scoring import fit_normaliser
from headwater.rlhf.settings import REWARD, PpoSettings
from headwater.storage import write_atomically

TextReward = Callable[[list[str], list[str]], Any]
"""Prompts and answers as text → one number per answer."""

NORMALISER = "reward.json"
"""Gain and bias of an external reward, in the stage that follows it."""


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
