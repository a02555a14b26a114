"""Extractive question answering: where in a text the answer begins and ends (Devlin et al., 2019, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from headwater.models.model import Model
from headwater.training.batch import Batch, Row
from headwater.training.engine import Term


class AnswerSpan:
    """Σ −½ (log p(first token) + log p(last token)) over rows, from the span head; padding is no choice.

    Rows whose two ends are both right are measured beside it.
    """

    def prepare(self, tokens: Sequence[int], first: int, last: int) -> Row:
        """Tokens of question and text, and the places of the answer's ends in them; (0, 0) where there is no answer.

        Raises ValueError where an end lies outside the row, or the last before the first.
        """
        if not 0 <= first <= last < len(tokens):
            raise ValueError(f"the answer {first} to {last} does not lie in a row of {len(tokens)} tokens")
        return Row(torch.tensor(tokens), per_row={"first": first, "last": last})

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(len(batch)), "accuracy": float(len(batch))}

    def logits(self, modules: Mapping[str, Model], batch: Batch) -> tuple[Tensor, Tensor]:
        """Of the answer's first and last token, [rows, time] each; −∞ on padding."""
        real = batch.documents_or_padding()
        logits = modules["model"](batch.ids, documents=real).float()
        first, last = logits.masked_fill((real == 0)[..., None], -torch.inf).unbind(-1)
        return first, last

    def loss(self, modules: Mapping[str, Model], batch: Batch) -> dict[str, Term]:
        total, right = torch.zeros(()), torch.ones(len(batch), dtype=torch.bool)
        for logits, name in zip(self.logits(modules, batch), ("first", "last"), strict=True):
            total = total + functional.cross_entropy(logits, batch.per_row[name], reduction="sum") / 2
            right = right & (logits.argmax(dim=-1) == batch.per_row[name])
        return {"loss": Term(total), "accuracy": Term(right.sum().float(), weight=0)}
