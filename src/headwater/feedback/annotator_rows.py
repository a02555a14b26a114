"""Who judged, as files name them, in the feedback store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select

from headwater.feedback.comparisons import Comparison, Conversation, Rated
from headwater.feedback.ratings import anonymous_rater
from headwater.feedback.schema import TABLES
from headwater.feedback.store import Writer


def annotators(writer: Writer, those: Iterable[Comparison | Rated | Conversation]) -> dict[str | None, int]:
    """{name: id}; who is not known is the store's row for all unknown raters."""
    table = TABLES["annotator"]
    people: dict[str | None, int] = {None: anonymous_rater(writer)}
    people |= {row.name: row.id for row in writer.connection.execute(select(table.c.name, table.c.id))}
    names = sorted({each.annotator for each in those if each.annotator is not None} - people.keys())
    rows: list[dict[str, Any]] = [
        {"name": name, "role": "simulated" if name.startswith("simulated:") else "annotator"} for name in names
    ]
    return people | dict(zip(names, writer.insert("annotator", rows, "import of annotators"), strict=True))
