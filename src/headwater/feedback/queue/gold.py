"""Gold questions: tasks with a known order that everybody is asked and that nothing is learnt from.

A gold question is a copy of a task, so the task itself stays what it was. One that is taken back is asked no more and counts
no more for whoever answered it; what they said stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select

from headwater.errors import UserError
from headwater.feedback.judgements import Groups, parse_ranking
from headwater.feedback.queue.adjudication import Opinion, opinions
from headwater.feedback.queue.task_selection import task_row
from headwater.feedback.store import events
from headwater.feedback.store.checks import check_task
from headwater.feedback.store.reader import asked_gold, skipped, standing
from headwater.feedback.store.schema import JUDGEMENT, LEASE, PROMPT, RESPONSE, TASK
from headwater.feedback.store.store import Store

OFFERED = 200
"""Tasks that are offered to be made gold questions, at most."""


@dataclass(frozen=True)
class GoldQuestion:
    """One that is asked. `order`: numbers of the task's answers from 1 on, as `written` gives them."""

    task: int
    asked: str
    order: str
    answered: int


@dataclass(frozen=True)
class Candidate:
    """A task that a gold question can be made of; answers in the order of the task, which numbers them from 1 on."""

    task: int
    conversation: list[dict[str, str]]
    answers: dict[int, str]
    said: list[Opinion]

    @property
    def said_first(self) -> str:
        """What an adjudicator says of it, or whoever spoke first; empty where nobody did."""
        ranked = [each for each in self.said if each.ranking]
        best = next((each for each in ranked if each.role == "adjudicator"), ranked[0] if ranked else None)
        return "" if best is None or best.ranking is None else self.written(best.ranking)

    def written(self, ranking: Groups) -> str:
        """A ranking by the numbers of the answers."""
        return written(ranking, list(self.answers))


def gold_row(task: RowMapping, ranking: object) -> dict[str, Any]:
    """The row of a gold question with a task's answers. Raises UserError where the ranking is none of them."""
    gold = parse_ranking(ranking, task["responses"])
    check_task(task["kind"], task["responses"], task["shown"], 1, gold)
    row = {name: task[name] for name in ("kind", "prompt_id", "responses", "shown", "priority")}
    return {**row, "wanted": 1, "gold": gold}


def make_gold_question(store: Store, task: int, order: str) -> int:
    """The id of a new gold question with a task's answers. `order` by their numbers, best first: `2 > 1 = 3`.

    Raises UserError where there is no such task, where the order is none of its answers, or where it is one already.
    """
    with store.writing() as writer:
        row = task_row(writer.connection, task)
        same = select(TASK.c.id).where(
            asked_gold(), TASK.c.prompt_id == row["prompt_id"], TASK.c.responses == row["responses"]
        )
        if writer.connection.execute(same).first() is not None:
            raise UserError(f"Task {task} is a gold question already: take that one back first.")
        return writer.insert("task", [gold_row(row, read(order, row["responses"]))], "gold questions")[0]


def take_back_gold_question(store: Store, task: int) -> None:
    """From now on nobody is asked it. Raises UserError where it is no gold question, or was taken back before."""
    with store.writing() as writer:
        here = (TASK.c.id == task, asked_gold())
        if not writer.connection.execute(TASK.update().where(*here).values(wanted=0)).rowcount:
            raise UserError(f"Task {task} is no gold question that is asked: there is nothing to take back.")
        writer.connection.execute(LEASE.delete().where(LEASE.c.task_id == task))
        events.append(writer.connection, "gold question taken back", {"task": task}, writer.made)


def gold_questions(store: Store) -> list[GoldQuestion]:
    """Those that are asked, in the order they were made."""
    said = (
        select(JUDGEMENT.c.task_id, func.count(JUDGEMENT.c.annotator_id.distinct()).label("answered"))
        .where(standing(), ~skipped())
        .group_by(JUDGEMENT.c.task_id)
        .subquery()
    )
    query = (
        select(TASK.c.id, TASK.c.responses, TASK.c.gold, PROMPT.c.conversation, func.coalesce(said.c.answered, 0))
        .join(PROMPT, PROMPT.c.id == TASK.c.prompt_id)
        .outerjoin(said, said.c.task_id == TASK.c.id)
        .where(asked_gold())
        .order_by(TASK.c.id)
    )
    with store.reading() as connection:
        return [
            GoldQuestion(id_, conversation[-1]["content"], written(gold, responses), answered)
            for id_, responses, gold, conversation, answered in connection.execute(query)
        ]


def offered_tasks(store: Store) -> list[tuple[int, str]]:
    """(task, what is asked) of those that gold questions can be made of: judged ones first, then the latest."""
    judged = select(JUDGEMENT.c.task_id).where(JUDGEMENT.c.ranking.is_not(None), JUDGEMENT.c.task_id.is_not(None))
    query = (
        select(TASK.c.id, PROMPT.c.conversation)
        .join(PROMPT, PROMPT.c.id == TASK.c.prompt_id)
        .where(TASK.c.kind.in_(("ranking", "pair")), TASK.c.gold.is_(None))
        .order_by(TASK.c.id.in_(judged).desc(), TASK.c.id.desc())
        .limit(OFFERED)
    )
    with store.reading() as connection:
        return [(row.id, row.conversation[-1]["content"]) for row in connection.execute(query)]


def candidate(store: Store, task: int) -> Candidate:
    """A task with all that is needed to give its order. Raises UserError where it is none that can be ranked."""
    with store.reading() as connection:
        row = task_row(connection, task)
        if row["kind"] not in ("ranking", "pair") or row["gold"] is not None:
            raise UserError(f"Task {task} cannot be made a gold question: choose a task in which answers are compared.")
        conversation = connection.execute(
            select(PROMPT.c.conversation).where(PROMPT.c.id == row["prompt_id"])
        ).scalar_one()
        texts = _texts(connection, row["responses"])
    return Candidate(task, conversation, {id_: texts[id_] for id_ in row["responses"]}, opinions(store, task))


def _texts(connection: Connection, responses: Sequence[int]) -> dict[int, str]:
    found = connection.execute(select(RESPONSE.c.id, RESPONSE.c.text).where(RESPONSE.c.id.in_(responses)))
    return {row.id: row.text for row in found}


def written(ranking: Groups, responses: Sequence[int]) -> str:
    """[[31], [29, 30]] of the answers 29, 30, 31 → "3 > 1 = 2"."""
    number = {response: place for place, response in enumerate(responses, start=1)}
    return " > ".join(" = ".join(str(number[one]) for one in group) for group in ranking)


def read(order: str, responses: Sequence[int]) -> Groups:
    """The reverse of `written`, also with full-width signs. Raises UserError where it is no order of these answers."""
    plain = order.translate(str.maketrans("＞›》〉＝", ">>>>="))
    try:
        numbers = [[int(one) for one in group.split("=")] for group in re.split(">", plain)]
    except ValueError:
        numbers = []
    if not numbers or any(not 1 <= one <= len(responses) for group in numbers for one in group):
        raise UserError(
            f"`{order}` is no order of the answers 1 to {len(responses)}: write their numbers, best first, as in 2 > 1 = 3."
        )
    return [[responses[one - 1] for one in group] for group in numbers]
