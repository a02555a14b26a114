"""People of a feedback store as the pages know them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select

from headwater.feedback.store import TABLES, Store


@dataclass(frozen=True)
class Person:
    """Somebody who judges."""

    id: int
    name: str
    role: str
    has_token: bool
    is_disabled: bool


def by_token(store: Store, token: str) -> Person | None:
    """Who holds this token; None where nobody does or they were disabled."""
    hashed = hashlib.sha256(token.encode()).hexdigest()
    person = _find(store, TABLES["annotator"].c.token_hash == hashed)
    return None if person is None or person.is_disabled else person


def by_name(store: Store, name: str) -> Person | None:
    """Who is called so."""
    return _find(store, TABLES["annotator"].c.name == name)


def _find(store: Store, condition: ColumnElement[bool]) -> Person | None:
    with store.reading() as connection:
        row = connection.execute(select(TABLES["annotator"]).where(condition)).mappings().first()
    if row is None:
        return None
    return Person(row["id"], row["name"], row["role"], row["token_hash"] is not None, row.get("disabled") is not None)
