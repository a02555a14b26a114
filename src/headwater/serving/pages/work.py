"""What waits to be judged, and what somebody has judged."""

from __future__ import annotations

from sqlalchemy import func, select

from headwater.feedback.store import TABLES, Store
from headwater.serving.pages.persons import Person


def waiting(store: Store, person: Person | None) -> int | None:
    """Tasks that nobody, or this person, has judged yet."""
    task, judgement = TABLES["task"], TABLES["judgement"]
    judged = select(judgement.c.task_id).where(judgement.c.task_id.is_not(None))
    if person is not None:
        judged = judged.where(judgement.c.annotator_id == person.id)
    with store.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(task).where(task.c.id.not_in(judged))).scalar_one())


def judged(store: Store, person: Person | None) -> int:
    """Judgements of this person that stand."""
    if person is None:
        return 0
    table = TABLES["judgement"]
    corrected = select(table.c.supersedes).where(table.c.supersedes.is_not(None))
    query = select(func.count()).where(table.c.annotator_id == person.id, table.c.id.not_in(corrected))
    with store.reading() as connection:
        return int(connection.execute(query).scalar_one())
