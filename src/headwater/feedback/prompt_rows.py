"""Prompts into the feedback store, each once, and what begins alike of one split.

A prompt's split is the one that its file names, or that of what begins alike in the store, or its share by hash; what
begins alike is never in two, and a file that says otherwise is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from headwater.corpus.normalise import split_key
from headwater.corpus.shares import share_of
from headwater.errors import UserError
from headwater.feedback.comparisons import Turn, first_request, first_said
from headwater.feedback.store.schema import PROMPT
from headwater.feedback.store.store import Writer


@dataclass(frozen=True)
class NewPrompt:
    """A prompt, with the split that its file names."""

    prompt: tuple[Turn, ...]
    source: str
    place: str
    split: str | None


def write_prompts(writer: Writer, asked: Sequence[NewPrompt]) -> dict[tuple[str, tuple[Turn, ...]], int]:
    """{(source, prompt): id}, each prompt once; one that is in the store with the same split is not added again."""
    stored = writer.connection.execute(select(PROMPT)).all()
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


def _split(asked: NewPrompt, begun: set[str]) -> str:
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
