"""Rankings of a policy's answers that people made without the pages: lines of a file into the store.

    {"annotator": "Ada", "task": 12, "ranking": [[31], [29, 30]]}

`ranking` holds groups of answers' ids, best first, those that tie together; ids and tasks are those of tasks.jsonl. An
optional `note` is kept. In a table (.csv) with columns of the same names a ranking is written as `31 > 29 = 30`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from headwater.errors import UserError
from headwater.feedback.annotator_names import is_simulated
from headwater.feedback.annotator_rows import find_or_add
from headwater.feedback.formats.records import Record, read_records, read_table
from headwater.feedback.judgements import Groups, Judgement, parse_ranking
from headwater.feedback.orders import has_order
from headwater.feedback.store import database
from headwater.feedback.store.schema import TASK
from headwater.feedback.store.store import Store

COLUMNS = ("annotator", "task", "ranking")
"""Of a table."""


@dataclass(frozen=True)
class Given:
    """One line of a file of rankings."""

    annotator: str
    task: int
    ranking: Groups
    note: str | None
    place: str


@dataclass(frozen=True)
class _Shown:
    """A task of the store."""

    prompt: int
    answers: frozenset[int]


def import_rankings(place: str, path: Path) -> str:
    """Brings all rankings of a file into the store and says what they were. Nothing is written where a line is bad.

    The same line again changes nothing; another order by the same person of the same task corrects the earlier one.
    Raises UserError, with file and line, where a line is bad or names a task or an answer that is not there.
    """
    if "://" not in place and not Path(place).is_file():
        raise UserError(f"There is no feedback store at {place}: `headwater run` makes it, with the answers to judge.")
    with Store(place) as store:
        tasks = _tasks(store)
        given = list(read_rankings(path, tasks))
        counted: Counter[str] = Counter()
        with store.writing() as writer:
            people = find_or_add(writer, (one.annotator for one in given))
        standing = _standing(store)
        for one in given:
            counted[_judge(store, one, tasks[one.task].prompt, people[one.annotator], standing)] += 1
    tied = sum(not has_order(one.ranking) for one in given)
    parts = [f"{counted['new']:,} new"]
    parts += [f"{counted['corrected']:,} that contradict an earlier one of the same person and take its place"] * bool(
        counted["corrected"]
    )
    parts += [f"{counted['known']:,} known already"] * bool(counted["known"])
    parts += [f"{tied:,} in which all answers tie, which teach nothing"] * bool(tied)
    return f"{len(given):,} rankings into {database.shown(place)}: {', '.join(parts)}."


def read_rankings(path: Path, tasks: dict[int, _Shown]) -> Iterator[Given]:
    """The lines of a file, checked against the tasks of the store."""
    for record, place in _lines(path):
        name, task, note = record.get("annotator"), record.get("task"), record.get("note")
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{place} does not say who judged: give a name as `annotator`.")
        if is_simulated(name):
            raise UserError(f"{place} is by `{name}`: what is simulated is not brought in as somebody's judgement.")
        if type(task) is not int or task not in tasks:
            raise UserError(
                f"{place} names the task {task!r}, which the store does not have: take it from tasks.jsonl."
            )
        if note is not None and not isinstance(note, str):
            raise UserError(f"{place} has a `note` that is no text: mend or remove it.")
        try:
            ranking = parse_ranking(record.get("ranking"), tasks[task].answers)
        except UserError as error:
            raise UserError(f"{place}: {error}") from None
        yield Given(name.strip(), task, ranking, note, place)


def is_of_tasks(path: Path) -> bool:
    """Whether a file speaks of tasks that are in the store, and does not bring prompts and answers of its own."""
    if path.suffix == ".csv":
        return next(((COLUMNS[1] in row and "prompt" not in row) for row, _ in read_table(path)), False)
    return next(
        (("task" in record and "ranking" in record and "prompt" not in record) for record, _ in read_records(path)),
        False,
    )


def _lines(path: Path) -> Iterator[tuple[Record, str]]:
    """A table's rows are as the lines of JSON would be."""
    if path.suffix != ".csv":
        yield from read_records(path)
        return
    for row, place in read_table(path, COLUMNS):
        task, note = row["task"].strip(), row.get("note", "").strip()
        ranking = _written(row["ranking"], place)
        number = int(task) if task.isdecimal() else task
        yield {"annotator": row["annotator"], "task": number, "ranking": ranking, "note": note or None}, place


def _written(text: str, place: str) -> Groups:
    """`31 > 29 = 30` as groups."""
    try:
        return [[int(one) for one in group.split("=")] for group in text.split(">")]
    except ValueError:
        raise UserError(f"{place} has the ranking `{text}`: write ids, best first, as in 31 > 29 = 30.") from None


def _tasks(store: Store) -> dict[int, _Shown]:
    with store.reading() as connection:
        rows = connection.execute(select(TASK).where(TASK.c.kind == "ranking")).mappings()
        return {row["id"]: _Shown(row["prompt_id"], frozenset(row["responses"])) for row in rows}


def _standing(store: Store) -> dict[tuple[int, int], tuple[int, Groups]]:
    """{(annotator, task): (id, ranking) of the judgement that stands}; no ranking where the person passed it over."""
    return {
        (row["annotator_id"], row["task_id"]): (row["id"], [sorted(group) for group in row["ranking"] or []])
        for row in store.judgements("ranking")
        if row["task_id"] is not None
    }


def _judge(
    store: Store, one: Given, prompt: int, annotator: int, standing: dict[tuple[int, int], tuple[int, Groups]]
) -> str:
    """Stores a line; "new", "known" or "corrected"."""
    ranking = [sorted(group) for group in one.ranking]
    before, said = standing.get((annotator, one.task), (None, None))
    if said == ranking:
        return "known"
    id_ = store.judge(
        Judgement(
            kind="ranking", client_id=f"file {annotator} {one.task} {before or 0}", annotator=annotator, prompt=prompt,
            task=one.task, ranking=ranking, note=one.note, supersedes=before,
        )
    )  # fmt: skip
    standing[annotator, one.task] = (id_, ranking)
    return "new" if before is None else "corrected"
