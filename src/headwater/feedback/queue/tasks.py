"""Tasks that are not a policy's answers: gold questions, and prompts that people answer themselves."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from headwater.errors import UserError
from headwater.feedback.formats.prompts import read_prompts
from headwater.feedback.formats.records import read_records
from headwater.feedback.prompt_rows import NewPrompt, write_prompts
from headwater.feedback.queue.gold import gold_row
from headwater.feedback.store.schema import TASK
from headwater.feedback.store.store import Store


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
                rows.append(gold_row(task, record.get("ranking")))
            except UserError as error:
                raise UserError(f"{place}: {error}") from None
        return len(writer.insert("task", rows, "gold questions"))


def ask_for_demonstrations(store: Store, path: Path, wanted: int = 1) -> int:
    """A task of kind `demonstration` for every prompt of a file that has none yet; returns how many."""
    asked = [NewPrompt(turns, "prompts", place, None) for turns, place in read_prompts(path)]
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
