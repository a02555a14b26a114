"""Denoising: spans are cut out of a text, and the decoder says what stood there (T5; Raffel et al., 2020)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from headwater.errors import UserError
from headwater.objectives.sequence import SequenceToSequence
from headwater.training.batch import Row

MEAN_SPAN = 3.0
"""Tokens per span, in the mean."""


class Denoising(SequenceToSequence):
    """Source: the text with each span replaced by a sentinel. Target: each sentinel and what it stands for, then one
    more sentinel as the end.

    Which spans is a function of the seed and of the row's index alone; another epoch has other indices, so other spans.
    """

    def __init__(
        self, sentinels: Sequence[int], seed: int, start: int, control: Collection[int] = (), *, share: float
    ) -> None:
        """sentinels: tokens in the order in which they are used. control: tokens that stay at the ends of a text. share: of
        the tokens that are cut out."""
        super().__init__(start)
        self.sentinels, self.seed, self.control, self.share = list(sentinels), seed, frozenset(control), share

    def prepare(self, tokens: Sequence[int], index: int) -> Row:
        """A text's tokens → a row. Raises UserError where it has more spans than there are sentinels."""
        first, last = 0, len(tokens)
        while first < last and tokens[first] in self.control:
            first += 1
        while last > first and tokens[last - 1] in self.control:
            last -= 1
        spans = noise_spans(last - first, self.share, np.random.default_rng([self.seed, index]))
        if len(spans) >= len(self.sentinels):
            raise UserError(
                f"A row of {len(tokens):,} tokens has {len(spans)} spans to be cut out, but the tokenizer only "
                f"{len(self.sentinels)} sentinels: use a shorter context."
            )
        source, target, place = [], [], 0
        for sentinel, (begin, end) in zip(self.sentinels, spans, strict=False):
            source += [*tokens[place : first + begin], sentinel]
            target += [sentinel, *tokens[first + begin : first + end]]
            place = first + end
        return self.pair([*source, *tokens[place:]], [*target, self.sentinels[len(spans)]])


def noise_spans(length: int, share: float, random: np.random.Generator) -> list[tuple[int, int]]:
    """(begin, end) of the spans cut out of `length` tokens: this share of them, `MEAN_SPAN` long in the mean.

    What is cut out and what stays are each divided at random into as many parts, at least one token each, and take
    turns, so that two spans never touch. A text of one token stays whole.
    """
    if length < 2:
        return []
    cut = min(max(round(share * length), 1), length - 1)
    count = min(max(round(cut / MEAN_SPAN), 1), length - cut)
    spans, place = [], 0
    for kept, taken in zip(_parts(length - cut, count, random), _parts(cut, count, random), strict=True):
        spans.append((place + kept, place + kept + taken))
        place += kept + taken
    return spans


def _parts(total: int, count: int, random: np.random.Generator) -> list[int]:
    """`total` as the sum of `count` numbers of at least 1, each way alike likely."""
    cuts = np.sort(random.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff([0, *cuts.tolist(), total]).tolist()  # type: ignore[no-any-return]
