"""What is read out of a feedback store: rankings to learn from, ratings with their means, checks before writing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, func, select

from headwater.errors import UserError
from headwater.feedback.judgements import Groups, Judgement
from headwater.feedback.schema import Base

TABLES = Base.metadata.tables
PROMPT, RESPONSE, JUDGEMENT = TABLES["prompt"], TABLES["response"], TABLES["judgement"]
DERIVED, ANNOTATOR = TABLES["derived_ranking"], TABLES["annotator"]


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
    """A rated answer; `judgements` are the ids of the ratings, not in the order of `ratings`."""

    response: int
    text: str
    mean: float
    ratings: list[float]
    prompt: int
    source: str
    origin: str | None
    judgements: list[int]


def corrected() -> Select[tuple[int]]:
    """Ids of the judgements that a later one supersedes."""
    return select(JUDGEMENT.c.supersedes).where(JUDGEMENT.c.supersedes.is_not(None))


def judgements(connection: Connection, kind: str | None, superseded: bool) -> list[dict[str, Any]]:
    query = select(JUDGEMENT).order_by(JUDGEMENT.c.id)
    if kind is not None:
        query = query.where(JUDGEMENT.c.kind == kind)
    if not superseded:
        query = query.where(JUDGEMENT.c.id.not_in(corrected()))
    return [dict(row) for row in connection.execute(query).mappings()]


def mean_ratings(connection: Connection, split: str | None, source: str | None, axis: str | None) -> list[MeanRating]:
    """Every rated answer of a split and source (None: all). `axis` None: the only axis there is, else UserError."""
    query = (
        select(JUDGEMENT.c.response_id, JUDGEMENT.c.id, JUDGEMENT.c.axes)
        .join(PROMPT, PROMPT.c.id == JUDGEMENT.c.prompt_id)
        .where(JUDGEMENT.c.kind == "rating", JUDGEMENT.c.axes.is_not(None), JUDGEMENT.c.id.not_in(corrected()))
        .order_by(JUDGEMENT.c.response_id, JUDGEMENT.c.id)
    )
    answers = select(RESPONSE, PROMPT.c.source).join(PROMPT, PROMPT.c.id == RESPONSE.c.prompt_id)
    if split is not None:
        query, answers = query.where(PROMPT.c.split == split), answers.where(PROMPT.c.split == split)
    if source is not None:
        query, answers = query.where(PROMPT.c.source == source), answers.where(PROMPT.c.source == source)
    rated: dict[int, tuple[list[float], list[int]]] = {}
    axes_seen: set[str] = set()
    for response, judgement, axes in connection.execute(query):
        axes_seen.update(axes)
        if axis is None and len(axes_seen) > 1:
            names = ", ".join(sorted(axes_seen))
            raise UserError(f"There are ratings on several axes ({names}): name the one you mean.")
        name = next(iter(axes)) if axis is None else axis
        if name in axes:
            values, ids = rated.setdefault(response, ([], []))
            values.append(float(axes[name]))
            ids.append(judgement)
    texts = {row.id: row for row in connection.execute(answers)}
    return [
        MeanRating(
            response, texts[response].text, sum(values) / len(values), sorted(values),
            texts[response].prompt_id, texts[response].source, texts[response].origin, ids,
        )
        for response, (values, ids) in rated.items()
    ]  # fmt: skip


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
        .where(JUDGEMENT.c.ranking.is_not(None), JUDGEMENT.c.id.not_in(corrected()))
        .order_by(JUDGEMENT.c.id)
    )
    for judged in connection.execute(said):
        if judged.prompt_id in conversations:
            yield build(judged.id, judged.prompt_id, judged.ranking, {}, judged.name, judged.strength)


# Checks before writing


def need(connection: Connection, table: str, id_: int) -> None:
    """Raises UserError unless the row is there."""
    if connection.execute(select(TABLES[table].c.id).where(TABLES[table].c.id == id_)).first() is None:
        raise UserError(f"There is no {table} {id_} in the feedback store: check the id.")


def responses_of(connection: Connection, prompt: int) -> set[int]:
    return set(connection.execute(select(RESPONSE.c.id).where(RESPONSE.c.prompt_id == prompt)).scalars())


def may_be_judged(connection: Connection, judgement: Judgement) -> set[int]:
    """Ids of the answers that a judgement may speak of: the task's, or all of the prompt's."""
    need(connection, "annotator", judgement.annotator)
    need(connection, "prompt", judgement.prompt)
    if judgement.task is None:
        return responses_of(connection, judgement.prompt)
    need(connection, "task", judgement.task)
    table = TABLES["task"]
    task = connection.execute(select(table).where(table.c.id == judgement.task)).mappings().one()
    if task["prompt_id"] != judgement.prompt or task["kind"] != judgement.kind:
        raise UserError(f"Task {judgement.task} asks for a {task['kind']} of prompt {task['prompt_id']}: answer that.")
    return set(task["responses"])


def judgement_by_client_id(connection: Connection, client_id: str) -> dict[str, Any] | None:
    row = connection.execute(select(JUDGEMENT).where(JUDGEMENT.c.client_id == client_id)).mappings().first()
    return dict(row) if row else None


def check_correction(connection: Connection, judgement: Judgement) -> None:
    """A correction is by the same person, of the same thing, and of the newest word on it."""
    if judgement.supersedes is None:
        return
    need(connection, "judgement", judgement.supersedes)
    old = connection.execute(select(JUDGEMENT).where(JUDGEMENT.c.id == judgement.supersedes)).mappings().one()
    new = judgement.meaning()
    if any(old[name] != new[name] for name in ("kind", "annotator_id", "prompt_id", "task_id", "response_id")):
        raise UserError(f"Judgement {old['id']} is of another person, kind or answer: only one's own can be corrected.")
    newer = connection.execute(select(func.max(JUDGEMENT.c.id)).where(JUDGEMENT.c.supersedes == old["id"])).scalar()
    if newer is not None:
        raise UserError(f"Judgement {old['id']} was corrected already by {newer}: correct that one.")
