"""What decoding remembers, in slots with their own lengths."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class KeysAndValues(Protocol):
    """What attention asks of a memory of tokens before those that it is given."""

    starts: Tensor
    """Position of each row's first new token, [batch or 1]."""
    span: int
    """Keys that attention looks at, those of the new tokens included."""

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """New keys and values [batch, heads, time, head_dim] → all up to `span`, the new ones last."""


class Cache(Protocol):
    """What the generator asks of any backbone's memory."""

    def begin(self, rows: Tensor, starts: Tensor, lengths: Tensor) -> None:
        """Before a pass: its slots, where each row's new tokens go, and how many are real; [batch] each."""

    def remember(self, rows: Tensor, memory: Tensor, documents: Tensor | None) -> None:
        """An encoder-decoder's encoded sources [batch, source_time, d_model] for slots; documents: 0 is padding."""

    def move(self, source: int, target: int) -> None:
        """Copies a slot onto another one."""

    def select(self, order: Tensor) -> None:
        """Slot i becomes what slot order[i] was."""


class KeyValueCache:
    """Keys and values: [layers, slots, key_value_heads, capacity, head_dim] each."""

    def __init__(
        self, layers: int, slots: int, key_value_heads: int, capacity: int, head_dim: int, dtype: torch.dtype
    ) -> None:
        shape = (layers, slots, key_value_heads, capacity, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype)
        self.values = torch.zeros(shape, dtype=dtype)
        self.rows = torch.zeros(0, dtype=torch.long)
        """Slots of this forward pass, [batch]."""
        self.starts = torch.zeros(0, dtype=torch.long)
        """Position at which each row's new keys go, [batch]."""
        self.span = 0
        """Keys that attention looks at: the longest row after this pass."""
        self.filled = torch.zeros(slots, dtype=torch.long)
        """Tokens that each slot holds: what there is to copy."""
        self._seen: slice | Tensor = self.rows
        self._place: tuple[int, int] | None = None
        """Of a single row: its slot, and where its new tokens go."""

    def begin(self, rows: Tensor, starts: Tensor, lengths: Tensor) -> None:
        self.rows, self.starts = rows, starts
        self.span = int(starts.max()) + int(lengths.max())
        self.filled[rows] = starts + lengths
        first, count = int(rows[0]), len(rows)
        self._place = (first, int(starts[0])) if count == 1 else None
        # The usual case, slots side by side: a view, no copy.
        self._seen = slice(first, first + count) if torch.equal(rows, torch.arange(first, first + count)) else rows

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes new keys and values [batch, heads, time, head_dim]; returns all up to `span`."""
        time = keys.shape[2]
        if self._place is not None:  # one row, as one client's next token: a slice takes a tenth of an index's time
            slot, start = self._place
            self.keys[layer, slot, :, start : start + time] = keys[0]
            self.values[layer, slot, :, start : start + time] = values[0]
            seen = slice(slot, slot + 1)
            return self.keys[layer, seen, :, : self.span], self.values[layer, seen, :, : self.span]
        places = self.starts[:, None] + torch.arange(time)
        self.keys[layer][self.rows[:, None], :, places] = keys.transpose(1, 2)
        self.values[layer][self.rows[:, None], :, places] = values.transpose(1, 2)
        return self.keys[layer][self._seen, :, : self.span], self.values[layer][self._seen, :, : self.span]

    def remember(self, rows: Tensor, memory: Tensor, documents: Tensor | None) -> None:  # noqa: ARG002
        raise TypeError("a decoder without an encoder has no source to remember")

    def move(self, source: int, target: int) -> None:
        length = int(self.filled[source])
        for states in (self.keys, self.values):
            states[:, target, :, :length] = states[:, source, :, :length]
        self.filled[target] = length

    def spread(self, source: int, targets: Tensor, length: int) -> None:
        """Copies the first `length` tokens of a slot onto others."""
        for states in (self.keys, self.values):
            states[:, targets, :, :length] = states[:, source : source + 1, :, :length]
        self.filled[targets] = length

    def select(self, order: Tensor) -> None:
        self.keys[:, : len(order)] = self.keys[:, order]
        self.values[:, : len(order)] = self.values[:, order]
        self.filled[: len(order)] = self.filled[order]
