"""Rows and batches: what every objective prepares and every model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from headwater.models.heads import IGNORED
from headwater.models.shared_start import common_length

READ_BUDGET, LEARN_BUDGET = 4096, 1024
"""Tokens of a micro-batch, padding counted: where it is only read, and where it is learnt from or all its logits are kept."""


@dataclass
class Row:
    """One sequence. `per_token` holds values beside each token ([time]), `per_row` single numbers.

    source: what the encoder of an encoder-decoder reads, [source_time]; `ids` are the decoder's then.
    """

    ids: Tensor
    per_token: dict[str, Tensor] = field(default_factory=dict)
    per_row: dict[str, Any] = field(default_factory=dict)
    source: Tensor | None = None

    def __len__(self) -> int:
        """Tokens of the row, those of its source included."""
        return len(self.ids) + (0 if self.source is None else len(self.source))


@dataclass
class Batch:
    """Rows side by side, padded on the right.

    ids: [rows, time]; lengths: [rows], real tokens of each row. positions and documents ([rows, time]) are there only
    where several documents are packed into a row. per_token: name → [rows, time]; per_row: name → [rows]. source:
    [rows, source_time] and source_lengths: [rows], of an encoder-decoder.
    """

    ids: Tensor
    lengths: Tensor
    per_token: dict[str, Tensor] = field(default_factory=dict)
    per_row: dict[str, Tensor] = field(default_factory=dict)
    positions: Tensor | None = None
    documents: Tensor | None = None
    source: Tensor | None = None
    source_lengths: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """Real tokens, without padding; those of the sources included."""
        return int(self.lengths.sum()) + (0 if self.source_lengths is None else int(self.source_lengths.sum()))

    def documents_or_padding(self) -> Tensor:
        """What an encoder must be told, [rows, time]: the packed documents, or 1 for real tokens and 0 for padding."""
        if self.documents is not None:
            return self.documents
        return _real(self.lengths, self.ids.shape[1])

    def inputs(self) -> tuple[Tensor | None, ...]:
        """What the backbone of a decoder, or of an encoder-decoder where rows have a source, is called with."""
        if self.source is None:
            return self.ids, self.positions, self.documents
        return self.source, self.ids, self.source_padding()

    def source_padding(self) -> Tensor:
        """1 for the real tokens of the sources and 0 for padding, [rows, source_time]."""
        assert self.source is not None
        assert self.source_lengths is not None
        return _real(self.source_lengths, self.source.shape[1])


PADDING = {"targets": IGNORED}
"""What fills a per-token value past the end of its row; 0 where not named. Ids are padded with 0: they are never read."""


def _real(lengths: Tensor, width: int) -> Tensor:
    return (torch.arange(width) < lengths[:, None]).long()


def collate(rows: Sequence[Row]) -> Batch:
    """Rows → one batch, as wide as its longest row. Either all rows have a source or none."""
    ids, lengths = _side_by_side([row.ids for row in rows])
    per_token = {
        name: torch.stack([_padded(row.per_token[name], ids.shape[1], PADDING.get(name, 0)) for row in rows])
        for name in rows[0].per_token
    }
    per_row = {name: torch.tensor([row.per_row[name] for row in rows]) for name in rows[0].per_row}
    sources = [row.source for row in rows if row.source is not None]
    source, source_lengths = _side_by_side(sources) if sources else (None, None)
    return Batch(ids, lengths, per_token, per_row, source=source, source_lengths=source_lengths)


def _side_by_side(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Token ids padded to the longest, [rows, time], and their lengths, [rows]."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    width = int(lengths.max())
    return torch.stack([_padded(sequence, width, 0) for sequence in sequences]), lengths


def _padded(values: Tensor, width: int, fill: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, width - len(values)), value=fill)


def split_by_tokens(rows: Sequence[Row], budget: int, shares: bool = False) -> list[Batch]:
    """Rows → micro-batches of at most `budget` padded tokens each, sources included; rows of like length stand together.

    shares: whoever reads them reads a beginning that all rows share once (`Model.shares_beginnings`), so it counts once.
    Losses are sums over the whole update, so the split changes nothing but speed and memory.
    """
    shared = common_length([row.ids for row in rows]) if shares and all(row.source is None for row in rows) else 0
    ordered = sorted(rows, key=lambda row: (len(row), len(row.ids)), reverse=True)
    batches: list[Batch] = []
    together: list[Row] = []
    widths = 0, 0
    for row in ordered:
        wider = max(widths[0], len(row.ids)), max(widths[1], len(row) - len(row.ids))
        if together and shared + (sum(wider) - shared) * (len(together) + 1) > budget:
            batches.append(collate(together))
            together, wider = [], (len(row.ids), len(row) - len(row.ids))
        together.append(row)
        widths = wider
    return [*batches, collate(together)] if together else batches


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
        targets = torch.where(documents[1:] == documents[:-1], window[1:], IGNORED)
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
