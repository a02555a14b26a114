"""What to judge next: tasks are handed out one at a time, each to as many people as are wanted, and never to one twice.

    queue = Queue(store)
    given = queue.next_task(ada)            # leased to Ada; the same again until she judges or skips it
    queue.judge(ada, given.task, "client id 1", Verdict(ranking=[[31], [29, 30]]))

A lease holds one of a task's places until it runs out; its owner renews it. What is judged after the lease ran out is kept
all the same. All of this is one writing transaction each, so that no two people ever get one place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from headwater.errors import UserError
from headwater.feedback.judgements import Judgement, Verdict
from headwater.feedback.people import active
from headwater.feedback.queue.assignments import Assignment, assignment, seen_order
from headwater.feedback.queue.task_selection import (
    gold_question,
    is_leased,
    lease,
    leased,
    open_task,
    task_row,
    to_settle,
)
from headwater.feedback.store.reader import standing
from headwater.feedback.store.schema import JUDGEMENT, LEASE, TASK
from headwater.feedback.store.store import Store

LEASE_SECONDS = 15 * 60
"""How long a task waits for who has it, without a sign of them."""

GOLD_SHARE = 0.1
"""Of what a person is given, the part that are gold questions, while there are any that they have not answered."""


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
            task = leased(connection, annotator)
            if task is None and role == "adjudicator":
                task = to_settle(connection)
            elif task is None:
                task = gold_question(connection, annotator, self.gold_share) or open_task(connection, annotator)
            if task is None:
                return None
            until = now + self.lease_seconds
            lease(connection, task["id"], annotator, until)
            return assignment(connection, task, annotator, until, role)

    def renew(self, annotator: int, task: int) -> int:
        """Holds a task for another while and returns until when. Raises UserError where the person's own lease is gone."""
        with self.store.writing() as writer:
            connection, now = writer.connection, int(self.store.clock())
            active(connection, annotator)
            if not is_leased(connection, annotator, task):
                raise UserError(f"Task {task} is no longer held for you: ask for the next one.")
            lease(connection, task, annotator, now + self.lease_seconds)
            return now + self.lease_seconds

    def judge(
        self, annotator: int, task: int, client_id: str, verdict: Verdict, *, supersedes: int | None = None
    ) -> int:
        """Stores what a person says of a task, durably, and returns its id; the same client id again: the first one's id.

        `supersedes`: the judgement of theirs that this one corrects. The order that they saw is stored with it. Raises
        AlreadyJudged where they judged the task before and this is no correction, UserError where it is not valid.
        """
        with self.store.writing() as writer:
            active(writer.connection, annotator)
            row = task_row(writer.connection, task)
            return writer.judge(
                Judgement(
                    kind=row["kind"], client_id=client_id, annotator=annotator, prompt=row["prompt_id"], task=task,
                    response=row["responses"][0] if row["kind"] == "rating" else None,
                    shown=seen_order(task, annotator, row["responses"]), supersedes=supersedes, **vars(verdict),
                )
            )  # fmt: skip

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
            return assignment(connection, task_row(connection, row["task_id"]), annotator, None, role), dict(row)

    def set_priorities(self, scores: Mapping[int, float]) -> None:
        """{task: score}: those with the highest come next, such as the reward model's uncertainty (`uncertainty.py`)."""
        if strange := [task for task, score in scores.items() if not math.isfinite(score)]:
            raise UserError(f"The priority of task {strange[0]} is {scores[strange[0]]}: give a finite number.")
        with self.store.writing() as writer:
            for task, score in scores.items():
                task_row(writer.connection, task)
                writer.connection.execute(TASK.update().where(TASK.c.id == task).values(priority=float(score)))

    def set_wanted(self, wanted: int) -> None:
        """How many people are to judge each task that is no gold question."""
        if wanted < 1:
            raise UserError(f"A task is to be judged by {wanted} people: give a number from 1 on.")
        with self.store.writing() as writer:
            writer.connection.execute(TASK.update().where(TASK.c.gold.is_(None)).values(wanted=wanted))
