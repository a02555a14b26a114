"""What the pages need of the models that are served, and the answers that may still be judged."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from headwater.errors import UserError

Message = dict[str, str]
"""{"role": "user" | "assistant" | "system", "content": text}."""


class TooLong(UserError):
    """A prompt that leaves the model no room for an answer."""


_REMEMBERED = 4_000
"""Answers that can still be judged; a longer ago one has to be given again."""


@dataclass(frozen=True)
class AnsweringModel:
    """A model that answers.

    digest  start of the SHA-256 of its weights, as the feedback store keeps it
    run, stage  where it was made; None for a folder of its own
    """

    name: str
    digest: str
    context: int
    run: str | None = None
    stage: str | None = None


@dataclass(frozen=True)
class Wish:
    """How an answer is to be drawn."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 128
    seed: int = 0


Finish = Literal["stop", "length"]
"""Why an answer ended; "length": at its limit."""


@dataclass(frozen=True)
class AnswerPart:
    """A part of an answer; the last one says why it ended."""

    text: str
    finish: Finish | None = None


class Answering(Protocol):
    """The models that are served."""

    @property
    def models(self) -> Sequence[AnsweringModel]:
        """In the order in which they are offered."""
        ...

    def stream(self, model: str, conversation: Sequence[Message], wish: Wish) -> AsyncIterator[AnswerPart]:
        """The answer while it comes. Closing the iterator frees the model. Raises UserError where it cannot be given."""
        ...


def model_called(answering: Answering, name: str) -> AnsweringModel:
    """The model of this name. Raises UserError where none is served under it."""
    for model in answering.models:
        if model.name == name:
            return model
    names = ", ".join(model.name for model in answering.models) or "none"
    raise UserError(f"There is no model `{name}` here (there are: {names}): choose one of them.")


@dataclass(frozen=True)
class Answered:
    """An answer that somebody was given, with all that made it."""

    model: AnsweringModel
    conversation: tuple[Message, ...]
    text: str
    wish: Wish
    finish: str
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))

    def sampling(self) -> dict[str, Any]:
        """What the store keeps beside the seed."""
        settings = asdict(self.wish)
        del settings["seed"]
        origin = {"run": self.model.run, "stage": self.model.stage}
        return {**settings, "served_as": self.model.name, **{key: value for key, value in origin.items() if value}}


class Recent:
    """The last answers, so that what is judged is what the model said, whatever a browser sends."""

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._answers: OrderedDict[str, Answered] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, answer: Answered) -> Answered:
        with self._lock:
            self._answers[answer.id] = answer
            while len(self._answers) > self._limit:
                self._answers.popitem(last=False)
        return answer

    def get(self, id_: str) -> Answered:
        """Raises UserError where it is no longer known."""
        with self._lock:
            found = self._answers.get(id_)
        if found is None:
            raise UserError("This answer is from before the server's start, or too old: have it given again.")
        return found
