"""Long texts and hidden passkeys as rows of bytes, and how well a model reads them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from headwater.corpus.samples import SPEECHES, read_speeches
from headwater.corpus.shares import hash_fraction
from headwater.models.heads import IGNORED
from headwater.models.model import Model
from headwater.objectives.causal import CausalLM
from headwater.packages import fetch
from headwater.studies.text import HELDOUT, SEPARATOR
from headwater.tasks.passkey import DIGITS, passkey
from headwater.tasks.synthetic import GO, Example, Split
from headwater.training.batch import Batch, Row, collate
from headwater.training.engine import Term

TOKENS_AT_ONCE = 16_384
"""Tokens per forward pass of a measurement."""


class ByteTokenizer:
    """A token per byte."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


@dataclass(frozen=True)
class LongText:
    """Long documents as bytes: those to learn from, one after another, and others."""

    train: bytes
    heldout: Sequence[bytes]

    def rows(self, length: int, count: int) -> Tensor:
        """Held-out stretches of `length` + 1 bytes, each within one document, [count or fewer, length + 1]."""
        cut = [
            document[start : start + length + 1]
            for document in self.heldout
            for start in range(0, len(document) - length, length)
        ]
        chosen = random.Random("heldout rows").sample(cut, min(count, len(cut)))
        return torch.tensor([list(row) for row in chosen], dtype=torch.long)

    def example(self, split: Split, seed: int, index: int, length: int, depth: float | None = None) -> Example:
        """A passkey within text of its split."""
        text = self.train if split == "train" else bytes([SEPARATOR]).join(self.heldout)
        return passkey(text, ByteTokenizer(), split, seed, index, length, depth)

    def batch(self, seed: int, step: int, rows: int, width: int, passkeys: float, shortest: int) -> Batch:
        """Text, and a share of rows with passkeys: a function of seed and step.

        A row with passkeys is filled with texts of `shortest` tokens or more, one after another, each with its own key.
        """
        generator = random.Random(f"long {seed} {step}")
        chosen = []
        for row in range(rows):
            index = step * rows + row
            # Evenly spread: of single rows per step too, every second one for a share of a half.
            if int((index + 1) * passkeys) > int(index * passkeys):
                chosen.append(self._row_of_keys(generator, width, shortest))
            else:
                start = generator.randrange(len(self.train) - width)
                ids = torch.tensor(list(self.train[start : start + width + 1]))
                chosen.append(Row(ids[:-1], {"targets": ids[1:].clone(), "keys": torch.zeros(width, dtype=torch.long)}))
        return collate(chosen)

    def _row_of_keys(self, generator: random.Random, width: int, shortest: int) -> Row:
        parts, room = [], width + 1
        while room:
            length = generator.randint(shortest, room) if room >= 2 * shortest else room
            length = room if room - length < shortest else length
            parts.append(key_tokens(self.example("train", generator.getrandbits(32), 0, length)))
            room -= length
        ids, keys = (torch.cat(values) for values in zip(*parts, strict=True))
        return Row(ids[:-1], {"targets": ids[1:].clone(), "keys": keys[1:].clone()})


def key_tokens(example: Example) -> tuple[Tensor, Tensor]:
    """All tokens of an example, and 1 where they are digits of the key that were read before, 0 elsewhere: [length] each."""
    ids = torch.tensor([*example.source, GO, *example.target])
    begins = (ids.unfold(0, DIGITS, 1) == ids[-DIGITS:]).all(dim=1).nonzero().flatten().tolist()
    keys = torch.zeros_like(ids)
    for begin in begins[1:]:
        keys[begin : begin + DIGITS] = 1
    return ids, keys


class TextAndKeys(CausalLM):
    """The next token of the text, and, as a term of its own, the digits of hidden keys.

    They are one token in fifty: within one mean a small model would learn the text first, and the keys too late.
    """

    def __init__(self, key_weight: float = 1.0) -> None:
        self.weights = {"loss": 1.0, "keys": key_weight}

    def counts(self, batch: Batch) -> dict[str, float]:
        return {name: float((targets != IGNORED).sum()) for name, targets in self._targets(batch).items()}

    def loss(self, modules: Mapping[str, Model], batch: Batch) -> dict[str, Term]:
        hidden, head = self.hidden(modules, batch), modules["model"].language_model
        return {
            name: Term(head.loss(hidden, targets), self.weights[name]) for name, targets in self._targets(batch).items()
        }

    def _targets(self, batch: Batch) -> dict[str, Tensor]:
        """Each term's targets, [rows, time]."""
        targets, keys = batch.per_token["targets"], batch.per_token["keys"].bool()
        return {"loss": targets.masked_fill(keys, IGNORED), "keys": targets.masked_fill(~keys, IGNORED)}


def long_text(documents: Iterable[str]) -> LongText:
    """Splits documents by the hash of their text, so that the same one is always on the same side."""
    train, heldout = bytearray(), []
    for document in documents:
        content = document.encode("utf-8", "replace").replace(bytes([SEPARATOR]), b"")
        if hash_fraction("study", document) < HELDOUT:
            heldout.append(content)
        else:
            train += content + bytes([SEPARATOR])
    return LongText(bytes(train), heldout)


def speeches(cache: Path) -> LongText:
    """The State of the Union addresses (public domain)."""
    return long_text(document["text"] for document in read_speeches(fetch(SPEECHES, cache)))


@torch.inference_mode()
def losses_at_width(model: Model, rows: Tensor, width: int) -> Tensor:
    """Nats per token of the second half of each row, read `width` tokens at once, [rows, length / 2].

    rows: [rows, length + 1] token ids. Each of the tokens stands in the second half of what is read, so it has at least
    width / 2 tokens before it, and the same tokens are measured at every width.
    """
    length, half = rows.shape[1] - 1, width // 2
    starts = range(length // 2 - half, length - width + 1, half)
    windows = torch.stack([rows[:, start : start + width + 1] for start in starts], dim=1).flatten(0, 1)
    losses = [
        model.language_model.token_losses(
            model.backbone(part[:, :-1])[:, half:].flatten(0, 1), part[:, half + 1 :].flatten()
        )
        for part in torch.split(windows, max(1, TOKENS_AT_ONCE // width))
    ]
    return torch.cat(losses).view(len(rows), -1)


@torch.inference_mode()
def losses_by_position(model: Model, rows: Tensor) -> Tensor:
    """Nats per token at each position, the mean over the rows [rows, length + 1] → [length]."""
    losses = [model.language_model.token_losses(model.backbone(row[None, :-1])[0], row[1:]) for row in rows]
    return torch.stack(losses).mean(dim=0)


@torch.inference_mode()
def retrieval(model: Model, examples: Sequence[Example]) -> float:
    """Share of examples of equal length whose answer the model gives whole when it decodes greedily.

    One pass is enough: the answer is right where each of its tokens is the likeliest after the right ones before it.
    """
    ids = torch.tensor([[*each.source, GO, *each.target] for each in examples])
    asked = len(examples[0].target)
    right = 0
    for part in torch.split(ids, max(1, TOKENS_AT_ONCE // ids.shape[1])):
        hidden = model.backbone(part[:, :-1])[:, -asked:]
        right += int((model.head(hidden).argmax(dim=-1) == part[:, -asked:]).all(dim=1).sum())
    return right / len(ids)
