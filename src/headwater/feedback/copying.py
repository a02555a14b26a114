"""A whole feedback store into another, row by row: ids, times and the diary stay, leases do not."""

from __future__ import annotations

from sqlalchemy import func, select

from headwater.feedback.database import writing
from headwater.feedback.schema import PASSING, Base
from headwater.feedback.store import Store

ROWS = 5_000
"""Rows that are held at once."""


def copy_store(source: Store, target: Store) -> None:
    """`target` must be empty; either may be SQLite or PostgreSQL."""
    with source.reading() as theirs, writing(target.engine) as ours:
        for table in Base.metadata.sorted_tables:
            if table.name in PASSING:
                continue
            found = theirs.execute(select(table).order_by(*table.primary_key)).mappings()
            for rows in found.partitions(ROWS):
                ours.execute(table.insert(), [dict(row) for row in rows])


def is_empty(store: Store) -> bool:
    """Whether nothing was ever written into it."""
    with store.reading() as connection:
        return not connection.execute(select(func.count()).select_from(Base.metadata.tables["event"])).scalar_one()


def last_word(store: Store) -> str:
    """The hash of the diary up to the newest judgement that somebody made here; empty where nobody did.

    Imports do not count: a stage brings them itself.
    """
    event = Base.metadata.tables["event"]
    with store.reading() as connection:
        newest = select(event.c.hash).where(event.c.kind == "judgement").order_by(event.c.sequence.desc()).limit(1)
        return connection.execute(newest).scalar() or ""
