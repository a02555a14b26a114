"""What objectives that predict single tokens have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor

from headwater.models.heads import IGNORED
from headwater.models.model import Model
from headwater.training.batch import Batch
from headwater.training.engine import Term


class TokenObjective(ABC):
    """Σ −log p(target) over all tokens that have a target; the model is the module `model`."""

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"loss": float((batch.per_token["targets"] != IGNORED).sum())}

    @abstractmethod
    def hidden(self, modules: Mapping[str, Model], batch: Batch) -> Tensor:
        """The states that predict the targets, [rows, time, d_model]."""

    def loss(self, modules: Mapping[str, Model], batch: Batch) -> dict[str, Term]:
        hidden = self.hidden(modules, batch)
        return {"loss": Term(modules["model"].language_model.loss(hidden, batch.per_token["targets"]))}
