"""Tasks that are not a policy's answers: gold questions, and prompts that people answer themselves."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from headwater.errors import UserError
from headwater.feedback.bringing import Asked, write_prompts
from headwater.feedback.checks import check_task
from headwater.feedback.judgements import parse_ranking
from headwater.feedback.prompts import read_prompts
from headwater.feedback.reader import TASK
from headwater.feedback.records import read_records
from headwater.feedback.store import Store


def add_gold_questions(store: Store, path: Path) -> int:
    """{"task", "ranking"} per line: a gold question with the answers of that task and this known order; returns how many.

    Raises UserError, with file and line, where a line is bad: nothing of the file is stored then.
    """
    rows = []
    with store.writing() as writer:
        found = writer.connection.execute(select(TASK).where(TASK.c.kind.in_(("ranking", "pair")))).mappings()
        tasks = {row["id"]: row for row in found}
        for record, place in read_records(path):
            task = tasks.get(record["task"]) if type(record.get("task")) is int else None
            if task is None:
                raise UserError(f"{place} names the task {record.get('task')!r}, which the store does not have.")
            try:
                gold = parse_ranking(record.get("ranking"), task["responses"])
                check_task(task["kind"], task["responses"], task["shown"], 1, gold)
            except UserError as error:
                raise UserError(f"{place}: {error}") from None
            row = {name: task[name] for name in ("kind", "prompt_id", "responses", "shown", "priority")}
            rows.append({**row, "wanted": 1, "gold": gold})
        return len(writer.insert("task", rows, "gold questions"))


def ask_for_demonstrations(store: Store, path: Path, wanted: int = 1) -> int:
    """A task of kind `demonstration` for every prompt of a file that has none yet; returns how many."""
    asked = [Asked(turns, "prompts", place, None) for turns, place in read_prompts(path)]
    with store.writing() as writer:
        prompts = dict.fromkeys(write_prompts(writer, asked).values())
        query = select(TASK.c.prompt_id).where(TASK.c.kind == "demonstration")
        known = set(writer.connection.execute(query).scalars())
        rows = [
            {
                "kind": "demonstration", "prompt_id": prompt, "responses": [], "shown": [], "priority": 0.0,
                "wanted": wanted,
            }
            for prompt in prompts
            if prompt not in known
        ]  # fmt: skip
        return len(writer.insert("task", rows, "prompts to be answered"))
