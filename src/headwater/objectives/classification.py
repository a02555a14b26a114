"""Classification: a row's class is learnt from all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional

from headwater.models.model import Model
from headwater.training.batch import Batch, Row
from headwater.training.engine import Term


class Classification:
    """Σ −log p(class) over rows, from the class head; the share of right ones is measured beside it."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def prepare(self, tokens: Sequence[int], label: int) -> Row:
        """A text's tokens and the number of its class."""
        return Row(torch.tensor(tokens), per_row={"label": label})

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(len(batch)), "accuracy": float(len(batch))}

    def loss(self, modules: Mapping[str, Model], batch: Batch) -> dict[str, Term]:
        logits = modules["model"](batch.ids, documents=batch.documents_or_padding()).float()
        labels = batch.per_row["label"]
        losses = functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=self.label_smoothing)
        right = (logits.argmax(dim=-1) == labels).sum()
        return {"loss": Term(losses), "accuracy": Term(right.float(), weight=0)}
