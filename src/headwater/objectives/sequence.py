"""Sequence to sequence: an answer is learnt token by token, given its source and its own beginning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from headwater.models.model import Model
from headwater.objectives.tokens import TokenObjective
from headwater.training.batch import Batch, Row
from headwater.training.engine import Term


class SequenceToSequence(TokenObjective):
    """Σ −log p(target token) of an encoder-decoder, which reads the true beginning (teacher forcing).

    start: the token before the first, the model's `decoder_start`. label_smoothing: ε (Szegedy et al., 2016; Vaswani et
    al., 2017: 0.1).
    """

    def __init__(self, start: int, label_smoothing: float = 0.0) -> None:
        self.start, self.label_smoothing = start, label_smoothing

    def pair(self, source: Sequence[int], target: Sequence[int]) -> Row:
        """Tokens of a source and of its target, the closing token included, at least one each → a row.

        Close the source as well: with rotary positions, which only tell distances, its tokens otherwise have nothing to
        be counted from, and even copying is learnt slowly.
        """
        targets = torch.tensor(target)
        ids = torch.cat((torch.tensor([self.start]), targets[:-1]))
        return Row(ids, {"targets": targets}, source=torch.tensor(source))

    def hidden(self, modules: Mapping[str, Model], batch: Batch) -> Tensor:
        """The decoder's states that predict the targets, [rows, time, d_model]."""
        return modules["model"].backbone(*batch.inputs())  # type: ignore[no-any-return]

    def loss(self, modules: Mapping[str, Model], batch: Batch) -> dict[str, Term]:
        head, targets = modules["model"].language_model, batch.per_token["targets"]
        return {"loss": Term(head.loss(self.hidden(modules, batch), targets, self.label_smoothing))}
