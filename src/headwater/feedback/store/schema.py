"""The tables of the feedback store.

Everything that a person said is one row of `judgement`; what is computed from it (a ranking made of ratings) is a row
of `derived_ranking` and points back. Ids are given by the store, counting from 1 in the order of insertion, so that the
same imports make the same file. All but `task`, `annotator` and `lease` are append-only: triggers refuse UPDATE and
DELETE.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

KINDS = ("rating", "ranking", "pair", "demonstration")
"""What a judgement can be, and what a task can ask for."""

ROLES = ("annotator", "adjudicator", "admin", "anonymous", "simulated")
"""`anonymous` stands for many unknown people at once: no statistic per rater may be made of it. What an `adjudicator` says
of a task is what is learnt from it.
"""


ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(value: Any) -> str:
    """JSON with one spelling per value (sorted keys, no spaces), so that equal values have equal digests."""
    return ENCODER.encode(value)  # made once: json.dumps would build it anew for each of 300,000 rows


class CanonicalJson(TypeDecorator[Any]):
    """JSON kept as canonical text, alike in SQLite and PostgreSQL; None is NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else canonical(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else json.loads(value)


WHOLE = BigInteger().with_variant(Integer, "sqlite")
"""64 bits in both: SQLite's INTEGER has them, and only a primary key of that name is the row id itself."""


class Base(DeclarativeBase):
    """All tables; constraints have fixed names so that later migrations can find them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {str: Text, int: WHOLE, float: Double}


class Prompt(Base):
    """A conversation that waits for an answer. `split` is fixed, so that evaluation never leaks into training."""

    __tablename__ = "prompt"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    conversation: Mapped[Any] = mapped_column(CanonicalJson)  # [{"role": "user", "content": "…"}, …]
    source: Mapped[str]
    split: Mapped[str]

    __table_args__ = (Index(None, "split", "source"),)


class Response(Base):
    """An answer to a prompt. `model` is the hash of the model that wrote it, NULL where a person did."""

    __tablename__ = "response"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompt.id"), index=True)
    model: Mapped[str | None]
    sampling: Mapped[Any | None] = mapped_column(CanonicalJson)  # temperature, longest answer, …
    seed: Mapped[int | None]
    text: Mapped[str]
    origin: Mapped[str | None]  # its name in the data it was imported from


class Annotator(Base):
    """Who judges. Only the SHA-256 of a token is kept; simulated ones are named `simulated:…`."""

    __tablename__ = "annotator"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    token_hash: Mapped[str | None] = mapped_column(unique=True)
    disabled: Mapped[int | None]  # Unix seconds since when they judge no more

    __table_args__ = (CheckConstraint(f"role IN {ROLES}", name="role"),)


class Task(Base):
    """Something to judge: these responses of a prompt; a demonstration has none."""

    __tablename__ = "task"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompt.id"), index=True)
    responses: Mapped[Any] = mapped_column(CanonicalJson)  # ids
    shown: Mapped[Any] = mapped_column(CanonicalJson)  # the same ids, in the order for who judges without the queue
    priority: Mapped[float] = mapped_column(default=0.0)
    wanted: Mapped[int] = mapped_column(default=1, server_default="1")  # by how many people it is to be judged
    gold: Mapped[Any | None] = mapped_column(CanonicalJson)  # the known ranking of a gold question

    __table_args__ = (CheckConstraint(f"kind IN {KINDS}", name="kind"),)


class Lease(Base):
    """Who has a task before them, and until when. It ends by their judgement, or by time."""

    __tablename__ = "lease"

    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"), primary_key=True, autoincrement=False)
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"), primary_key=True, autoincrement=False)
    until: Mapped[int]  # Unix seconds


class JudgementRow(Base):
    """One act of judging, never changed: a correction is a new row that supersedes the old one.

    rating   `response_id` and `axes` ({"fluent": 3}) are set
    ranking  `ranking` is the ordered list of groups of response ids, best first: [[7], [3, 9], [1]]
    pair     `ranking` as above with two responses; `strength` says how much better
    demonstration  `edit` is an answer of the person's own
    """

    __tablename__ = "judgement"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompt.id"), index=True)
    task_id: Mapped[int | None] = mapped_column(ForeignKey("task.id"), index=True)
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotator.id"), index=True)
    response_id: Mapped[int | None] = mapped_column(ForeignKey("response.id"), index=True)
    ranking: Mapped[Any | None] = mapped_column(CanonicalJson)
    strength: Mapped[float | None]
    axes: Mapped[Any | None] = mapped_column(CanonicalJson)
    edit: Mapped[str | None]  # a text of the person's own: a better version of an answer, or a demonstration
    flags: Mapped[Any | None] = mapped_column(CanonicalJson)  # ["skip"], ["all-bad"], …
    note: Mapped[str | None]
    milliseconds: Mapped[int | None]
    client_id: Mapped[str] = mapped_column(unique=True)
    supersedes: Mapped[int | None] = mapped_column(ForeignKey("judgement.id"), unique=True)
    made: Mapped[int]  # Unix seconds
    shown: Mapped[Any | None] = mapped_column(CanonicalJson)  # ids in the order that the person saw; NULL: not known
    edit_of: Mapped[int | None] = mapped_column(ForeignKey("response.id"))  # the answer that `edit` betters

    __table_args__ = (CheckConstraint(f"kind IN {KINDS}", name="kind"),)


class DerivedRanking(Base):
    """A ranking computed from rating judgements. It is no person's ranking and is never counted as one."""

    __tablename__ = "derived_ranking"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompt.id"), index=True)
    ranking: Mapped[Any] = mapped_column(CanonicalJson)
    method: Mapped[str]
    settings: Mapped[Any] = mapped_column(CanonicalJson)
    judgements: Mapped[Any] = mapped_column(CanonicalJson)  # ids of the ratings it was made of


class Event(Base):
    """The diary: what was added, with the digest of the rows; each entry carries the hash of the one before."""

    __tablename__ = "event"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    payload: Mapped[Any] = mapped_column(CanonicalJson)
    made: Mapped[int]
    previous: Mapped[str]
    hash: Mapped[str]


APPEND_ONLY = ("prompt", "response", "judgement", "derived_ranking", "event")
"""Tables whose rows are never changed or removed."""

PASSING = ("lease",)
"""Tables that say nothing that lasts: the diary does not know them and a copy leaves them out."""

TABLES: Mapping[str, Table] = Base.metadata.tables
"""{name: table}; the classes above describe them, queries are made of these."""

PROMPT, RESPONSE, ANNOTATOR, TASK, LEASE, JUDGEMENT, DERIVED, EVENT = (
    TABLES[name]
    for name in ("prompt", "response", "annotator", "task", "lease", "judgement", "derived_ranking", "event")
)
