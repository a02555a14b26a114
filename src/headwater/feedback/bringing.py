"""What files hold, into the feedback store: comparisons, ratings and demonstrations, each of a kind in one transaction.

A prompt's split is the one that the file names, or that of what begins alike in the store, or its share by hash; what
begins alike is never in two, and a file that says otherwise is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """Adds those that are new and returns how many. Answers that several known people compared are one task of theirs."""
    new = _new(writer, {each.fingerprint: each for each in comparisons})
    people = _annotators(writer, new.values())
    prompts = write_prompts(writer, [Asked(each.prompt, each.source, each.place, each.split) for each in new.values()])
    sets: dict[Any, list[Comparison]] = {}
    for name, each in new.items():
        # What unknown people said is kept apart: nobody can tell whether it was one of them or many.
        key = name if each.annotator is None else (each.source, each.prompt, each.answers, each.writers)
        sets.setdefault(key, []).append(each)
    answers = [
        {"prompt_id": prompts[those[0].source, those[0].prompt], "text": text, "model": model, "origin": those[0].place}
        for those in sets.values()
        for text, model in zip(those[0].answers, those[0].writers, strict=True)
    ]
    ids = iter(writer.insert("response", answers, "import of answers"))
    own = {key: [next(ids) for _ in those[0].answers] for key, those in sets.items()}
    shared = {key: those for key, those in sets.items() if len(those) > 1}
    rows = [_task_row(prompts[those[0].source, those[0].prompt], own[key], those) for key, those in shared.items()]
    tasks = dict(zip(shared, writer.insert("task", rows, "import of tasks"), strict=True))
    place_of = {id(each): key for key, those in sets.items() for each in those}
    judgements = []
    for name, each in new.items():
        key = place_of[id(each)]
        row = {
            "kind": _kind(each), "prompt_id": prompts[each.source, each.prompt], "annotator_id": people[each.annotator],
            "ranking": [[own[key][place] for place in group] for group in each.groups()], "client_id": name,
        }  # fmt: skip
        judgements.append(row | {"task_id": tasks.get(key), "strength": each.strength})
    writer.insert("judgement", judgements, "import of comparisons")
    return len(judgements)


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
