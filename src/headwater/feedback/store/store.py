"""The feedback store: prompts, answers, tasks, people, and every judgement that was ever made.

    with Store("feedback.db") as store:
        prompt = store.add_prompt([{"role": "user", "content": "Write a line."}], source="mine", split="train")
        good, bad = (store.add_response(prompt, text) for text in ("A line.", "No."))
        me = store.add_annotator("Ada")
        store.judge(Judgement(kind="ranking", client_id="1", annotator=me, prompt=prompt, ranking=[[good], [bad]]))

A call that returned is on the disk. Nothing is ever changed; a correction is a new judgement that supersedes the old.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, Table, and_, func, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from headwater.errors import UserError
from headwater.feedback.annotator_names import is_simulated
from headwater.feedback.judgements import Groups, Judgement, check
from headwater.feedback.store import checks, database, events, reader
from headwater.feedback.store.reader import MeanRating, Ranking
from headwater.feedback.store.schema import LEASE, ROLES, TABLES

Conversation = Sequence[Mapping[str, str]]

STORE = "feedback.db"
"""In the folder of a run's stage `feedback`: the store that the run learns from."""


class Writer:
    """Adds rows within one transaction; each call is one entry of the diary, however many rows it has."""

    def __init__(self, connection: Connection, made: int) -> None:
        self.connection = connection
        self.made = made

    def insert(self, name: str, rows: Sequence[dict[str, Any]], event: str) -> range:
        """Adds rows to the table `name`, gives them the next ids and returns these; judgements get their time."""
        table = TABLES[name]
        first = self.next_id(table)
        ids = range(first, first + len(rows))
        if not rows:
            return ids
        complete = [{**row, "id": id_} for id_, row in zip(ids, rows, strict=True)]
        if name == "judgement":
            for row in complete:
                row["made"] = self.made
        self.connection.execute(table.insert(), complete)
        recorded = (events.recorded(name, row) for row in complete)
        payload = {"table": name, "first": ids[0], "last": ids[-1], "rows": len(ids)}
        events.append(self.connection, event, {**payload, "digest": events.digest(recorded)}, self.made)
        return ids

    def judge(self, judgement: Judgement) -> int:
        """As `Store.judge`, within this transaction. The lease of who judged ends."""
        if (earlier := checks.sent_before(self.connection, judgement)) is not None:
            return earlier
        check(judgement, checks.may_be_judged(self.connection, judgement))
        checks.check_correction(self.connection, judgement)
        row = {**judgement.meaning(), "client_id": judgement.client_id, "milliseconds": judgement.milliseconds}
        id_ = self.insert("judgement", [{**row, "shown": judgement.shown}], "judgement")[0]
        own = and_(LEASE.c.task_id == judgement.task, LEASE.c.annotator_id == judgement.annotator)
        self.connection.execute(LEASE.delete().where(own))
        return id_

    def next_id(self, table: Table) -> int:
        highest: int | None = self.connection.execute(select(func.max(table.c.id))).scalar()
        return (highest or 0) + 1


class Store:
    """A feedback store in a file (SQLite) or a PostgreSQL database. One object may serve many threads.

    `read_only`: opens a finished file without changing a byte. `clock` gives Unix seconds; imports pass their own time.
    Raises UserError where the place cannot be opened.
    """

    def __init__(self, place: str | Path, *, read_only: bool = False, clock: Callable[[], float] = time.time) -> None:
        self.place = database.shown(place)
        self.clock = clock
        self.engine = database.connect(place, read_only=read_only)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.engine.dispose()

    def seal(self) -> None:
        """Makes the one file the whole store (no -wal beside it) and closes it."""
        database.seal(self.engine)
        self.close()

    @contextmanager
    def writing(self, made: int | None = None) -> Iterator[Writer]:
        """One durable transaction. `made`: Unix seconds written into the rows; absent: now."""
        try:
            with database.writing(self.engine) as connection:
                yield Writer(connection, int(self.clock()) if made is None else made)
        except IntegrityError:
            raise
        except DBAPIError as error:
            why = database.reason(error)
            raise UserError(f"Nothing was written to {self.place} ({why}): {database.mend(error)}") from None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One transaction that sees one state of the store, whoever writes meanwhile."""
        try:
            with database.reading(self.engine) as connection:
                yield connection
        except DBAPIError as error:
            why = database.reason(error)
            raise UserError(f"The feedback store {self.place} cannot be read ({why}): {database.mend(error)}") from None

    # What is judged, and by whom

    def add_prompt(self, conversation: Conversation, *, source: str, split: str) -> int:
        """The id of a new prompt; `split` can never be changed."""
        turns = [dict(turn) for turn in conversation]
        if not turns or any(set(turn) != {"role", "content"} for turn in turns):
            raise UserError('A conversation is a list of turns, each {"role": …, "content": …}: this one is not.')
        with self.writing() as writer:
            return writer.insert("prompt", [{"conversation": turns, "source": source, "split": split}], "prompt")[0]

    def add_response(
        self,
        prompt: int,
        text: str,
        *,
        model: str | None = None,
        sampling: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> int:
        """The id of a new answer; `model` is the hash of the model that wrote it, absent for a person's."""
        row = {"prompt_id": prompt, "text": text, "model": model, "sampling": sampling, "seed": seed}
        with self.writing() as writer:
            checks.need(writer.connection, "prompt", prompt)
            return writer.insert("response", [row], "response")[0]

    def add_annotator(self, name: str, role: str = "annotator", token: str | None = None) -> int:
        """The id of a new annotator. Of the token only the SHA-256 is kept. Simulated ones are named `simulated:…`."""
        if role not in ROLES:
            raise UserError(f"`{role}` is no role: use one of {', '.join(ROLES)}.")
        if (role == "simulated") != is_simulated(name):
            raise UserError(f"`{name}` has role `{role}`: simulated annotators, and only they, are named simulated:….")
        hashed = hashlib.sha256(token.encode()).hexdigest() if token else None
        try:
            with self.writing() as writer:
                return writer.insert("annotator", [{"name": name, "role": role, "token_hash": hashed}], "annotator")[0]
        except IntegrityError:
            raise UserError(f"There is an annotator `{name}` or one with this token already: choose another.") from None

    def add_task(
        self,
        kind: str,
        prompt: int,
        responses: Sequence[int],
        *,
        shown: Sequence[int],
        priority: float = 0.0,
        wanted: int = 1,
        gold: Groups | None = None,
    ) -> int:
        """The id of a new task: judge `responses`, shown in the order `shown`; for a demonstration both are empty.

        wanted  how many people are to judge it
        gold    the known ranking, where it is a question to test who judges: everybody is asked, nothing is learnt from it
        """
        checks.check_task(kind, responses, shown, wanted, gold)
        row = {
            "kind": kind, "prompt_id": prompt, "responses": list(responses), "shown": list(shown), "priority": priority,
            "wanted": wanted, "gold": gold,
        }  # fmt: skip
        with self.writing() as writer:
            checks.need(writer.connection, "prompt", prompt)
            strange = set(responses) - checks.responses_of(writer.connection, prompt)
            if strange:
                raise UserError(f"Response {min(strange)} is no answer to prompt {prompt}: a task has one prompt.")
            return writer.insert("task", [row], "task")[0]

    # What they said

    def judge(self, judgement: Judgement) -> int:
        """Stores a judgement durably and returns its id; the same client id again returns the first one's id.

        Raises AlreadyJudged where the same person judged this before and it is no correction of that, UserError where it is not
        valid, corrects what it may not, or its client id stands for something else.
        """
        with self.writing() as writer:
            return writer.judge(judgement)

    def judgements(self, kind: str | None = None, *, superseded: bool = False) -> list[dict[str, Any]]:
        """All judgements in the order they were made; those that were corrected only where `superseded`."""
        with self.reading() as connection:
            return reader.judgements(connection, kind, superseded)

    # What is learnt from it

    def rankings(self, split: str, source: str | None = None) -> Iterator[Ranking]:
        """The rankings of a split: derived ones (`derived` is true), then people's rankings and pairs."""
        with self.reading() as connection:
            yield from reader.rankings(connection, split, source)

    def mean_ratings(
        self, split: str | None = None, source: str | None = None, axis: str | None = None
    ) -> list[MeanRating]:
        """Every rated answer, by response id, with the mean of its ratings."""
        with self.reading() as connection:
            return reader.mean_ratings(connection, split, source, axis)

    def counts(self) -> dict[str, int]:
        """Rows per table; derived rankings stand apart from judgements."""
        with self.reading() as connection:
            return {
                name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for name, table in sorted(TABLES.items())
            }

    def problems(self) -> list[str]:
        """Checks every row against the diary; one sentence per damage, none where all is as it was written."""
        with self.reading() as connection:
            return list(events.problems(connection))
