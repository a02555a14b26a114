"""Where people contradict each other about a task, an adjudicator has the last word: only theirs is learnt from.

The judgements of the others stay in the store, and count where agreement is measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from headwater.feedback.judgements import Groups
from headwater.feedback.orders import pair_orders
from headwater.feedback.store.reader import settling, standing
from headwater.feedback.store.schema import ANNOTATOR, JUDGEMENT, PROMPT, TASK
from headwater.feedback.store.store import Store


class Opinion(NamedTuple):
    """What one person says of a task."""

    judgement: int
    annotator: int
    name: str
    role: str
    ranking: Groups | None
    strength: float | None
    axes: dict[str, float] | None
    flags: list[str]
    note: str | None


def contradict(one: Groups, other: Groups) -> bool:
    """Whether two rankings order at least as many pairs of answers the other way round as alike, and any at all."""
    first, second = pair_orders(one), pair_orders(other)
    products = [first[pair] * second[pair] for pair in first.keys() & second.keys()]
    return products.count(-1) > 0 and products.count(-1) >= products.count(1)


def contradictory(rankings: Iterable[Groups]) -> bool:
    return any(contradict(one, other) for one, other in itertools.combinations(rankings, 2))


def contradictory_tasks(connection: Connection) -> list[tuple[int, float]]:
    """(task, priority), by id, of those of which some two people's rankings contradict and that no adjudicator settled. No gold questions."""
    said = (
        select(JUDGEMENT.c.task_id, TASK.c.priority, JUDGEMENT.c.ranking)
        .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
        .join(TASK, TASK.c.id == JUDGEMENT.c.task_id)
        .where(
            JUDGEMENT.c.ranking.is_not(None), standing(), ANNOTATOR.c.role != "adjudicator", TASK.c.gold.is_(None),
            JUDGEMENT.c.task_id.not_in(select(settling().subquery().c.task_id)),
        )
        .order_by(JUDGEMENT.c.task_id, JUDGEMENT.c.id)
    )  # fmt: skip
    return [
        task
        for task, rows in itertools.groupby(connection.execute(said), key=lambda row: (row.task_id, row.priority))
        if contradictory([row.ranking for row in rows])
    ]


def waiting(store: Store) -> list[int]:
    """Ids of the tasks that wait for an adjudicator."""
    with store.reading() as connection:
        return [task for task, _ in contradictory_tasks(connection)]


@dataclass(frozen=True)
class Dispute:
    """A task that waits for an adjudicator: what is asked, and who put its answers in which order.

    said: (name, ranking by the numbers of the task's answers from 1 on, best first)
    """

    task: int
    asked: str
    said: list[tuple[str, Groups]]


def disputes(store: Store, most: int) -> list[Dispute]:
    """The first tasks that wait for an adjudicator."""
    found = []
    for task in waiting(store)[:most]:
        query = select(PROMPT.c.conversation, TASK.c.responses).join(TASK, TASK.c.prompt_id == PROMPT.c.id)
        with store.reading() as connection:
            row = connection.execute(query.where(TASK.c.id == task)).one()
        number = {response: place for place, response in enumerate(row.responses, start=1)}
        said = [
            (each.name, [[number[one] for one in group] for group in each.ranking])
            for each in opinions(store, task)
            if each.ranking
        ]
        found.append(Dispute(task, row.conversation[-1]["content"], said))
    return found


def opinions(store: Store, task: int) -> list[Opinion]:
    """What everybody says of a task now, in the order they said it."""
    query: Any = (
        select(JUDGEMENT, ANNOTATOR.c.name, ANNOTATOR.c.role)
        .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
        .where(JUDGEMENT.c.task_id == task, standing())
        .order_by(JUDGEMENT.c.id)
    )
    with store.reading() as connection:
        return [
            Opinion(
                row.id, row.annotator_id, row.name, row.role, row.ranking, row.strength, row.axes, row.flags or [], row.note
            )
            for row in connection.execute(query)
        ]  # fmt: skip
