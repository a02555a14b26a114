"""Passkey retrieval: a number hidden at a chosen depth in real text, asked for at the end ("needle in a haystack";
Mohtashami and Jaggi, 2023).

Training and held-out keys never overlap: a hash of the number decides.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from headwater.tasks.synthetic import Example, Split, split_of

DIGITS = 5
_NEEDLE = "\nThe pass key is {key}. Remember it: {key} is the pass key.\n"
_QUESTION = "\nWhat is the pass key? The pass key is"
_ANSWER = " {key}"


class Encodes(Protocol):
    """A tokenizer, as far as it is needed here."""

    def encode(self, text: str) -> list[int]:
        """Text → token ids."""


def passkey(
    text: Sequence[int],
    tokenizer: Encodes,
    split: Split,
    seed: int,
    index: int,
    length: int,
    depth: float | None = None,
) -> Example:
    """Example number `index`: `length` tokens in all, the answer included.

    text: token ids of one long real text, of which a random stretch is the haystack. depth: where the needle stands, 0
    (first) to 1 (just before the question); absent: anywhere. The distance of the answer's tokens is counted from the
    needle's first token. Raises ValueError where text or length is too short.
    """
    generator = random.Random(f"passkey {split} {seed} {index}")
    key = _key(generator, split)
    needle, question = tokenizer.encode(_NEEDLE.format(key=key)), tokenizer.encode(_QUESTION)
    answer = tokenizer.encode(_ANSWER.format(key=key))
    room = length - len(needle) - len(question) - len(answer) - 1  # 1: the mark before the answer
    if not 0 <= room <= len(text):
        raise ValueError(f"a passkey example of {length} tokens does not fit: the text has {len(text)}, room is {room}")
    start = generator.randrange(len(text) - room + 1)
    place = round(room * (generator.random() if depth is None else depth))
    hay = text[start : start + room]
    source = (*hay[:place], *needle, *hay[place:], *question)
    return Example(source, tuple(answer), (room - place + len(needle) + len(question),) * len(answer))


def _key(generator: random.Random, split: Split) -> str:
    while True:
        key = f"{generator.randrange(10**DIGITS):0{DIGITS}d}"
        if split_of([int(digit) for digit in key]) == split:
            return key
