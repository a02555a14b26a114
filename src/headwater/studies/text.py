"""Real text for studies, byte by byte, so that figures are bits per byte and no tokenizer stands between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from headwater.corpus.samples import WIKIPEDIA, read_wikipedia
from headwater.corpus.shares import hash_fraction
from headwater.packages import fetch
from headwater.training.batch import Batch, Row, collate

VOCABULARY = 256
SEPARATOR = 0
"""The byte between documents, which no text holds."""
HELDOUT = 0.05


@dataclass(frozen=True)
class ByteText:
    """Documents one after another as bytes, [bytes] each: those to learn from, and others."""

    train: Tensor
    heldout: Tensor

    def batch(self, seed: int, step: int, rows: int, width: int) -> Batch:
        """`rows` windows of `width` bytes with the next byte as target: a function of seed and step."""
        generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
        starts = torch.randint(0, len(self.train) - width - 1, (rows,), generator=generator).tolist()
        return collate([_row(self.train[start : start + width + 1]) for start in starts])

    def heldout_batch(self, rows: int, width: int) -> Batch:
        """The first `rows` windows of the held-out text."""
        count = min(rows, (len(self.heldout) - 1) // width)
        return collate([_row(self.heldout[index * width : (index + 1) * width + 1]) for index in range(count)])


def _row(window: Tensor) -> Row:
    ids = window.long()
    return Row(ids[:-1], {"targets": ids[1:].clone()})


def byte_text(documents: Iterable[str]) -> ByteText:
    """Splits documents by the hash of their text, so that the same one is always on the same side."""
    sides: tuple[bytearray, bytearray] = bytearray(), bytearray()
    for document in documents:
        side = sides[1 if hash_fraction("study", document) < HELDOUT else 0]
        side += document.encode("utf-8", "replace").replace(b"\0", b"") + bytes([SEPARATOR])
    train, heldout = (torch.frombuffer(side, dtype=torch.uint8).clone() for side in sides)
    return ByteText(train, heldout)


def wikipedia(cache: Path) -> ByteText:
    """The leads of English Wikipedia articles (CC BY-SA 4.0)."""
    return byte_text(document["text"] for document in read_wikipedia(fetch(WIKIPEDIA, cache)))
