"""Rows that begin alike: a decoder reads their common beginning once, and every row looks at its keys and values.

Prompts have a template, and often an instruction, in common, and several answers to one prompt have all of it. The states are
those of the rows read whole, and so are the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from headwater.models.transformer import Transformer

SHORTEST = 8
"""Tokens of a beginning below which reading it apart saves nothing."""


def common_length(rows: Sequence[Sequence[int]] | Sequence[Tensor] | Tensor) -> int:
    """Tokens with which all rows begin alike, at most all but one of the shortest; 0 for a single row and where they are
    too few to be worth a pass of their own."""
    if len(rows) < 2:
        return 0
    shortest = min(len(row) for row in rows) - 1
    beginnings = torch.stack([torch.as_tensor(row[:shortest]) for row in rows])
    length = int((beginnings == beginnings[0]).all(dim=0).long().cumprod(dim=0).sum())
    return length if length >= SHORTEST else 0


def can_share(backbone: object) -> bool:
    """Whether it is a decoder that may read a beginning apart: every row would draw its own dropout, and recomputing
    activations would write the beginning's keys again."""
    if not isinstance(backbone, Transformer) or not backbone.causal or backbone.checkpointing:
        return False
    return not (backbone.training and backbone.config.dropout)


def states(backbone: Transformer, ids: Tensor, length: int) -> Tensor:
    """Hidden states [batch, time, d_model] of rows [batch, time] whose first `length` tokens are the same."""
    start = SharedStart(length, ids.shape[1])
    beginning = backbone(ids[:1, :length], cache=start)
    start.begin_rows()
    rest = backbone(ids[:, length:], cache=start)
    return torch.cat((beginning.expand(len(ids), -1, -1), rest), dim=1)


class SharedStart:
    """The keys and values of a beginning, with their gradients; to a decoder it is a cache of which all rows are given the
    same."""

    def __init__(self, length: int, time: int) -> None:
        self.length, self.time = length, time
        self.starts = torch.zeros(1, dtype=torch.long)
        self.span = length
        self._layers: list[tuple[Tensor, Tensor]] = []

    def begin_rows(self) -> None:
        """From here on, what is read are the rows after their beginning."""
        self.starts, self.span = torch.full((1,), self.length), self.time

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """New keys and values [batch, heads, time, head_dim] → those with the beginning's before them."""
        if self.span == self.length:
            self._layers.append((keys, values))
            return keys, values
        earlier = (part.expand(len(keys), -1, -1, -1) for part in self._layers[layer])
        return cast(
            tuple[Tensor, Tensor],
            tuple(torch.cat((before, new), dim=2) for before, new in zip(earlier, (keys, values), strict=True)),
        )
