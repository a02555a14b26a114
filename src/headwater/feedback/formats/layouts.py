"""Reads dialogues and preferences that others published, by path: plain or gzipped JSON lines, or one JSON list.

- HH-RLHF (Bai et al. 2022): {"chosen", "rejected"}, dialogues written as "\\n\\nHuman: …\\n\\nAssistant: …".
- Open-Assistant (Köpf et al. 2023): message trees, whose replies carry ranks.
- alpaca-eval (Li et al. 2023): {"instruction", "output_1", "output_2", "preference"}; also gathered by instruction, as
  {"instruction", "reference", "answers": [{"model", "text", "preference"}]}.
- Conversations alone: {"messages": [{"role", "content"}, …]}, as chat services write them.
- What `exports.py` writes, and rankings of one's own, in JSON or as a table (`own_rankings.py`).
- Exports of Argilla (`argilla.py`) and Label Studio (`label_studio.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headwater.errors import UserError
from headwater.feedback.annotator_names import SIMULATED
from headwater.feedback.comparisons import Comparison, Conversation, Role, Turn
from headwater.feedback.formats import argilla, label_studio, own_rankings
from headwater.feedback.formats.records import (
    Dialogues,
    Record,
    annotator_of,
    json_object,
    judgement_of,
    read_messages,
    read_records,
    read_table,
    split_of,
    text_of,
)


def read_dialogues(path: Path) -> Dialogues:
    """All conversations and comparisons of a file; the layout is told from its records.

    Raises UserError, naming file and line, where the file cannot be read or a record is not as its layout demands.
    """
    found = Dialogues()
    if path.suffix == ".csv":
        for row, place in read_table(path, own_rankings.COLUMNS):
            own_rankings.read_row(row, place, found)
        return found
    for record, place in read_records(path):
        layout_of(record, place)(record, place, found)
    return found


def layout_of(record: Record, place: str) -> Callable[[Record, str, Dialogues], None]:
    """How a record is read. Raises UserError where it is of no known layout."""
    for names, read in LAYOUTS.items():
        if record.keys() >= set(names):
            return read
    known = "; ".join(", ".join(names) for names in LAYOUTS)
    raise UserError(f"{place} is of no known layout: a record has the keys {known}.")


# HH-RLHF

_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


def read_pair(record: Record, place: str, found: Dialogues) -> None:
    """`chosen` and `rejected` are one dialogue up to the assistant's last turn, on which they differ."""
    if own_rankings.is_trl(record):
        own_rankings.read_trl(record, place, found)
        return
    chosen, rejected = (spoken(text_of(record, name, place), f"`{name}` in {place}") for name in ("chosen", "rejected"))
    if chosen[-1].content:
        found.conversations.append(Conversation(chosen, "hh-rlhf", place))
    if chosen[:-1] != rejected[:-1]:
        found.left_out["answers to different prompts"] += 1
    elif chosen == rejected:
        found.left_out["equal answers"] += 1
    else:
        answers = (chosen[-1].content, rejected[-1].content)
        found.comparisons.append(Comparison(chosen[:-1], answers, (0, 1), "hh-rlhf", place, (None, None)))


def spoken(text: str, what: str) -> tuple[Turn, ...]:
    """ "\\n\\nHuman: …\\n\\nAssistant: …" as turns; those of one speaker that follow one another become one.

    `what` stands in the error where the text begins otherwise, or where the assistant does not have the last word.
    """
    before, *pieces = _SPEAKER.split(text)
    if before.strip() or not pieces:
        raise UserError(f"{what} does not begin with `Human:` or `Assistant:`: mend or remove the line.")
    turns: list[Turn] = []
    for speaker, said in zip(pieces[::2], pieces[1::2], strict=True):
        turn = Turn("user" if speaker == "Human" else "assistant", said.strip())
        if turns and turns[-1].role == turn.role:
            turn = Turn(turn.role, f"{turns.pop().content}\n\n{turn.content}".strip())
        turns.append(turn)
    if turns[-1].role != "assistant" or len(turns) < 2:
        raise UserError(f"{what} does not end with a request and its answer: mend or remove the line.")
    return tuple(turns)


# Open-Assistant

_ROLES: dict[str, Role] = {"prompter": "user", "assistant": "assistant"}


def read_tree(record: Record, place: str, found: Dialogues) -> None:
    """A comparison for each message with two ranked replies or more. A conversation for each way to the end of the tree
    on which every answer is the best of its rank's siblings; a deleted message hides what follows it.
    """
    waiting: list[tuple[Record, tuple[Turn, ...], bool]] = [(json_object(record["prompt"], place), (), True)]
    while waiting:
        message, before, followed = waiting.pop()
        turns = (*before, _turn(message, before, place))
        replies = _replies(message, place)
        found.left_out["deleted message"] += sum(bool(reply.get("deleted")) for reply in _all_replies(message, place))
        asked = turns[-1].role == "user"
        ranked = sorted((reply for reply in replies if type(reply.get("rank")) is int), key=lambda reply: reply["rank"])
        best = next(iter(ranked or replies), None)
        if asked and len(ranked) > 1:
            found.comparisons.append(_ranked(turns, ranked, place))
        if not asked and followed and not any(_replies(reply, place) for reply in replies):
            found.conversations.append(Conversation(turns, "oasst", place))
        waiting += [(reply, turns, followed and (not asked or reply is best)) for reply in reversed(replies)]


def _ranked(prompt: tuple[Turn, ...], replies: list[Record], place: str) -> Comparison:
    order = sorted({reply["rank"] for reply in replies})
    return Comparison(
        prompt,
        tuple(text_of(reply, "text", place) for reply in replies),
        tuple(order.index(reply["rank"]) for reply in replies),
        "oasst",
        place,
        tuple(reply.get("model_name") if isinstance(reply.get("model_name"), str) else None for reply in replies),
    )


def _turn(message: Record, before: tuple[Turn, ...], place: str) -> Turn:
    role = _ROLES.get(str(message.get("role")))
    expected: Role = "assistant" if before and before[-1].role == "user" else "user"
    if role != expected:
        raise UserError(
            f"A message in {place} has the role {message.get('role')!r} where it is the {expected}'s turn: mend it."
        )
    return Turn(expected, text_of(message, "text", place))


def _replies(message: Record, place: str) -> list[Record]:
    """Those that were not deleted."""
    return [reply for reply in _all_replies(message, place) if not reply.get("deleted")]


def _all_replies(message: Record, place: str) -> list[Record]:
    replies = message.get("replies", [])
    if not isinstance(replies, list):
        raise UserError(f"A message in {place} has `replies` that are no list: mend or remove the line.")
    return [json_object(reply, place) for reply in replies]


# alpaca-eval


def read_annotation(record: Record, place: str, found: Dialogues) -> None:
    """Two outputs and which of them a model preferred."""
    texts = (text_of(record, "output_1", place), text_of(record, "output_2", place))
    writers = (record.get("generator_1"), record.get("generator_2"))
    _preferred(record, record, texts, writers, place, found)


def read_gathered(record: Record, place: str, found: Dialogues) -> None:
    """A reference and many answers, each compared with it."""
    answers = record["answers"]
    if not isinstance(answers, list):
        raise UserError(f"`answers` in {place} is no list: mend or remove the line.")
    reference = text_of(record, "reference", place)
    for answer in answers:
        answer = json_object(answer, place)
        writers = (record.get("reference_model"), answer.get("model"))
        _preferred(record, answer, (reference, text_of(answer, "text", place)), writers, place, found)


def _preferred(
    record: Record, judged: Record, texts: tuple[str, str], writers: tuple[Any, Any], place: str, found: Dialogues
) -> None:
    """`preference`: from 1, the first text is better, to 2, the second is; 0 or 1.5 is a tie, null is no judgement."""
    preference = judged.get("preference")
    if preference is None or preference != preference:
        found.left_out["no preference"] += 1
        return
    if (
        isinstance(preference, bool)
        or not isinstance(preference, int | float)
        or not (preference == 0 or 1 <= preference <= 2)
    ):
        raise UserError(f"A preference in {place} is {preference!r}: it must be 0, or a number from 1 to 2.")
    ranks = (0, 0) if preference in (0, 1.5) else (0, 1) if preference < 1.5 else (1, 0)
    prompt = (Turn("user", text_of(record, "instruction", place)),)
    by = f"{SIMULATED}{judged.get('annotator') or record.get('annotator') or 'alpaca-eval'}"
    known = tuple(writer if isinstance(writer, str) else None for writer in writers)
    found.comparisons.append(Comparison(prompt, texts, ranks, "alpaca-eval", place, known, by))
    if ranks != (0, 0) and (better := texts[ranks.index(0)]).strip():
        found.conversations.append(Conversation((*prompt, Turn("assistant", better)), "alpaca-eval", place))


# Conversations alone


def read_conversation(record: Record, place: str, found: Dialogues) -> None:
    """`messages` up to the assistant's last one; without an answer there is nothing to learn."""
    turns = read_messages(record, place)
    while turns and turns[-1].role != "assistant":
        turns = turns[:-1]
    if not turns or not turns[-1].content.strip():
        found.left_out["no answer"] += 1
    else:
        source = record.get("source") if isinstance(record.get("source"), str) else None
        by, split = annotator_of(record, place), split_of(record, place)
        found.conversations.append(Conversation(turns, source or "messages", place, by, split, judgement_of(record)))


LAYOUTS: dict[tuple[str, ...], Callable[[Record, str, Dialogues], None]] = {
    ("chosen", "rejected"): read_pair,
    ("message_tree_id", "prompt"): read_tree,
    ("instruction", "output_1", "output_2", "preference"): read_annotation,
    ("instruction", "reference", "answers"): read_gathered,
    ("prompt", "answers", "ranking"): own_rankings.read_ranking,
    ("fields", "responses"): argilla.read,
    ("data", "annotations"): label_studio.read,
    ("messages",): read_conversation,
}
"""{keys that tell a layout: how its records are read}."""
