"""What files hold, into the feedback store: comparisons, ratings and demonstrations, each of a kind in one transaction.

A prompt's split is the one that the file names, or that of what begins alike in the store, or its share by hash; what
begins alike is never in two, and a file that says otherwise is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from headwater.corpus.normalise import split_key
from headwater.corpus.shares import share_of
from headwater.errors import UserError
from headwater.feedback.comparisons import Comparison, Conversation, Rated, Turn, fingerprint, first_request, first_said
from headwater.feedback.imports import read_dialogues
from headwater.feedback.ratings import anonymous_rater
from headwater.feedback.reader import standing
from headwater.feedback.store import TABLES, Store, Writer

One = TypeVar("One", Comparison, Rated, Conversation)


@dataclass(frozen=True)
class Asked:
    """A prompt, with the split that its file names."""

    prompt: tuple[Turn, ...]
    source: str
    place: str
    split: str | None


def import_file(store: Store, path: Path) -> str:
    """Brings all that a file holds into the store and says what it was. What is there already is left out and counted.

    A file of conversations alone holds demonstrations. Raises UserError, with file and line, where something is bad:
    nothing of the file is stored then.
    """
    found = read_dialogues(path)
    conversations = [] if found.comparisons or found.ratings else found.conversations
    told = []
    jobs: list[tuple[str, int, Callable[[Writer], int]]] = [
        ("rankings and pairs", len(found.comparisons), lambda writer: write_comparisons(writer, found.comparisons)),
        ("ratings", len(found.ratings), lambda writer: write_ratings(writer, found.ratings)),
        ("demonstrations", len(conversations), lambda writer: write_demonstrations(writer, conversations)),
    ]
    with store.writing() as writer:
        for name, count, write in jobs:
            if count:
                new = write(writer)
                known = f" ({count - new:,} stood twice or were known already)" if new < count else ""
                told.append(f"{new:,} {name}{known}")
    left_out = [f"{count:,} left out: {reason}" for reason, count in found.left_out.most_common() if count]
    return f"{', '.join(told) or 'nothing'} into {store.place}{''.join(f'; {each}' for each in left_out)}."


def import_comparisons(store: Store, comparisons: Iterable[Comparison], *, made: int | None = None) -> int:
    """Brings comparisons into the store in one transaction, each as a pair or a ranking; returns how many there were.

    What stands twice comes in once. `made`: Unix seconds of the judgements; absent: now. Raises UserError where one of them
    is in the store.
    """
    distinct = list({comparison.fingerprint: comparison for comparison in comparisons}.values())
    try:
        with store.writing(made) as writer:
            if write_comparisons(writer, distinct) < len(distinct):
                raise UserError(f"Some of these comparisons are in {store.place} already: import each once.")
    except IntegrityError:
        raise UserError(f"Some of these comparisons are in {store.place} already: import each once.") from None
    return len(distinct)


def write_comparisons(writer: Writer, comparisons: Sequence[Comparison]) -> int:
    """Adds those that are new and returns how many. What known people compared is one task of theirs, whatever order and
    file it stands in; another ranking of it by the same person corrects the earlier one.
    """
    new = _new(writer, {each.fingerprint: each for each in comparisons})
    people = _annotators(writer, new.values())
    prompts = write_prompts(writer, [Asked(each.prompt, each.source, each.place, each.split) for each in new.values()])
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
    for id_, (name, each) in enumerate(new.items(), start=writer.next_id(TABLES["judgement"])):
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
    task, response = TABLES["task"], TABLES["response"]
    query = select(task.c.id, task.c.prompt_id, task.c.responses).where(
        task.c.kind.in_(("pair", "ranking")), task.c.gold.is_(None)
    )
    rows = writer.connection.execute(query.order_by(task.c.id.desc())).all()  # the earliest of equal ones is taken
    if not rows:
        return {}
    said = {row.id: row for row in writer.connection.execute(select(response.c.id, response.c.text, response.c.model))}
    found: dict[Hashable, tuple[int, list[int]]] = {}
    for row in rows:
        answers, writers = [said[id_].text for id_ in row.responses], [said[id_].model for id_ in row.responses]
        key = _set_key(row.prompt_id, answers, writers)
        if key in keys:
            found[key] = (row.id, [row.responses[place] for place in _in_order(answers, writers)])
    return found


def _standing(writer: Writer, tasks: Collection[int]) -> dict[tuple[int, int], int]:
    """{(annotator, task): id of what they say of it now}"""
    table = TABLES["judgement"]
    query = select(table.c.id, table.c.annotator_id, table.c.task_id).where(table.c.task_id.is_not(None), standing())
    rows = writer.connection.execute(query.order_by(table.c.id)) if tasks else ()
    return {(row.annotator_id, row.task_id): row.id for row in rows if row.task_id in tasks}


def _want(writer: Writer, tasks: Collection[int], said: Iterable[tuple[int, int]]) -> None:
    """Tasks are wanted of as many people as there are in `said`, {(annotator, task)}, at least."""
    table, counted = TABLES["task"], Counter(task for _, task in said)
    for task in sorted(tasks):
        here = (table.c.id == task, table.c.wanted < counted[task])
        writer.connection.execute(table.update().where(*here).values(wanted=counted[task]))


def write_ratings(writer: Writer, ratings: Sequence[Rated]) -> int:
    """Adds those that are new and returns how many. Equal answers to one prompt are one answer."""
    new = _new(
        writer,
        {
            fingerprint(each.source, each.prompt, each.answer, sorted(each.axes.items()), each.annotator): each
            for each in ratings
        },
    )
    people = _annotators(writer, new.values())
    prompts = write_prompts(writer, [Asked(each.prompt, each.source, each.place, each.split) for each in new.values()])
    answers = {(prompts[each.source, each.prompt], each.answer): each.place for each in new.values()}
    table = TABLES["response"]
    known = {
        (row.prompt_id, row.text): row.id
        for row in writer.connection.execute(select(table.c.prompt_id, table.c.text, table.c.id))
        if (row.prompt_id, row.text) in answers
    }
    missing = [key for key in answers if key not in known]
    rows = [{"prompt_id": prompt, "text": text, "origin": answers[prompt, text]} for prompt, text in missing]
    known |= dict(zip(missing, writer.insert("response", rows, "import of answers"), strict=True))
    judgements = []
    for name, each in new.items():
        prompt = prompts[each.source, each.prompt]
        row = {"kind": "rating", "prompt_id": prompt, "annotator_id": people[each.annotator], "client_id": name}
        judgements.append(row | {"response_id": known[prompt, each.answer], "axes": each.axes})
    writer.insert("judgement", judgements, "import of ratings")
    return len(judgements)


def write_demonstrations(writer: Writer, conversations: Sequence[Conversation]) -> int:
    """Adds those that are new, the last turn of each as an answer of somebody's own, and returns how many."""
    new = _new(writer, {fingerprint(each.source, each.turns, each.annotator): each for each in conversations})
    people = _annotators(writer, new.values())
    prompts = write_prompts(
        writer, [Asked(each.turns[:-1], each.source, each.place, each.split) for each in new.values()]
    )
    rows = [
        {
            "kind": "demonstration", "prompt_id": prompts[each.source, each.turns[:-1]], "client_id": name,
            "annotator_id": people[each.annotator], "edit": each.turns[-1].content,
        }
        for name, each in new.items()
    ]  # fmt: skip
    return len(writer.insert("judgement", rows, "import of demonstrations"))


def _new(writer: Writer, named: dict[str, One]) -> dict[str, One]:
    """Those whose client id is not in the store."""
    known = set(writer.connection.execute(select(TABLES["judgement"].c.client_id)).scalars())
    return {name: each for name, each in named.items() if name not in known}


def _kind(comparison: Comparison) -> str:
    return "pair" if len(comparison.answers) == 2 else "ranking"


def _is_task(those: Sequence[Comparison]) -> bool:
    """Whether others may be compared with who compared these; a model alone is nobody whom others join."""
    first = those[0].annotator
    return first is not None and (len(those) > 1 or not first.startswith("simulated:"))


def _task_row(prompt: int, answers: list[int], those: Sequence[Comparison]) -> dict[str, Any]:
    """A task that is judged by all who were wanted."""
    wanted = len({each.annotator for each in those})
    return {
        "kind": _kind(those[0]), "prompt_id": prompt, "responses": answers, "shown": answers, "priority": 0.0,
        "wanted": wanted,
    }  # fmt: skip


def _annotators(writer: Writer, those: Iterable[Comparison | Rated | Conversation]) -> dict[str | None, int]:
    """{name: id}; who is not known is the store's row for all unknown raters."""
    table = TABLES["annotator"]
    people: dict[str | None, int] = {None: anonymous_rater(writer)}
    people |= {row.name: row.id for row in writer.connection.execute(select(table.c.name, table.c.id))}
    names = sorted({each.annotator for each in those if each.annotator is not None} - people.keys())
    rows: list[dict[str, Any]] = [
        {"name": name, "role": "simulated" if name.startswith("simulated:") else "annotator"} for name in names
    ]
    return people | dict(zip(names, writer.insert("annotator", rows, "import of annotators"), strict=True))


def write_prompts(writer: Writer, asked: Sequence[Asked]) -> dict[tuple[str, tuple[Turn, ...]], int]:
    """{(source, prompt): id}, each prompt once; one that is in the store with the same split is not added again."""
    table = TABLES["prompt"]
    stored = writer.connection.execute(select(table)).all()
    known = {(row.source, row.split, turns_of(row.conversation)): row.id for row in stored}
    begun: dict[str, set[str]] = {}
    for row in stored:
        begun.setdefault(split_key(first_said(row.conversation)), set()).add(row.split)
    splits: dict[tuple[str, tuple[Turn, ...]], str] = {}
    for each in asked:
        splits[each.source, each.prompt] = _split(each, begun.setdefault(split_key(first_request(each.prompt)), set()))
    new = {(source, split, prompt): None for (source, prompt), split in splits.items()}
    missing = [key for key in new if key not in known]
    rows = [
        {"conversation": [turn._asdict() for turn in prompt], "source": source, "split": split}
        for source, split, prompt in missing
    ]
    known |= dict(zip(missing, writer.insert("prompt", rows, "import of prompts"), strict=True))
    return {(source, prompt): known[source, split, prompt] for (source, prompt), split in splits.items()}


def _split(asked: Asked, begun: set[str]) -> str:
    """`begun`: the splits of what begins alike, to which this one is added. An instruction that all splits share, as in rated
    sentences, says nothing.
    """
    if asked.split is not None and begun and asked.split not in begun:
        raise UserError(
            f"{asked.place} is of the split `{asked.split}`, but what begins alike is of `{min(begun)}`: both on one side, or "
            "the evaluation would know what was learnt."
        )
    split = asked.split or (next(iter(begun)) if len(begun) == 1 else share_of(first_request(asked.prompt)))
    begun.add(split)
    return split


def turns_of(conversation: Iterable[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """Messages as the store and the pages hold them, as turns."""
    return tuple(Turn(message["role"], message["content"]) for message in conversation)
