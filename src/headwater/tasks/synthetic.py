"""Made-up tasks that ask for one thing each, mostly memory: copy, reverse, selective copy, associative recall.

An example is a function of (split, seed, index), today and on every machine. Which split it belongs to is decided by a
hash of what it holds, so the training and held-out examples of all seeds never overlap.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from headwater.models.heads import IGNORED
from headwater.training.batch import Row

Split = Literal["train", "heldout"]

PAD, START, END, GO, NOISE = range(5)
"""Ids that every task has: padding, start and end of a target, "answer now", and what selective copy must leave out."""
SPECIAL = 5
"""Symbols have the ids from here on."""
HELDOUT = 0.2
"""Share of all possible examples that are held out."""
_ATTEMPTS = 1000


@dataclass(frozen=True)
class Example:
    """Token ids to read and token ids to answer with.

    distances: per token of the target, how many tokens lie between what it repeats and itself when the answer follows
    the source and `GO` directly; None where the token is given, not asked for (the next query of recall).
    """

    source: tuple[int, ...]
    target: tuple[int, ...]
    distances: tuple[int | None, ...]

    def causal(self) -> Row:
        """For a decoder: source, GO, target in one row; only what is asked for is learnt.

        per_token: `targets` and `distances` (−1 where nothing is asked), [len(source) + len(target)] each.
        """
        ids = torch.tensor([*self.source, GO, *self.target])
        asked = torch.tensor([*([-1] * len(self.source)), *(-1 if d is None else d for d in self.distances)])
        return Row(ids[:-1], {"targets": torch.where(asked >= 0, ids[1:], IGNORED), "distances": asked})


Draw = Callable[[random.Random, int, int], Example]
"""(generator, length, symbols) → an example. What `length` counts is the task's own affair."""


def copy(generator: random.Random, length: int, symbols: int) -> Example:
    """Say the same `length` symbols again."""
    source = _symbols(generator, length, symbols)
    return Example(source, source, (length,) * length)


def reverse(generator: random.Random, length: int, symbols: int) -> Example:
    """Say the `length` symbols from the last to the first."""
    source = _symbols(generator, length, symbols)
    return Example(source, source[::-1], tuple(range(1, 2 * length + 1, 2)))


MARKED = 8
"""Symbols that selective copy asks for, whatever the length."""


def selective_copy(generator: random.Random, length: int, symbols: int) -> Example:
    """Say the MARKED symbols that stand among noise, in their order; the source has `length` tokens.

    From Gu and Dao (2023): how far apart they stand differs, so that counting positions does not help.
    """
    places = sorted(generator.sample(range(length), min(MARKED, length)))
    target = _symbols(generator, len(places), symbols)
    source = [NOISE] * length
    for place, symbol in zip(places, target, strict=True):
        source[place] = symbol
    return Example(tuple(source), target, tuple(length - place + n for n, place in enumerate(places)))


def recall(generator: random.Random, length: int, symbols: int, queries: int | None = None) -> Example:
    """Associative recall: `length` pairs of a key and a value, then keys, each to be answered with its value.

    All keys, or `queries` of them, are asked in random order; every key stands once (Arora et al., 2023: multi-query
    recall). The lower half of the symbols are keys, the upper half values.
    """
    half = symbols // 2
    if length > half:
        raise ValueError(f"{length} pairs need {length} different keys: at least {2 * length} symbols, not {symbols}")
    keys = [SPECIAL + key for key in generator.sample(range(half), length)]
    values = [SPECIAL + half + generator.randrange(half) for _ in keys]
    asked = generator.sample(range(length), min(queries or length, length))
    source = [token for pair in zip(keys, values, strict=True) for token in pair]
    answers = [token for place in asked for token in (keys[place], values[place])]
    distances = [d for n, place in enumerate(asked) for d in (None, 2 * (length - place) + 2 * n)]
    return Example(tuple(source), tuple(answers), tuple(distances))


TASKS: dict[str, Draw] = {"copy": copy, "reverse": reverse, "selective-copy": selective_copy, "recall": recall}


def example(task: str, split: Split, seed: int, index: int, length: int, symbols: int) -> Example:
    """Example number `index` of a task's split.

    Raises ValueError where the task has so few examples of this length that none is found in the split.
    """
    for attempt in range(_ATTEMPTS):
        drawn = TASKS[task](random.Random(f"{task} {split} {seed} {index} {attempt}"), length, symbols)
        if split_of(drawn.source) == split:
            return drawn
    raise ValueError(f"{task} of length {length} over {symbols} symbols has no examples for the split {split}")


def split_of(source: Sequence[int]) -> Split:
    """The split that a source belongs to, by its content alone."""
    digest = hashlib.blake2b(",".join(map(str, source)).encode(), digest_size=8).digest()
    return "heldout" if int.from_bytes(digest) < HELDOUT * 2**64 else "train"


def vocabulary(symbols: int) -> int:
    """Ids in all."""
    return SPECIAL + symbols


def _symbols(generator: random.Random, count: int, symbols: int) -> tuple[int, ...]:
    return tuple(SPECIAL + generator.randrange(symbols) for _ in range(count))
