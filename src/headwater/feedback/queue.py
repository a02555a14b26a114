"""What to judge next: tasks are handed out one at a time, each to as many people as are wanted, and never to one twice.

    queue = Queue(store)
    given = queue.next_task(ada)            # leased to Ada; the same again until she judges or skips it
    queue.judge(ada, given.task, "client id 1", ranking=[[31], [29, 30]])

A lease holds one of a task's places until it runs out; its owner renews it. What is judged after the lease ran out is kept
all the same. All of this is one writing transaction each, so that no two people ever get one place.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, and_, func, not_, select

from headwater.corpus.shares import hash_fraction
from headwater.errors import UserError
from headwater.feedback.adjudication import contradictory_tasks
from headwater.feedback.judgements import SKIP, Groups, Judgement
from headwater.feedback.people import active
from headwater.feedback.reader import ANNOTATOR, JUDGEMENT, PROMPT, RESPONSE, TASK, settling, skipped, standing
from headwater.feedback.store import TABLES, Store

LEASE = TABLES["lease"]

LEASE_SECONDS = 15 * 60
"""How long a task waits for who has it, without a sign of them."""

GOLD_SHARE = 0.1
"""Of what a person is given, the part that are gold questions, while there are any that they have not answered."""


class Answer(NamedTuple):
    """An answer as it is shown: who wrote it is not told."""

    id: int
    text: str


@dataclass(frozen=True)
class Assignment:
    """A task for one person; `answers` in the order that they see, which is theirs alone and always the same.

    until        Unix seconds at which the lease runs out; None where the task is theirs no more but for a correction
    adjudicates  others contradict each other here, and this person's word will settle it
    """

    task: int
    kind: str
    prompt: int
    conversation: list[dict[str, str]]
    answers: list[Answer]
    until: int | None = None
    adjudicates: bool = False


class Queue:
    """The queue of a store."""

    def __init__(self, store: Store, *, lease_seconds: int = LEASE_SECONDS, gold_share: float = GOLD_SHARE) -> None:
        self.store = store
        self.lease_seconds = lease_seconds
        self.gold_share = gold_share

    def next_task(self, annotator: int) -> Assignment | None:
        """What this person does next, leased to them; None where nothing waits for them.

        First what they have before them already; else a gold question now and then; else the open task of the highest
        priority that they neither judged nor skipped. An adjudicator gets the tasks whose judgements contradict, only.
        Raises UserError for somebody who may not judge.
        """
        with self.store.writing() as writer:
            connection, now = writer.connection, int(self.store.clock())
            role = active(connection, annotator).role
            connection.execute(LEASE.delete().where(LEASE.c.until < now))
            task = _leased(connection, annotator)
            if task is None and role == "adjudicator":
                task = _to_settle(connection)
            elif task is None:
                task = self._gold(connection, annotator) or _open(connection, annotator)
            if task is None:
                return None
            return _assignment(connection, task, annotator, self._lease(connection, task, annotator, now), role)

    def renew(self, annotator: int, task: int) -> int:
        """Holds a task for another while and returns until when. Raises UserError where the person's own lease is gone."""
        with self.store.writing() as writer:
            connection, now = writer.connection, int(self.store.clock())
            active(connection, annotator)
            if not _is_leased(connection, annotator, task):
                raise UserError(f"Task {task} is no longer held for you: ask for the next one.")
            return self._lease(connection, task, annotator, now)

    def judge(
        self,
        annotator: int,
        task: int,
        client_id: str,
        *,
        ranking: Groups | None = None,
        strength: float | None = None,
        axes: dict[str, float] | None = None,
        edit: str | None = None,
        edit_of: int | None = None,
        flags: Sequence[str] = (),
        note: str | None = None,
        milliseconds: int | None = None,
        supersedes: int | None = None,
    ) -> int:
        """Stores what a person says of a task, durably, and returns its id; the same client id again: the first one's id.

        `supersedes`: the judgement of theirs that this one corrects. The order that they saw is stored with it. Raises
        UserError where it is not valid, or where they judged the task already and it is no correction.
        """
        with self.store.writing() as writer:
            active(writer.connection, annotator)
            row = _task(writer.connection, task)
            return writer.judge(
                Judgement(
                    kind=row["kind"], client_id=client_id, annotator=annotator, prompt=row["prompt_id"], task=task,
                    response=row["responses"][0] if row["kind"] == "rating" else None, ranking=ranking,
                    strength=strength, axes=axes, edit=edit, edit_of=edit_of, flags=list(flags), note=note,
                    shown=seen_order(task, annotator, row["responses"]), milliseconds=milliseconds,
                    supersedes=supersedes,
                )
            )  # fmt: skip

    def skip(self, annotator: int, task: int, client_id: str, *, note: str | None = None) -> int:
        """Passes a task over: it does not come again to this person, and its place is free for another."""
        return self.judge(annotator, task, client_id, flags=[SKIP], note=note)

    def last_judged(self, annotator: int, before: int | None = None) -> tuple[Assignment, dict[str, Any]] | None:
        """What "undo" shows: this person's newest judgement or skip of a task (`before`: the newest older than that one),
        with the task as they saw it. The judgement stands until `judge(…, supersedes=its id)` corrects it.
        """
        said = select(JUDGEMENT).where(
            JUDGEMENT.c.annotator_id == annotator, JUDGEMENT.c.task_id.is_not(None), standing()
        )
        if before is not None:
            said = said.where(JUDGEMENT.c.id < before)
        with self.store.reading() as connection:
            row = connection.execute(said.order_by(JUDGEMENT.c.id.desc()).limit(1)).mappings().first()
            if row is None:
                return None
            role = active(connection, annotator).role
            return _assignment(connection, _task(connection, row["task_id"]), annotator, None, role), dict(row)

    def set_priorities(self, scores: Mapping[int, float]) -> None:
        """{task: score}: those with the highest come next, such as the reward model's uncertainty (`uncertainty.py`)."""
        if strange := [task for task, score in scores.items() if not math.isfinite(score)]:
            raise UserError(f"The priority of task {strange[0]} is {scores[strange[0]]}: give a finite number.")
        with self.store.writing() as writer:
            for task, score in scores.items():
                _task(writer.connection, task)
                writer.connection.execute(TASK.update().where(TASK.c.id == task).values(priority=float(score)))

    def set_wanted(self, wanted: int, tasks: Iterable[int] | None = None) -> None:
        """How many people are to judge each of these tasks; absent: each of all."""
        if wanted < 1:
            raise UserError(f"A task is to be judged by {wanted} people: give a number from 1 on.")
        with self.store.writing() as writer:
            if tasks is None:
                writer.connection.execute(TASK.update().values(wanted=wanted))
            for task in tasks or ():
                _task(writer.connection, task)
                writer.connection.execute(TASK.update().where(TASK.c.id == task).values(wanted=wanted))

    def _gold(self, connection: Connection, annotator: int) -> RowMapping | None:
        """A gold question, where it is time for one: in an order and at moments of the person's own."""
        made = select(func.count()).where(JUDGEMENT.c.annotator_id == annotator, JUDGEMENT.c.task_id.is_not(None))
        count = connection.execute(made).scalar_one()
        if hash_fraction("gold questions", f"{annotator} {count}") >= self.gold_share:
            return None
        left = select(TASK).where(TASK.c.gold.is_not(None), TASK.c.id.not_in(_judged_by(annotator)))
        found = connection.execute(left).mappings().all()
        return min(found, key=lambda row: _chance(f"{annotator} {row['id']}"), default=None)

    def _lease(self, connection: Connection, task: RowMapping | int, annotator: int, now: int) -> int:
        id_, until = task if isinstance(task, int) else task["id"], now + self.lease_seconds
        own = and_(LEASE.c.task_id == id_, LEASE.c.annotator_id == annotator)
        if not connection.execute(LEASE.update().where(own).values(until=until)).rowcount:
            connection.execute(LEASE.insert(), {"task_id": id_, "annotator_id": annotator, "until": until})
        return until


def is_to_be_judged(store: Store, annotator: int, response: int) -> bool:
    """Whether an answer is in a task of which this person has said nothing: who wrote it may not be told to them yet."""
    said = select(JUDGEMENT.c.task_id).where(
        JUDGEMENT.c.annotator_id == annotator, JUDGEMENT.c.task_id.is_not(None), not_(skipped())
    )
    tasks = (
        select(TASK.c.responses)
        .join(RESPONSE, RESPONSE.c.prompt_id == TASK.c.prompt_id)
        .where(RESPONSE.c.id == response, TASK.c.id.not_in(said))
    )
    with store.reading() as connection:
        return any(response in responses for responses in connection.execute(tasks).scalars())


def seen_order(task: int, annotator: int, responses: Sequence[int]) -> list[int]:
    """The order in which this person sees these answers: by hash, so as good as shuffled and the same for ever."""
    return sorted(responses, key=lambda response: _chance(f"{task} {annotator} {response}"))


def _chance(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _judged_by(annotator: int) -> Any:
    """Ids of the tasks that a person judged or skipped."""
    return select(JUDGEMENT.c.task_id).where(JUDGEMENT.c.annotator_id == annotator, JUDGEMENT.c.task_id.is_not(None))


def _task(connection: Connection, task: int) -> RowMapping:
    row = connection.execute(select(TASK).where(TASK.c.id == task)).mappings().first()
    if row is None:
        raise UserError(f"There is no task {task} in the feedback store: check the id.")
    return row


def _is_leased(connection: Connection, annotator: int, task: int) -> bool:
    """Even where it ran out: the row goes when the next task is handed out, and with it the claim."""
    own = select(LEASE).where(LEASE.c.task_id == task, LEASE.c.annotator_id == annotator)
    return connection.execute(own).first() is not None


def _leased(connection: Connection, annotator: int) -> RowMapping | None:
    """What a person has before them."""
    own = (
        select(TASK)
        .join(LEASE, LEASE.c.task_id == TASK.c.id)
        .where(LEASE.c.annotator_id == annotator, TASK.c.id.not_in(_judged_by(annotator)))
        .order_by(LEASE.c.until, TASK.c.id)
    )
    return connection.execute(own).mappings().first()


def taken() -> Any:
    """(task, places): by how many people each task is judged. Skips and adjudicators take no place."""
    return (
        select(JUDGEMENT.c.task_id, func.count(JUDGEMENT.c.annotator_id.distinct()).label("places"))
        .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
        .where(JUDGEMENT.c.task_id.is_not(None), standing(), not_(skipped()), ANNOTATOR.c.role != "adjudicator")
        .group_by(JUDGEMENT.c.task_id)
        .subquery()
    )


def _open(connection: Connection, annotator: int) -> RowMapping | None:
    """The task of the highest priority that has a place left and that this person did not judge or skip."""
    judged = taken()
    held = (
        select(LEASE.c.task_id, func.count().label("places"))
        .join(ANNOTATOR, ANNOTATOR.c.id == LEASE.c.annotator_id)
        .where(ANNOTATOR.c.role != "adjudicator")
        .group_by(LEASE.c.task_id)
        .subquery()
    )
    query = (
        select(TASK)
        .outerjoin(judged, judged.c.task_id == TASK.c.id)
        .outerjoin(held, held.c.task_id == TASK.c.id)
        .where(
            TASK.c.gold.is_(None),
            func.coalesce(judged.c.places, 0) + func.coalesce(held.c.places, 0) < TASK.c.wanted,
            TASK.c.id.not_in(_judged_by(annotator)),
            TASK.c.id.not_in(select(settling().subquery().c.task_id)),
        )
        .order_by(TASK.c.priority.desc(), TASK.c.id)
        .limit(1)
    )
    return connection.execute(query).mappings().first()


def _to_settle(connection: Connection) -> RowMapping | None:
    """The contradictory task of the highest priority that no adjudicator has, settled or skipped."""
    found = [(-priority, task) for task, priority in _unsettled(connection, contradictory_tasks(connection))]
    return _task(connection, min(found)[1]) if found else None


def _unsettled(
    connection: Connection, contradictory: Sequence[tuple[int, float]], annotator: int | None = None
) -> list[tuple[int, float]]:
    """Of contradictory tasks those that no adjudicator has, settled or skipped; and what `annotator` has before them."""
    role = ANNOTATOR.c.role == "adjudicator"
    held = select(LEASE.c.task_id).join(ANNOTATOR, ANNOTATOR.c.id == LEASE.c.annotator_id).where(role)
    if annotator is not None:
        held = held.where(LEASE.c.annotator_id != annotator)
    said = (
        select(JUDGEMENT.c.task_id)
        .join(ANNOTATOR, ANNOTATOR.c.id == JUDGEMENT.c.annotator_id)
        .where(role, JUDGEMENT.c.task_id.is_not(None))
    )
    busy = {*connection.execute(held).scalars(), *connection.execute(said).scalars()}
    return [each for each in contradictory if each[0] not in busy]


def _assignment(connection: Connection, task: RowMapping, annotator: int, until: int | None, role: str) -> Assignment:
    conversation = connection.execute(
        select(PROMPT.c.conversation).where(PROMPT.c.id == task["prompt_id"])
    ).scalar_one()
    order = seen_order(task["id"], annotator, task["responses"])
    found = connection.execute(select(RESPONSE.c.id, RESPONSE.c.text).where(RESPONSE.c.id.in_(order)))
    texts: dict[int, str] = {row.id: row.text for row in found}
    answers = [Answer(id_, texts[id_]) for id_ in order]
    return Assignment(
        task["id"], task["kind"], task["prompt_id"], conversation, answers, until, adjudicates=role == "adjudicator"
    )


@dataclass(frozen=True)
class Progress:
    """How far the judging is, without gold questions.

    tasks, wanted   tasks, and judgements that are wanted of them together
    judged          of those that are wanted, how many there are
    finished        tasks that have all that are wanted, or that an adjudicator settled
    contradictory   tasks that wait for an adjudicator; not counted for a person who is none, as it takes a while: 0
    own, own_skipped, own_left  of one person: judged, skipped, and waiting for them (gold questions are among the judged)
    adjudicates     whether that person is an adjudicator: contradictory tasks are all that waits for them
    """

    tasks: int
    wanted: int
    judged: int
    finished: int
    contradictory: int
    own: int = 0
    own_skipped: int = 0
    own_left: int = 0
    adjudicates: bool = False


def progress(store: Store, annotator: int | None = None) -> Progress:
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
        whole = Progress(
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
        passed = connection.execute(select(JUDGEMENT.c.task_id).where(own, skipped())).scalars().all()
        if adjudicates:
            contradictory = contradictory_tasks(connection)
            whole = replace(whole, contradictory=len(contradictory))
            left = {task for task, _ in _unsettled(connection, contradictory, annotator)}
        else:
            left = {row.id for row in rows} - closed - set(said) - set(passed)
    return replace(whole, own=len(said), own_skipped=len(passed), own_left=len(left), adjudicates=adjudicates)
