"""The diary of a store: every insertion is an entry with the digest of its rows, chained by hash.

hash_n = SHA-256(canonical JSON of {sequence, kind, payload, made, previous: hash_{n-1}}); the first `previous` is 64
zeros. A bulk import is one entry over all its rows. So a row that was changed, removed or slipped in behind the store's
back is found by `problems`, and whoever has noted the last hash can tell that nothing before it was rewritten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select

from headwater.errors import UserError
from headwater.feedback.store.schema import EVENT, PASSING, TABLES, canonical

FIRST = "0" * 64

MUTABLE = {"task": {"priority", "wanted"}, "annotator": {"token_hash", "disabled"}}
"""Columns that may change later and are therefore left out of the digests."""

LATER = {"task": ("gold",), "judgement": ("shown", "edit_of")}
"""Columns that older stores did not have. They count only where they are set: so the digests of older rows stay."""


@cache
def recorded_columns(name: str) -> tuple[str, ...]:
    """The columns of a table that the diary always vouches for, in the order of the schema."""
    left_out = {*MUTABLE.get(name, ()), *LATER.get(name, ())}
    return tuple(column.name for column in TABLES[name].columns if column.name not in left_out)


def recorded(name: str, row: Mapping[str, Any] | RowMapping) -> list[Any]:
    """What the diary vouches for of a row of the table `name`; a column that is not in the row is NULL."""
    values = [row.get(column) for column in recorded_columns(name)]
    later = {column: row[column] for column in LATER.get(name, ()) if row.get(column) is not None}
    return [*values, later] if later else values


def digest(rows: Iterable[Iterable[Any]]) -> str:
    """SHA-256 over rows as `recorded` gives them, one line of canonical JSON each."""
    total = hashlib.sha256()
    for row in rows:
        total.update(canonical(tuple(row)).encode() + b"\n")
    return total.hexdigest()


def entry_hash(entry: Mapping[str, Any] | RowMapping) -> str:
    """The hash of one entry, which covers the hash of the one before."""
    covered = {name: entry[name] for name in ("sequence", "kind", "payload", "made", "previous")}
    return hashlib.sha256(canonical(covered).encode()).hexdigest()


def append(connection: Connection, kind: str, payload: dict[str, Any], made: int) -> None:
    """Adds an entry after checking the one that it stands on. Raises UserError where that one was tampered with."""
    last = connection.execute(select(EVENT).order_by(EVENT.c.sequence.desc()).limit(1)).mappings().first()
    if last is not None and entry_hash(last) != last["hash"]:
        raise UserError("The last entry of the store's diary was changed: restore a copy of the feedback store.")
    entry = {
        "sequence": last["sequence"] + 1 if last else 1,
        "kind": kind,
        "payload": payload,
        "made": made,
        "previous": last["hash"] if last else FIRST,
    }
    connection.execute(EVENT.insert(), {**entry, "hash": entry_hash(entry)})


def problems(connection: Connection) -> Iterator[str]:
    """One sentence per damage: broken links, rows that differ from the diary, rows that the diary does not know."""
    previous, expected = FIRST, 1
    known: dict[str, int] = {}
    for entry in connection.execute(select(EVENT).order_by(EVENT.c.sequence)).mappings().all():
        if entry["sequence"] != expected or entry["previous"] != previous or entry_hash(entry) != entry["hash"]:
            yield f"Entry {entry['sequence']} of the diary does not follow from the one before."
        previous, expected = entry["hash"], entry["sequence"] + 1
        payload = entry["payload"]
        table = TABLES.get(payload.get("table", ""))
        if table is None:
            continue
        known[table.name] = known.get(table.name, 0) + payload["rows"]
        query = select(table).where(table.c.id.between(payload["first"], payload["last"])).order_by(table.c.id)
        rows = connection.execute(query).mappings()
        if digest(recorded(table.name, row) for row in rows) != payload["digest"]:
            which = f"Rows {payload['first']} to {payload['last']} of `{table.name}`"
            yield f"{which} are not what entry {entry['sequence']} saw."
    for name, table in TABLES.items():
        count = connection.execute(select(func.count()).select_from(table)).scalar_one()
        if name not in ("event", *PASSING) and count != known.get(name, 0):
            yield f"`{name}` has {count} rows, but the diary knows {known.get(name, 0)}."
