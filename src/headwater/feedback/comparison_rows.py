"""Comparisons of others into the feedback store: answers, tasks that people share, judgements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from headwater.feedback.annotator_names import is_simulated
from headwater.feedback.annotator_rows import annotators
from headwater.feedback.comparisons import Comparison, Turn
from headwater.feedback.duplicates import new_comparisons
from headwater.feedback.prompt_rows import NewPrompt, write_prompts
from headwater.feedback.store.reader import standing
from headwater.feedback.store.schema import JUDGEMENT, RESPONSE, TASK
from headwater.feedback.store.store import Writer


def write_comparisons(writer: Writer, comparisons: Sequence[Comparison]) -> int:
    """Adds those that are new and returns how many. What known people compared is one task of theirs, whatever order and
    file it stands in; another ranking of it by the same person corrects the earlier one.
    """
    new = new_comparisons(writer.connection, comparisons)
    people = annotators(writer, new.values())
    prompts = write_prompts(
        writer, [NewPrompt(each.prompt, each.source, each.place, each.split) for each in new.values()]
    )
    sets: dict[Hashable, list[Comparison]] = {}
    key_of: dict[str, Hashable] = {}
    for name, each in new.items():
        # What unknown people said is kept apart: nobody can tell whether it was one of them or many.
        known = each.annotator is not None
        key_of[name] = _set_key(prompts[each.source, each.prompt], each.answers, each.writers) if known else name
        sets.setdefault(key_of[name], []).append(each)
    tasks = _tasks(writer, sets)
    own = {key: ids for key, (_, ids) in tasks.items()} | _write_answers(
        writer, prompts, {key: those[0] for key, those in sets.items() if key not in tasks}
    )
    shared = [key for key, those in sets.items() if key not in tasks and _is_task(those)]
    rows = [_task_row(prompts[sets[key][0].source, sets[key][0].prompt], own[key], sets[key]) for key in shared]
    task_of: dict[Hashable, int] = {key: task for key, (task, _) in tasks.items()}
    task_of |= dict(zip(shared, writer.insert("task", rows, "import of tasks"), strict=True))
    standing_of = _standing(writer, {task for task, _ in tasks.values()})
    judgements = []
    for id_, (name, each) in enumerate(new.items(), start=writer.next_id(JUDGEMENT)):
        key, annotator = key_of[name], people[each.annotator]
        places = _in_order(each.answers, each.writers)
        answer = dict(zip(places, own[key], strict=True))
        row = {
            "kind": _kind(each), "prompt_id": prompts[each.source, each.prompt], "annotator_id": annotator,
            "ranking": [[answer[place] for place in group] for group in each.groups()], "client_id": name,
            "task_id": task_of.get(key), "strength": each.strength, "supersedes": None,
        }  # fmt: skip
        if key in task_of:
            row["supersedes"] = standing_of.get((annotator, task_of[key]))
            standing_of[annotator, task_of[key]] = id_
        judgements.append(row)
    writer.insert("judgement", judgements, "import of comparisons")
    _want(writer, {task for task, _ in tasks.values()}, standing_of)
    return len(judgements)


def _in_order(answers: Sequence[str], writers: Sequence[str | None]) -> list[int]:
    """Places of answers in the one order that does not depend on how they stand in a file."""
    return sorted(range(len(answers)), key=lambda place: (answers[place], writers[place] or ""))


def _set_key(prompt: int, answers: Sequence[str], writers: Sequence[str | None]) -> Hashable:
    """Equal for the same answers to a prompt, in whatever order."""
    return prompt, tuple((answers[place], writers[place]) for place in _in_order(answers, writers))


def _write_answers(
    writer: Writer, prompts: Mapping[tuple[str, tuple[Turn, ...]], int], firsts: Mapping[Hashable, Comparison]
) -> dict[Hashable, list[int]]:
    """{key: ids of the answers of its comparison, as `_in_order` has them}"""
    rows = [
        {"prompt_id": prompts[each.source, each.prompt], "text": text, "model": model, "origin": each.place}
        for each in firsts.values()
        for text, model in zip(each.answers, each.writers, strict=True)
    ]
    ids = iter(writer.insert("response", rows, "import of answers"))
    own: dict[Hashable, list[int]] = {}
    for key, each in firsts.items():
        written = [next(ids) for _ in each.answers]
        own[key] = [written[place] for place in _in_order(each.answers, each.writers)]
    return own


def _tasks(writer: Writer, keys: Collection[Hashable]) -> dict[Hashable, tuple[int, list[int]]]:
    """{key: (task, its answers as `_in_order` has them)} of those whose answers are a task in the store; no gold questions."""
    query = select(TASK.c.id, TASK.c.prompt_id, TASK.c.responses).where(
        TASK.c.kind.in_(("pair", "ranking")), TASK.c.gold.is_(None)
    )
    rows = writer.connection.execute(query.order_by(TASK.c.id.desc())).all()  # the earliest of equal ones is taken
    if not rows:
        return {}
    said = {row.id: row for row in writer.connection.execute(select(RESPONSE.c.id, RESPONSE.c.text, RESPONSE.c.model))}
    found: dict[Hashable, tuple[int, list[int]]] = {}
    for row in rows:
        answers, writers = [said[id_].text for id_ in row.responses], [said[id_].model for id_ in row.responses]
        key = _set_key(row.prompt_id, answers, writers)
        if key in keys:
            found[key] = (row.id, [row.responses[place] for place in _in_order(answers, writers)])
    return found


def _standing(writer: Writer, tasks: Collection[int]) -> dict[tuple[int, int], int]:
    """{(annotator, task): id of what they say of it now}"""
    query = select(JUDGEMENT.c.id, JUDGEMENT.c.annotator_id, JUDGEMENT.c.task_id)
    query = query.where(JUDGEMENT.c.task_id.is_not(None), standing()).order_by(JUDGEMENT.c.id)
    rows = writer.connection.execute(query) if tasks else ()
    return {(row.annotator_id, row.task_id): row.id for row in rows if row.task_id in tasks}


def _want(writer: Writer, tasks: Collection[int], said: Iterable[tuple[int, int]]) -> None:
    """Tasks are wanted of as many people as there are in `said`, {(annotator, task)}, at least."""
    counted = Counter(task for _, task in said)
    for task in sorted(tasks):
        here = (TASK.c.id == task, TASK.c.wanted < counted[task])
        writer.connection.execute(TASK.update().where(*here).values(wanted=counted[task]))


def _kind(comparison: Comparison) -> str:
    return "pair" if len(comparison.answers) == 2 else "ranking"


def _is_task(those: Sequence[Comparison]) -> bool:
    """Whether others may be compared with who compared these; a model alone is nobody whom others join."""
    first = those[0].annotator
    return first is not None and (len(those) > 1 or not is_simulated(first))


def _task_row(prompt: int, answers: list[int], those: Sequence[Comparison]) -> dict[str, Any]:
    """A task that is judged by all who were wanted."""
    wanted = len({each.annotator for each in those})
    return {
        "kind": _kind(those[0]), "prompt_id": prompt, "responses": answers, "shown": answers, "priority": 0.0,
        "wanted": wanted,
    }  # fmt: skip
