"""Who judges: people with a role and a secret token, of which only the hash is kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, Row, func, select

from headwater.errors import UserError
from headwater.feedback.store import events
from headwater.feedback.store.reader import standing
from headwater.feedback.store.schema import ANNOTATOR, JUDGEMENT
from headwater.feedback.store.store import Store

PERSONAL = ("annotator", "adjudicator", "admin")
"""Roles of one known person each."""


@dataclass(frozen=True)
class Person:
    """An annotator. `judgements`: how many of theirs stand; `disabled`: they may not judge any more."""

    id: int
    name: str
    role: str
    disabled: bool = False
    judgements: int = 0


def add_person(store: Store, name: str, role: str = "annotator") -> tuple[int, str]:
    """(id, token) of a new person. The token is told here and never again."""
    name = name.strip()
    if not name:
        raise UserError("A person needs a name: give one.")
    if role not in PERSONAL:
        raise UserError(f"`{role}` is no role of a person: use one of {', '.join(PERSONAL)}.")
    token = secrets.token_urlsafe(24)
    return store.add_annotator(name, role, token), token


def renew_token(store: Store, name: str) -> str:
    """A new token for somebody who lost theirs; the old one is good for nothing from now on."""
    token = secrets.token_urlsafe(24)
    _change(store, name, "new token", token_hash=token_hash(token))
    return token


def disable(store: Store, name: str) -> None:
    """From now on this person may not judge; what they said stays."""
    _change(store, name, "annotator disabled", disabled=int(store.clock()))


def enable(store: Store, name: str) -> None:
    """This person may judge again."""
    _change(store, name, "annotator enabled", disabled=None)


def find_by_token(store: Store, token: str) -> Person | None:
    """Whose token this is; None where it is nobody's, or that of somebody who is disabled."""
    query = select(ANNOTATOR).where(ANNOTATOR.c.token_hash == token_hash(token), ANNOTATOR.c.disabled.is_(None))
    with store.reading() as connection:
        row = connection.execute(query).first()
    return None if row is None else Person(row.id, row.name, row.role)


def find_by_name(store: Store, name: str) -> Person | None:
    """Who is called so, where a name alone is enough: no token was given out for it, and it is a person who may judge."""
    open_ = (ANNOTATOR.c.role == "annotator", ANNOTATOR.c.token_hash.is_(None), ANNOTATOR.c.disabled.is_(None))
    with store.reading() as connection:
        row = connection.execute(select(ANNOTATOR).where(ANNOTATOR.c.name == name, *open_)).first()
    return None if row is None else Person(row.id, row.name, row.role)


def is_known(store: Store, name: str) -> bool:
    """Whether anybody is called so."""
    with store.reading() as connection:
        return connection.execute(select(ANNOTATOR.c.id).where(ANNOTATOR.c.name == name)).first() is not None


def people(store: Store) -> list[Person]:
    """All annotators, in the order they came: simulated ones and those that stand for many, too."""
    said = (
        select(JUDGEMENT.c.annotator_id, func.count().label("judgements"))
        .where(standing())
        .group_by(JUDGEMENT.c.annotator_id)
        .subquery()
    )
    query = (
        select(ANNOTATOR, func.coalesce(said.c.judgements, 0).label("judgements"))
        .outerjoin(said, said.c.annotator_id == ANNOTATOR.c.id)
        .order_by(ANNOTATOR.c.id)
    )
    with store.reading() as connection:
        return [
            Person(row.id, row.name, row.role, row.disabled is not None, row.judgements)
            for row in connection.execute(query)
        ]


def active(connection: Connection, annotator: int) -> Row[tuple[int, str, str]]:
    """The row (id, name, role) of somebody who may judge. Raises UserError for others."""
    query = select(ANNOTATOR.c.id, ANNOTATOR.c.name, ANNOTATOR.c.role, ANNOTATOR.c.disabled)
    row = connection.execute(query.where(ANNOTATOR.c.id == annotator)).first()
    if row is None:
        raise UserError(f"There is no annotator {annotator} in the feedback store: check the id.")
    if row.disabled is not None:
        raise UserError(f"{row.name} may not judge any more: an admin can change that.")
    if row.role == "anonymous":
        raise UserError(f"`{row.name}` stands for many people: a task goes to one, so add them by name.")
    return row  # type: ignore[return-value]


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _change(store: Store, name: str, event: str, **values: object) -> None:
    with store.writing() as writer:
        query = select(ANNOTATOR.c.id, ANNOTATOR.c.role).where(ANNOTATOR.c.name == name)
        row = writer.connection.execute(query).first()
        if row is None:
            raise UserError(f"There is no annotator `{name}` in {store.place}: check the name.")
        if row.role not in PERSONAL:
            raise UserError(f"`{name}` is of the role `{row.role}`, and no person with a token.")
        writer.connection.execute(ANNOTATOR.update().where(ANNOTATOR.c.id == row.id).values(**values))
        events.append(writer.connection, event, {"annotator": row.id}, writer.made)
