"""Dialogues and comparisons that came from elsewhere, in one form, and the way into the feedback store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from headwater.corpus.shares import share_of
from headwater.feedback.orders import groups_of

Role = Literal["system", "user", "assistant"]


class Turn(NamedTuple):
    """One message of a dialogue."""

    role: Role
    content: str


@dataclass(frozen=True)
class Conversation:
    """A dialogue to learn from; its last turn is the assistant's."""

    turns: tuple[Turn, ...]
    source: str
    place: str
    """File and line that it stands in."""
    annotator: str | None = None
    """Who wrote its last turn, where that is known."""
    split: str | None = None
    """Its share, where the file names it."""
    judgement: int | None = None
    """The id in the store that it was exported from, where the file names it."""


@dataclass(frozen=True)
class Rated:
    """One answer to a prompt with somebody's rating of it, {axis: number}."""

    prompt: tuple[Turn, ...]
    answer: str
    axes: dict[str, float]
    source: str
    place: str
    annotator: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Answers to one prompt, put in order by somebody.

    prompt      the turns before the answers, the user's last
    ranks       one per answer: 0 is best, equal ranks are a tie
    writers     the model that wrote each answer, None where it is not known or was a person
    annotator   who judged, None where some person did who is not known; a model is called `simulated:…`
    place       file and line that it stands in
    split       its share, where the file names it, or where it was settled before a system message was put before the prompt
    strength    of two answers: how much better, where that was said
    judgement   the id in the store that it was exported from, where the file names it
    """

    prompt: tuple[Turn, ...]
    answers: tuple[str, ...]
    ranks: tuple[int, ...]
    source: str
    place: str
    writers: tuple[str | None, ...]
    annotator: str | None = None
    split: str | None = None
    strength: float | None = None
    judgement: int | None = None

    def groups(self) -> list[list[int]]:
        """Places of answers, best first, those that tie together."""
        return groups_of(dict(enumerate(self.ranks)))

    def pairs(self) -> Iterator[tuple[str, str]]:
        """(better, worse) of every two answers that do not tie."""
        for better, rank in zip(self.answers, self.ranks, strict=True):
            for worse, other in zip(self.answers, self.ranks, strict=True):
                if rank < other:
                    yield better, worse

    @property
    def fingerprint(self) -> str:
        """Equal for equal judgements, wherever they stand."""
        return fingerprint(self.source, self.prompt, self.answers, self.ranks, self.annotator)

    @property
    def share(self) -> str:
        """ "train", "select", "judge" or "prompt", by a hash of the user's first words: dialogues that begin alike stay
        together.
        """
        return self.split or share_of(first_request(self.prompt))


def first_request(turns: Sequence[Turn]) -> str:
    """What the user said first; empty where there is nothing of the user's."""
    return next((turn.content for turn in turns if turn.role == "user"), "")


def first_said(conversation: Iterable[Mapping[str, str]]) -> str:
    """The same of messages as the store holds them."""
    return next((message["content"] for message in conversation if message["role"] == "user"), "")


def fingerprint(*said: object) -> str:
    """A name for what was said, the same wherever and whenever: the client id of an imported judgement."""
    return hashlib.sha256(repr(said).encode()).hexdigest()[:32]
