"""Single answers in the feedback store: who wrote one, what was said of it, which is not rated yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import not_, select

from headwater.feedback.store.reader import skipped
from headwater.feedback.store.schema import ANNOTATOR, JUDGEMENT, PROMPT, RESPONSE, TASK
from headwater.feedback.store.store import Store, Writer


@dataclass(frozen=True)
class StoredAnswer:
    """An answer with what it answers."""

    id: int
    text: str
    prompt: int
    conversation: list[dict[str, str]]


@dataclass(frozen=True)
class AnswerHistory:
    """All that is known of an answer.

    answer, prompt  the rows of the store
    said            rows of the judgements that speak of it, each with the `name` of who judged, in the order they were made
    """

    answer: dict[str, Any]
    prompt: dict[str, Any]
    said: list[dict[str, Any]]


def answer(store: Store, response: int) -> StoredAnswer | None:
    """The answer of this id; None where there is none."""
    return _first(store, RESPONSE.c.id == response)


def unrated_answer(store: Store, annotator: int, before: int | None = None) -> StoredAnswer | None:
    """The newest answer of a model that this person has not rated (`before`: the newest older than that one)."""
    rated = select(JUDGEMENT.c.response_id).where(
        JUDGEMENT.c.annotator_id == annotator, JUDGEMENT.c.response_id.is_not(None)
    )
    older = () if before is None else (RESPONSE.c.id < before,)
    return _first(store, RESPONSE.c.model.is_not(None), RESPONSE.c.id.not_in(rated), *older)


def _first(store: Store, *which: Any) -> StoredAnswer | None:
    query = (
        select(RESPONSE.c.id, RESPONSE.c.text, RESPONSE.c.prompt_id, PROMPT.c.conversation)
        .join(PROMPT, PROMPT.c.id == RESPONSE.c.prompt_id)
        .where(*which)
        .order_by(RESPONSE.c.id.desc())
        .limit(1)
    )
    with store.reading() as connection:
        row = connection.execute(query).first()
    return None if row is None else StoredAnswer(*row)


def history(store: Store, response: int) -> AnswerHistory | None:
    """Who wrote an answer and what everybody said of it; None where there is none of this id."""
    with store.reading() as connection:
        row = connection.execute(select(RESPONSE).where(RESPONSE.c.id == response)).mappings().first()
        if row is None:
            return None
        prompt = connection.execute(select(PROMPT).where(PROMPT.c.id == row["prompt_id"])).mappings().one()
        query = (
            select(JUDGEMENT, ANNOTATOR.c.name)
            .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
            .where(JUDGEMENT.c.prompt_id == row["prompt_id"])
            .order_by(JUDGEMENT.c.id)
        )
        said = [dict(each) for each in connection.execute(query).mappings() if _speaks_of(each, response)]
    return AnswerHistory(dict(row), dict(prompt), said)


def _speaks_of(judgement: Any, response: int) -> bool:
    ranked = [id_ for group in judgement["ranking"] or [] for id_ in group]
    return response in (judgement["response_id"], judgement["edit_of"], *ranked)


def is_to_be_judged(store: Store, annotator: int, response: int) -> bool:
    """Whether an answer is in a task of which this person has said nothing: who wrote it may not be told to them yet."""
    said = select(JUDGEMENT.c.task_id).where(
        JUDGEMENT.c.annotator_id == annotator, JUDGEMENT.c.task_id.is_not(None), not_(skipped())
    )
    tasks = (
        select(TASK.c.responses)
        .join(RESPONSE, RESPONSE.c.prompt_id == TASK.c.prompt_id)
        .where(RESPONSE.c.id == response, TASK.c.wanted > 0, TASK.c.id.not_in(said))
    )
    with store.reading() as connection:
        return any(response in responses for responses in connection.execute(tasks).scalars())


def used_seeds(store: Store, model: str) -> set[int]:
    """The seeds of a model's answers."""
    with store.reading() as connection:
        return set(connection.execute(select(RESPONSE.c.seed).where(RESPONSE.c.model == model)).scalars())


def keep_answers(writer: Writer, rows: Sequence[dict[str, Any]]) -> list[int]:
    """Ids of answers, each written where its prompt has none of this `origin` yet."""
    ids = []
    for row in rows:
        same = (RESPONSE.c.prompt_id == row["prompt_id"], RESPONSE.c.origin == row["origin"])
        found: int | None = writer.connection.execute(select(RESPONSE.c.id).where(*same)).scalar()
        ids.append(writer.insert("response", [row], "response")[0] if found is None else found)
    return ids
