"""Rankings and pairs of one's own, each with its prompt and its answers: what `exports.py` writes, too.

- A ranking: {"prompt", "answers", "ranking"}. `prompt` is a request, or messages that end with the user's; `answers` are
  texts, numbered from 1, or {"id", "text", "model"}; `ranking` holds groups of numbers or ids, best first, ties together.
- A pair as TRL has it: {"prompt", "chosen", "rejected"}, each a text or messages; `prompt` may be part of both.
- A table: columns `prompt`, `answer_1`, `rank_1`, `answer_2`, `rank_2`, …; 1 is best, equal ranks tie, no rank: not ranked.

Optional in all of them: `annotator`, `split`, `source`; of pairs also `strength`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from headwater.errors import UserError
from headwater.feedback.comparisons import Comparison, Turn
from headwater.feedback.formats.records import (
    Dialogues,
    Record,
    annotator_of,
    finite,
    json_object,
    judgement_of,
    optional_text,
    prompt_of,
    read_messages,
    split_of,
    text_of,
)
from headwater.feedback.judgements import Groups, brief, parse_ranking
from headwater.feedback.orders import groups_of, places

COLUMNS = ("prompt", "answer_1", "rank_1", "answer_2", "rank_2")
"""What every table has."""


def read_ranking(record: Record, place: str, found: Dialogues) -> None:
    """{"prompt", "answers", "ranking"}; answers that are not ranked are left out."""
    prompt = prompt_of(record["prompt"], "prompt", place)
    answers = _answers(record["answers"], place)
    try:
        groups = parse_ranking(record["ranking"], answers)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    add(groups, answers, prompt, record, place, found)


def add(
    groups: Groups, answers: Mapping[int, tuple[str, str | None]], prompt: tuple[Turn, ...], record: Record, place: str,
    found: Dialogues,
) -> None:  # fmt: skip
    """A comparison of those of the answers, {id: (text, model)}, that a ranking names, in the order of `answers`."""
    ranks = places(groups)
    ranked = [id_ for id_ in answers if id_ in ranks]
    if len(ranked) < 2:
        found.left_out["fewer than two ranked answers"] += 1
        return
    found.comparisons.append(
        Comparison(
            prompt, tuple(answers[id_][0] for id_ in ranked), tuple(ranks[id_] for id_ in ranked),
            optional_text(record, "source", place) or "rankings", place, tuple(answers[id_][1] for id_ in ranked),
            annotator_of(record, place), split_of(record, place), strength_of(record, place) if len(ranked) == 2 else None,
            judgement_of(record),
        )
    )  # fmt: skip


def _answers(value: Any, place: str) -> dict[int, tuple[str, str | None]]:
    if not isinstance(value, list) or not value:
        raise UserError(f"`answers` in {place} is no list of answers: mend or remove the line.")
    found: dict[int, tuple[str, str | None]] = {}
    for number, answer in enumerate(value, start=1):
        if isinstance(answer, str):
            found[number] = (text_of({"answers": answer}, "answers", place), None)
            continue
        given = json_object(answer, place)
        id_ = given.get("id")
        if type(id_) is not int or id_ in found:
            raise UserError(f"An answer in {place} has the id {brief(id_)}: give each a whole number of its own.")
        found[id_] = (text_of(given, "text", place), optional_text(given, "model", place))
    return found


def strength_of(record: Record, place: str) -> float | None:
    """How much better the better one is; None where that was not said."""
    if record.get("strength") is None:
        return None
    strength = finite(record["strength"])
    if strength is None or strength < 0:
        raise UserError(f"{place} has a `strength` that is {brief(record['strength'])}: it must be a number from 0 on.")
    return strength


# Pairs as TRL has them


def is_trl(record: Record) -> bool:
    """Whether a record with `chosen` and `rejected` is TRL's and not HH-RLHF's, whose texts hold the whole dialogue."""
    chosen = record["chosen"]
    return isinstance(chosen, list) or (
        "prompt" in record and not (isinstance(chosen, str) and chosen.lstrip().startswith(("Human:", "Assistant:")))
    )


def read_trl(record: Record, place: str, found: Dialogues) -> None:
    """The prompt explicit, or what both dialogues have in common up to their last turns."""
    chosen, rejected = record["chosen"], record["rejected"]
    if "prompt" in record:
        prompt = prompt_of(record["prompt"], "prompt", place)
        better, worse = (_completion(record[name], name, place) for name in ("chosen", "rejected"))
    else:
        turns, others = (read_messages({"messages": value}, place) for value in (chosen, rejected))
        if turns[-1].role != "assistant" or others[-1].role != "assistant":
            raise UserError(f"A dialogue in {place} does not end with an answer: mend or remove the line.")
        if turns[:-1] != others[:-1]:
            found.left_out["answers to different prompts"] += 1
            return
        prompt, better, worse = turns[:-1], turns[-1].content, others[-1].content
    if better == worse:
        found.left_out["equal answers"] += 1
        return
    add([[1], [2]], {1: (better, None), 2: (worse, None)}, prompt, record, place, found)


def _completion(value: Any, name: str, place: str) -> str:
    """An answer as a text, or as one message of the assistant's."""
    if not isinstance(value, list):
        return text_of({name: value}, name, place)
    if len(value) != 1 or json_object(value[0], place).get("role") != "assistant":
        raise UserError(f"`{name}` in {place} is not one message of the assistant's: mend or remove the line.")
    return text_of(value[0], "content", place)


# Tables


def read_row(row: Mapping[str, str], place: str, found: Dialogues) -> None:
    """A line of a table."""
    answers: dict[int, tuple[str, str | None]] = {}
    ranks: dict[int, float] = {}
    number = 1
    while f"answer_{number}" in row:
        rank = row.get(f"rank_{number}", "").strip()
        if row[f"answer_{number}"] or rank:
            answers[number] = (row[f"answer_{number}"], None)
        if rank:
            ranks[number] = _number(rank, f"rank_{number}", place)
        number += 1
    if not row["prompt"].strip():
        raise UserError(f"{place} has no text as `prompt`: mend or remove the line.")
    record: Record = {name: row[name] for name in ("annotator", "split", "source") if row.get(name, "").strip()}
    if row.get("strength", "").strip():
        record["strength"] = _number(row["strength"].strip(), "strength", place)
    add(groups_of(ranks), answers, (Turn("user", row["prompt"].strip()),), record, place, found)


def _number(text: str, name: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{place} has {text!r} as `{name}`: write a number, or nothing.")
    return value
