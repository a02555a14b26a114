"""A task as one person sees it: who wrote the answers is not told, and their order is that person's alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping, select

from headwater.feedback.store.schema import PROMPT, RESPONSE


class ShownAnswer(NamedTuple):
    """An answer as it is shown: who wrote it is not told."""

    id: int
    text: str


@dataclass(frozen=True)
class Assignment:
    """A task for one person; `answers` in the order that they see, which is theirs alone and always the same.

    until        Unix seconds at which the lease runs out; None where the task is theirs no more but for a correction
    adjudicates  others contradict each other here, and this person's word will settle it
    """

    task: int
    kind: str
    prompt: int
    conversation: list[dict[str, str]]
    answers: list[ShownAnswer]
    until: int | None = None
    adjudicates: bool = False


def assignment(connection: Connection, task: RowMapping, annotator: int, until: int | None, role: str) -> Assignment:
    conversation = connection.execute(
        select(PROMPT.c.conversation).where(PROMPT.c.id == task["prompt_id"])
    ).scalar_one()
    order = seen_order(task["id"], annotator, task["responses"])
    found = connection.execute(select(RESPONSE.c.id, RESPONSE.c.text).where(RESPONSE.c.id.in_(order)))
    texts: dict[int, str] = {row.id: row.text for row in found}
    answers = [ShownAnswer(id_, texts[id_]) for id_ in order]
    return Assignment(
        task["id"], task["kind"], task["prompt_id"], conversation, answers, until, adjudicates=role == "adjudicator"
    )


def seen_order(task: int, annotator: int, responses: Sequence[int]) -> list[int]:
    """The order in which this person sees these answers: by hash, so as good as shuffled and the same for ever."""
    return sorted(responses, key=lambda response: chance(f"{task} {annotator} {response}"))


def chance(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
