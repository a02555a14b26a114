"""Rows and batches: what every objective prepares and every model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Row:
    """One sequence. `per_token` holds values beside each token ([time]), `per_row` single numbers."""

    ids: Tensor
    per_token: dict[str, Tensor] = field(default_factory=dict)
    per_row: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class Batch:
    """Rows side by side, padded on the right.

    ids: [rows, time]; lengths: [rows], real tokens of each row. positions and documents ([rows, time]) are there only
    where several documents are packed into a row. per_token: name → [rows, time]; per_row: name → [rows].
    """

    ids: Tensor
    lengths: Tensor
    per_token: dict[str, Tensor] = field(default_factory=dict)
    per_row: dict[str, Tensor] = field(default_factory=dict)
    positions: Tensor | None = None
    documents: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """Real tokens, without padding."""
        return int(self.lengths.sum())


PADDING = {"targets": -1}
"""What fills a per-token value past the end of its row; 0 where not named. Ids are padded with 0: they are never read."""


def collate(rows: Sequence[Row]) -> Batch:
    """Rows → one batch, as wide as its longest row."""
    lengths = torch.tensor([len(row) for row in rows])
    width = int(lengths.max())
    per_token = {
        name: torch.stack([_padded(row.per_token[name], width, PADDING.get(name, 0)) for row in rows])
        for name in rows[0].per_token
    }
    per_row = {name: torch.tensor([row.per_row[name] for row in rows]) for name in rows[0].per_row}
    return Batch(torch.stack([_padded(row.ids, width, 0) for row in rows]), lengths, per_token, per_row)


def _padded(values: Tensor, width: int, fill: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, width - len(values)), value=fill)


def split_by_tokens(rows: Sequence[Row], budget: int) -> list[Batch]:
    """Rows → micro-batches of at most `budget` padded tokens each; rows of like length stand together.

    Losses are sums over the whole update, so the split changes nothing but speed and memory.
    """
    ordered = sorted(range(len(rows)), key=lambda index: len(rows[index]), reverse=True)
    batches: list[Batch] = []
    start = 0
    while start < len(ordered):
        fitting = max(1, budget // max(1, len(rows[ordered[start]])))
        batches.append(collate([rows[index] for index in ordered[start : start + fitting]]))
        start += fitting
    return batches


class Packer:
    """Fills rows of `width` tokens with documents one after another; a document that does not fit is cut and goes on
    in the next row. Packed documents do not see each other: they have positions and document ids of their own.

    The documents that wait in the buffer are state, so a resumed packer yields the same rows.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.buffer: list[int] = []
        self.starts: list[int] = []
        """Offsets in the buffer at which documents start."""

    def add(self, document: Sequence[int]) -> None:
        """Puts a document at the end of the buffer."""
        self.starts.append(len(self.buffer))
        self.buffer.extend(document)

    def ready(self) -> bool:
        """Whether a whole row, and the target of its last token, is there."""
        return len(self.buffer) > self.width

    def row(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """ids, targets, positions and documents of the next row, [width] each.

        A token's target is the next token of its own document; the last token of a document (the separator) has none.
        """
        window = torch.tensor(self.buffer[: self.width + 1])
        begins = torch.zeros(self.width + 1, dtype=torch.long)
        begins[[start for start in self.starts if start <= self.width]] = 1
        documents = begins.cumsum(0)
        targets = torch.where(documents[1:] == documents[:-1], window[1:], -1)
        places = torch.arange(self.width)
        first = torch.where(begins[:-1] == 1, places, 0).cummax(0).values
        self.buffer = self.buffer[self.width :]
        self.starts = [start - self.width for start in self.starts if start >= self.width]
        return window[:-1], targets, places - first, documents[:-1]

    def state_dict(self) -> dict[str, Any]:
        return {"buffer": torch.tensor(self.buffer, dtype=torch.long), "starts": list(self.starts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.buffer, self.starts = state["buffer"].tolist(), list(state["starts"])


def stack_packed(rows: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]) -> Batch:
    """Packed rows → one batch with targets, positions and document ids."""
    ids, targets, positions, documents = (torch.stack(parts) for parts in zip(*rows, strict=True))
    lengths = torch.full((len(ids),), ids.shape[1])
    return Batch(ids, lengths, {"targets": targets}, {}, positions, documents)
