"""Which task a person gets next: what they hold, a gold question, the open one of the highest priority, one to settle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, func, not_, select

from headwater.corpus.shares import hash_fraction
from headwater.errors import UserError
from headwater.feedback.queue.adjudication import contradictory_tasks
from headwater.feedback.queue.assignments import chance
from headwater.feedback.store.reader import asked_gold, settling, skipped, standing
from headwater.feedback.store.schema import ANNOTATOR, JUDGEMENT, LEASE, TASK


def task_row(connection: Connection, task: int) -> RowMapping:
    row = connection.execute(select(TASK).where(TASK.c.id == task)).mappings().first()
    if row is None:
        raise UserError(f"There is no task {task} in the feedback store: check the id.")
    return row


def judged_by(annotator: int) -> Any:
    """Ids of the tasks that a person judged or skipped."""
    return select(JUDGEMENT.c.task_id).where(JUDGEMENT.c.annotator_id == annotator, JUDGEMENT.c.task_id.is_not(None))


def is_leased(connection: Connection, annotator: int, task: int) -> bool:
    """Even where it ran out: the row goes when the next task is handed out, and with it the claim."""
    own = select(LEASE).where(LEASE.c.task_id == task, LEASE.c.annotator_id == annotator)
    return connection.execute(own).first() is not None


def leased(connection: Connection, annotator: int) -> RowMapping | None:
    """What a person has before them."""
    own = (
        select(TASK)
        .join(LEASE, LEASE.c.task_id == TASK.c.id)
        .where(LEASE.c.annotator_id == annotator, TASK.c.id.not_in(judged_by(annotator)))
        .order_by(LEASE.c.until, TASK.c.id)
    )
    return connection.execute(own).mappings().first()


def lease(connection: Connection, task: int, annotator: int, until: int) -> None:
    """A person has a task before them until then; so it is longer where they had it."""
    own = and_(LEASE.c.task_id == task, LEASE.c.annotator_id == annotator)
    if not connection.execute(LEASE.update().where(own).values(until=until)).rowcount:
        connection.execute(LEASE.insert(), {"task_id": task, "annotator_id": annotator, "until": until})


def gold_question(connection: Connection, annotator: int, share: float) -> RowMapping | None:
    """A gold question, where it is time for one: in an order and at moments of the person's own."""
    made = select(func.count()).where(JUDGEMENT.c.annotator_id == annotator, JUDGEMENT.c.task_id.is_not(None))
    count = connection.execute(made).scalar_one()
    if hash_fraction("gold questions", f"{annotator} {count}") >= share:
        return None
    left = select(TASK).where(asked_gold(), TASK.c.id.not_in(judged_by(annotator)))
    found = connection.execute(left).mappings().all()
    return min(found, key=lambda row: chance(f"{annotator} {row['id']}"), default=None)


def taken() -> Any:
    """(task, places): by how many people each task is judged. Skips and adjudicators take no place."""
    return (
        select(JUDGEMENT.c.task_id, func.count(JUDGEMENT.c.annotator_id.distinct()).label("places"))
        .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
        .where(JUDGEMENT.c.task_id.is_not(None), standing(), not_(skipped()), ANNOTATOR.c.role != "adjudicator")
        .group_by(JUDGEMENT.c.task_id)
        .subquery()
    )


def open_task(connection: Connection, annotator: int) -> RowMapping | None:
    """The task of the highest priority that has a place left and that this person did not judge or skip."""
    judged = taken()
    held = (
        select(LEASE.c.task_id, func.count().label("places"))
        .join(ANNOTATOR, ANNOTATOR.c.id == LEASE.c.annotator_id)
        .where(ANNOTATOR.c.role != "adjudicator")
        .group_by(LEASE.c.task_id)
        .subquery()
    )
    query = (
        select(TASK)
        .outerjoin(judged, judged.c.task_id == TASK.c.id)
        .outerjoin(held, held.c.task_id == TASK.c.id)
        .where(
            TASK.c.gold.is_(None),
            func.coalesce(judged.c.places, 0) + func.coalesce(held.c.places, 0) < TASK.c.wanted,
            TASK.c.id.not_in(judged_by(annotator)),
            TASK.c.id.not_in(select(settling().subquery().c.task_id)),
        )
        .order_by(TASK.c.priority.desc(), TASK.c.id)
        .limit(1)
    )
    return connection.execute(query).mappings().first()


def to_settle(connection: Connection) -> RowMapping | None:
    """The contradictory task of the highest priority that no adjudicator has, settled or skipped."""
    found = [(-priority, task) for task, priority in unsettled(connection, contradictory_tasks(connection))]
    return task_row(connection, min(found)[1]) if found else None


def unsettled(
    connection: Connection, contradictory: Sequence[tuple[int, float]], annotator: int | None = None
) -> list[tuple[int, float]]:
    """Of contradictory tasks those that no adjudicator has, settled or skipped; and what `annotator` has before them."""
    role = ANNOTATOR.c.role == "adjudicator"
    held = select(LEASE.c.task_id).join(ANNOTATOR, ANNOTATOR.c.id == LEASE.c.annotator_id).where(role)
    if annotator is not None:
        held = held.where(LEASE.c.annotator_id != annotator)
    said = (
        select(JUDGEMENT.c.task_id)
        .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
        .where(role, JUDGEMENT.c.task_id.is_not(None))
    )
    busy = {*connection.execute(held).scalars(), *connection.execute(said).scalars()}
    return [each for each in contradictory if each[0] not in busy]
