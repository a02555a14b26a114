"""What is read out of a feedback store to learn from: rankings, ratings with their means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Text, and_, func, not_, or_, select, type_coerce

from headwater.errors import UserError
from headwater.feedback.judgements import SKIP, Groups
from headwater.feedback.store.schema import ANNOTATOR, DERIVED, JUDGEMENT, PROMPT, RESPONSE, TASK


@dataclass(frozen=True)
class Ranking:
    """A ranking with all that a reward model needs.

    groups     response ids, best first, a tie in one group
    means      mean rating per response, where there are ratings
    derived    computed from ratings, and not said by a person
    annotator  name of who said it (`simulated:…` is no person); None where derived
    strength   of a judged pair: how much better; None where that was not said
    round      the round whose policy wrote an answer of it, the latest of them; 1 where nobody said
    """

    id: int
    prompt: int
    conversation: list[dict[str, str]]
    responses: dict[int, str]
    groups: Groups
    means: dict[int, float]
    derived: bool
    annotator: str | None = None
    strength: float | None = None
    round: int = 1


class MeanRating(NamedTuple):
    """A rated answer to a prompt, with the ids of its ratings."""

    response: int
    prompt: int
    mean: float
    judgements: list[int]


def corrected() -> Select[tuple[int]]:
    """Ids of the judgements that a later one supersedes."""
    return select(JUDGEMENT.c.supersedes).where(JUDGEMENT.c.supersedes.is_not(None))


def standing() -> ColumnElement[bool]:
    """Judgements that no later one corrects."""
    return JUDGEMENT.c.id.not_in(corrected())


def skipped() -> ColumnElement[bool]:
    """Judgements that only say that the person passed the task over."""
    flags = func.coalesce(type_coerce(JUDGEMENT.c.flags, Text), "")
    return flags.contains(f'"{SKIP}"')  # canonical JSON: a longer word that holds it has no such quotes


def settling() -> Select[tuple[int, int]]:
    """(task, judgement) of every task that an adjudicator settled: the newest word of one that is no skip."""
    return (
        select(JUDGEMENT.c.task_id, func.max(JUDGEMENT.c.id).label("id"))
        .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
        .where(JUDGEMENT.c.task_id.is_not(None), ANNOTATOR.c.role == "adjudicator", standing(), not_(skipped()))
        .group_by(JUDGEMENT.c.task_id)
    )


def asked_gold() -> ColumnElement[bool]:
    """Gold questions that were not taken back: nobody is wanted to judge one of those."""
    return and_(TASK.c.gold.is_not(None), TASK.c.wanted > 0)


def learnt() -> ColumnElement[bool]:
    """Judgements that may be learnt from: those that stand; of a settled task the adjudicator's alone; none of a gold
    question, which only tests who judges.
    """
    settled = settling().subquery()
    gold = select(TASK.c.id).where(TASK.c.gold.is_not(None))
    unsettled = JUDGEMENT.c.task_id.not_in(select(settled.c.task_id))
    counts = and_(JUDGEMENT.c.task_id.not_in(gold), or_(unsettled, JUDGEMENT.c.id.in_(select(settled.c.id))))
    return and_(standing(), or_(JUDGEMENT.c.task_id.is_(None), counts))


def judgement(connection: Connection, id_: int) -> dict[str, Any]:
    """One judgement, which must be there."""
    return dict(connection.execute(select(JUDGEMENT).where(JUDGEMENT.c.id == id_)).mappings().one())


def judgements(connection: Connection, kind: str | None, superseded: bool) -> list[dict[str, Any]]:
    query = select(JUDGEMENT).order_by(JUDGEMENT.c.id)
    if kind is not None:
        query = query.where(JUDGEMENT.c.kind == kind)
    if not superseded:
        query = query.where(standing())
    return [dict(row) for row in connection.execute(query).mappings()]


def mean_ratings(connection: Connection, split: str | None, source: str | None, axis: str | None) -> list[MeanRating]:
    """Every rated answer of a split and source (None: all). `axis` None: the only axis there is, else UserError."""
    query = (
        select(JUDGEMENT.c.response_id, JUDGEMENT.c.prompt_id, JUDGEMENT.c.id, JUDGEMENT.c.axes)
        .join(PROMPT, PROMPT.c.id == JUDGEMENT.c.prompt_id)
        .where(JUDGEMENT.c.kind == "rating", JUDGEMENT.c.axes.is_not(None), learnt())
        .order_by(JUDGEMENT.c.response_id, JUDGEMENT.c.id)
    )
    if split is not None:
        query = query.where(PROMPT.c.split == split)
    if source is not None:
        query = query.where(PROMPT.c.source == source)
    rated: dict[tuple[int, int], tuple[list[float], list[int]]] = {}
    axes_seen: set[str] = set()
    for response, prompt, judgement, axes in connection.execute(query):
        axes_seen.update(axes)
        if axis is None and len(axes_seen) > 1:
            names = ", ".join(sorted(axes_seen))
            raise UserError(f"There are ratings on several axes ({names}): name the one you mean.")
        name = next(iter(axes)) if axis is None else axis
        if name in axes:
            values, ids = rated.setdefault((response, prompt), ([], []))
            values.append(float(axes[name]))
            ids.append(judgement)
    return [
        MeanRating(response, prompt, sum(values) / len(values), ids)
        for (response, prompt), (values, ids) in rated.items()
    ]


def rankings(connection: Connection, split: str, source: str | None) -> Iterator[Ranking]:
    """Derived rankings by id, then people's rankings and pairs by id."""
    prompts = select(PROMPT).where(PROMPT.c.split == split)
    if source is not None:
        prompts = prompts.where(PROMPT.c.source == source)
    conversations = {row.id: row.conversation for row in connection.execute(prompts)}
    answers = select(RESPONSE.c.id, RESPONSE.c.text, RESPONSE.c.sampling, RESPONSE.c.prompt_id)
    # Filtered here: a list of all ids may be longer than a database takes in one statement.
    written = [row for row in connection.execute(answers) if row.prompt_id in conversations]
    texts: dict[int, str] = {row.id: row.text for row in written}
    rounds = {row.id: int((row.sampling or {}).get("round", 1)) for row in written}
    derived = select(DERIVED.c.id, DERIVED.c.prompt_id, DERIVED.c.ranking, DERIVED.c.settings).order_by(DERIVED.c.id)
    found = connection.execute(derived).all()
    axes = {row.settings["axis"] for row in found}
    means = {
        axis: {rated.response: rated.mean for rated in mean_ratings(connection, split, source, axis)} for axis in axes
    }

    def build(
        id_: int, prompt: int, groups: Groups, known: dict[int, float], by: str | None, strength: float | None = None
    ) -> Ranking:
        ids = [response for group in groups for response in group]
        return Ranking(
            id=id_,
            prompt=prompt,
            conversation=conversations[prompt],
            responses={response: texts[response] for response in ids},
            groups=groups,
            means={response: known[response] for response in ids if response in known},
            derived=by is None,
            annotator=by,
            strength=strength,
            round=max((rounds[response] for response in ids), default=1),
        )

    for row in found:
        if row.prompt_id in conversations:
            yield build(row.id, row.prompt_id, row.ranking, means[row.settings["axis"]], None)
    said = (
        select(JUDGEMENT.c.id, JUDGEMENT.c.prompt_id, JUDGEMENT.c.ranking, JUDGEMENT.c.strength, ANNOTATOR.c.name)
        .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
        .where(JUDGEMENT.c.ranking.is_not(None), learnt())
        .order_by(JUDGEMENT.c.id)
    )
    for judged in connection.execute(said):
        if judged.prompt_id in conversations:
            yield build(judged.id, judged.prompt_id, judged.ranking, {}, judged.name, judged.strength)
