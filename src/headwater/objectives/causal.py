"""Causal language modelling: each token is learnt from those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from headwater.models.model import Model
from headwater.objectives.tokens import TokenObjective
from headwater.training.batch import Batch, Row


class CausalLM(TokenObjective):
    """Σ −log p(next token) over all tokens that have a target; the model is the module `model`.

    `per_token["prefix"]`, where there is one, marks tokens that all others may see.
    """

    def prepare(self, tokens: Sequence[int]) -> Row:
        """A document's tokens → a row whose targets are the next tokens."""
        ids = torch.tensor(tokens)
        return Row(ids[:-1], {"targets": ids[1:].clone()})

    def hidden(self, modules: Mapping[str, Model], batch: Batch) -> Tensor:
        """The states that predict the targets, [rows, time, d_model]."""
        model, prefix = modules["model"], batch.per_token.get("prefix")
        if prefix is None:
            return model.hidden_states(*batch.inputs())
        return model.backbone(*batch.inputs(), prefix=prefix.bool())  # type: ignore[no-any-return]
