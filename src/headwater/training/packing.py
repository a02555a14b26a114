"""Packing: several dialogues of an update in one row, apart from each other as documents are in pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from headwater.models.shared_start import common_length
from headwater.training.batch import Batch, Row, split_by_tokens
from headwater.training.source import Examples


class PackedExamples(Examples):
    """Examples that are packed into rows of at most `width` tokens (0: never) in those updates where the model then computes
    fewer tokens than side by side. Their rows have values per token alone.

    What an update learns from stays the same, and so do its sums and counts.
    """

    def __init__(self, groups: Sequence[Sequence[Row]], *, width: int, **settings: Any) -> None:
        super().__init__(groups, **settings)
        self.width = width

    def batches(self, groups: Sequence[Sequence[Row]]) -> list[Batch]:
        apart = super().batches(groups)
        if not self.width:
            return apart
        packed = pack_by_tokens([row for group in groups for row in group], self.budget, self.width)
        return packed if tokens_computed(packed) < tokens_computed(apart, self.shares) else apart


def pack_by_tokens(rows: Sequence[Row], budget: int, width: int) -> list[Batch]:
    """Rows without sources → micro-batches as of `split_by_tokens`, in whose rows several of them follow one another; in
    `Batch.documents` they are numbered from 1, and padding is 0.

    First fit, the longest first (Johnson, 1973): each goes into the first row of `width` tokens, and of the budget, with
    room for it. One that is longer has a row to itself.
    """
    packed: list[list[Row]] = []
    room: list[int] = []
    for row in sorted(rows, key=len, reverse=True):
        place = next((place for place, left in enumerate(room) if len(row) <= left), len(room))
        if place == len(room):
            packed.append([])
            room.append(max(len(row), min(width, budget)))
        packed[place].append(row)
        room[place] -= len(row)
    batches = split_by_tokens([joined(together) for together in packed], budget)
    for batch in batches:
        batch.positions, batch.documents = batch.per_token.pop("positions"), batch.per_token.pop("documents")
    return batches


def joined(rows: Sequence[Row]) -> Row:
    """Rows one after another, with `positions` that begin anew and the numbers of the `documents` beside each token."""
    lengths = torch.tensor([len(row) for row in rows])
    places = {
        "positions": torch.cat([torch.arange(len(row)) for row in rows]),
        "documents": torch.arange(1, len(rows) + 1).repeat_interleave(lengths),
    }
    values = {name: torch.cat([row.per_token[name] for row in rows]) for name in rows[0].per_token}
    return Row(torch.cat([row.ids for row in rows]), values | places)


def tokens_computed(batches: Sequence[Batch], shares: bool = False) -> int:
    """Tokens that a model runs through, padding included; of a beginning that it reads once (`Model.shares_beginnings`) once."""
    return sum(batch.ids.numel() - (len(batch) - 1) * (common_length(batch.ids) if shares else 0) for batch in batches)
