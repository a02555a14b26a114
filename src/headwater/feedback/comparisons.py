"""Dialogues and comparisons that came from elsewhere, in one form, and the way into the feedback store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from headwater.corpus.shares import share_of
from headwater.errors import UserError
from headwater.feedback.ratings import anonymous_rater
from headwater.feedback.store import TABLES, Store, Writer

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


@dataclass(frozen=True)
class Comparison:
    """Answers to one prompt, put in order by somebody.

    prompt      the turns before the answers, the user's last
    ranks       one per answer: 0 is best, equal ranks are a tie
    writers     the model that wrote each answer, None where it is not known or was a person
    annotator   who judged, None where some person did who is not known; a model is called `simulated:…`
    place       file and line that it stands in
    split       its share, where that was settled before a system message was put before the prompt
    """

    prompt: tuple[Turn, ...]
    answers: tuple[str, ...]
    ranks: tuple[int, ...]
    source: str
    place: str
    writers: tuple[str | None, ...]
    annotator: str | None = None
    split: str | None = None

    def groups(self) -> list[list[int]]:
        """Places of answers, best first, those that tie together."""
        return [[place for place, own in enumerate(self.ranks) if own == rank] for rank in sorted(set(self.ranks))]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """(better, worse) of every two answers that do not tie."""
        for better, rank in zip(self.answers, self.ranks, strict=True):
            for worse, other in zip(self.answers, self.ranks, strict=True):
                if rank < other:
                    yield better, worse

    @property
    def fingerprint(self) -> str:
        """Equal for equal judgements, wherever they stand."""
        said = (self.source, self.prompt, self.answers, self.ranks, self.annotator)
        return hashlib.sha256(repr(said).encode()).hexdigest()[:32]

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


def import_comparisons(store: Store, comparisons: Iterable[Comparison], *, made: int | None = None) -> int:
    """Brings comparisons into the store in one transaction, each as a pair or a ranking; returns how many there were.

    A prompt's split is its share. What stands twice comes in once. `made`: Unix seconds of the judgements; absent: now.
    Raises UserError where one of them is in the store.
    """
    distinct = list({comparison.fingerprint: comparison for comparison in comparisons}.values())
    try:
        with store.writing(made) as writer:
            people = _annotators(writer, distinct)
            prompts = _prompts(writer, distinct)
            answers = [
                {"prompt_id": prompts[each.source, each.prompt], "text": text, "model": model, "origin": each.place}
                for each in distinct
                for text, model in zip(each.answers, each.writers, strict=True)
            ]
            ids = iter(writer.insert("response", answers, "import of answers"))
            judgements = []
            for each in distinct:
                own = [next(ids) for _ in each.answers]
                judgements.append(
                    {
                        "kind": "pair" if len(own) == 2 else "ranking",
                        "prompt_id": prompts[each.source, each.prompt],
                        "annotator_id": people[each.annotator],
                        "ranking": [[own[place] for place in group] for group in each.groups()],
                        "client_id": each.fingerprint,
                    }
                )
            writer.insert("judgement", judgements, "import of comparisons")
            return len(judgements)
    except IntegrityError:
        raise UserError(f"Some of these comparisons are in {store.place} already: import each once.") from None


def _annotators(writer: Writer, comparisons: Sequence[Comparison]) -> dict[str | None, int]:
    """{name: id}; who is not known is the store's row for all unknown raters."""
    table = TABLES["annotator"]
    people: dict[str | None, int] = {None: anonymous_rater(writer)}
    people |= {row.name: row.id for row in writer.connection.execute(select(table.c.name, table.c.id))}
    names = sorted({each.annotator for each in comparisons if each.annotator is not None} - people.keys())
    rows: list[dict[str, Any]] = [
        {"name": name, "role": "simulated" if name.startswith("simulated:") else "annotator"} for name in names
    ]
    return people | dict(zip(names, writer.insert("annotator", rows, "import of annotators"), strict=True))


def _prompts(writer: Writer, comparisons: Sequence[Comparison]) -> dict[tuple[str, tuple[Turn, ...]], int]:
    """{(source, prompt): id}, each prompt once."""
    shares = {(each.source, each.prompt): each.share for each in comparisons}
    rows = [
        {"conversation": [turn._asdict() for turn in prompt], "source": source, "split": share}
        for (source, prompt), share in shares.items()
    ]
    return dict(zip(shares, writer.insert("prompt", rows, "import of prompts"), strict=True))
