"""How far the judging is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import and_, func, not_, select

from headwater.feedback.queue.adjudication import contradictory_tasks
from headwater.feedback.queue.task_selection import taken, unsettled
from headwater.feedback.store.reader import settling, skipped, standing
from headwater.feedback.store.schema import ANNOTATOR, JUDGEMENT, TASK
from headwater.feedback.store.store import Store


@dataclass(frozen=True)
class JudgingProgress:
    """How far the judging is, without gold questions.

    tasks, wanted   tasks, and judgements that are wanted of them together
    judged          of those that are wanted, how many there are
    finished        tasks that have all that are wanted, or that an adjudicator settled
    contradictory   tasks that wait for an adjudicator; not counted for a person who is none, as it takes a while: 0
    own, own_left   of one person: judged, and waiting for them (gold questions are among the judged)
    adjudicates     whether that person is an adjudicator: contradictory tasks are all that waits for them
    """

    tasks: int
    wanted: int
    judged: int
    finished: int
    contradictory: int
    own: int = 0
    own_left: int = 0
    adjudicates: bool = False


def progress(store: Store, annotator: int | None = None) -> JudgingProgress:
    """Of the whole store, and of one person where one is given."""
    judged, settled = taken(), settling().subquery()
    places = func.coalesce(judged.c.places, 0)
    with store.reading() as connection:
        rows = connection.execute(
            select(TASK.c.id, TASK.c.wanted, places.label("places"), settled.c.id.label("settled"))
            .outerjoin(judged, judged.c.task_id == TASK.c.id)
            .outerjoin(settled, settled.c.task_id == TASK.c.id)
            .where(TASK.c.gold.is_(None))
        ).all()
        closed = {row.id for row in rows if row.places >= row.wanted or row.settled is not None}
        whole = JudgingProgress(
            len(rows), sum(row.wanted for row in rows), sum(min(row.places, row.wanted) for row in rows), len(closed),
            0,
        )  # fmt: skip
        if annotator is None:
            return replace(whole, contradictory=len(contradictory_tasks(connection)))
        adjudicates = (
            connection.execute(select(ANNOTATOR.c.role).where(ANNOTATOR.c.id == annotator)).scalar() == "adjudicator"
        )
        own = and_(JUDGEMENT.c.annotator_id == annotator, JUDGEMENT.c.task_id.is_not(None), standing())
        said = connection.execute(select(JUDGEMENT.c.task_id).where(own, not_(skipped()))).scalars().all()
        if adjudicates:
            contradictory = contradictory_tasks(connection)
            whole = replace(whole, contradictory=len(contradictory))
            left = {task for task, _ in unsettled(connection, contradictory, annotator)}
        else:
            passed = connection.execute(select(JUDGEMENT.c.task_id).where(own, skipped())).scalars()
            left = {row.id for row in rows} - closed - {*said, *passed}
    return replace(whole, own=len(said), own_left=len(left), adjudicates=adjudicates)
