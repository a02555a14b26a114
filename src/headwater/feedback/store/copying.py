"""A whole feedback store into another, row by row: ids, times and the diary stay, leases do not."""

from __future__ import annotations

from sqlalchemy import func, select

from headwater.feedback.ratings import LABELS, PEOPLE
from headwater.feedback.store.database import writing
from headwater.feedback.store.schema import EVENT, PASSING, Base
from headwater.feedback.store.store import Store

ROWS = 5_000
"""Rows that are held at once."""

SAID = ("judgement", "import of comparisons", "import of ratings", "import of demonstrations")
"""Kinds of the diary's entries that bring judgements."""

NO_TIME = 0
"""The time of imports and of simulated judgements: nobody made them at any, and equal runs make equal stores."""

NOT_HERE = (NO_TIME, PEOPLE.made, LABELS.made)
"""Times that only a stage gives to the judgements that it brings itself: nobody's, or those of published data."""


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
        return not connection.execute(select(func.count()).select_from(EVENT)).scalar_one()


def holds(store: Store, other: Store) -> bool:
    """Whether a store has all that is in the other, as one that was begun as its copy."""
    with other.reading() as connection:
        last = connection.execute(select(EVENT.c.hash).order_by(EVENT.c.sequence.desc()).limit(1)).scalar()
    with store.reading() as connection:
        return (
            last is None or connection.execute(select(EVENT.c.sequence).where(EVENT.c.hash == last)).first() is not None
        )


def last_word(store: Store) -> str:
    """The hash of the diary up to the newest judgement that somebody made or imported here; empty where nobody did.

    What a stage brings itself does not count: it would never be finished.
    """
    with store.reading() as connection:
        brought = EVENT.c.kind.in_(SAID) & ((EVENT.c.kind == SAID[0]) | EVENT.c.made.not_in(NOT_HERE))
        newest = select(EVENT.c.hash).where(brought).order_by(EVENT.c.sequence.desc()).limit(1)
        return connection.execute(newest).scalar() or ""
