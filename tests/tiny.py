"""Models that are small enough to train within a test, and sources that hand out given batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from headwater.models.config import TransformerConfig
from headwater.models.model import Kind, Model
from headwater.training.batch import Batch
from headwater.training.learner import Learner
from headwater.training.settings import OptimiserSettings, ScheduleSettings
from headwater.training.source import Counted

CONSTANT = ScheduleSettings(name="constant")


def tiny_config(vocabulary: int = 60, **changes: Any) -> TransformerConfig:
    """Two layers, grouped queries, 32 wide."""
    sizes: dict[str, Any] = {
        "layers": 2,
        "d_model": 32,
        "heads": 4,
        "key_value_heads": 2,
        "head_dim": 8,
        "d_feedforward": 64,
        "context": 64,
    }
    return TransformerConfig(vocabulary=vocabulary, **(sizes | changes))


def tiny_model(kind: Kind = "language-model", seed: int = 1, **changes: Any) -> Model:
    return Model(tiny_config(**changes), kind).initialise(seed)


def lively_model(seed: int = 1, factor: float = 20.0, **changes: Any) -> Model:
    """A language model with far from uniform predictions: fresh embeddings are too small for that."""
    model = tiny_model(seed=seed, **changes)
    with torch.no_grad():
        model.backbone.embedding.weight.mul_(factor)
    return model


def learner(model: Model, precision: str = "fp32", schedule: ScheduleSettings = CONSTANT, **settings: Any) -> Learner:
    return Learner(model, OptimiserSettings(**settings), schedule, precision)


def weights_of(model: Model) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same_weights(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class GivenUpdates(Counted):
    """A source that hands out the updates it was given, one after the other."""

    def __init__(self, updates: Sequence[list[Batch]]) -> None:
        super().__init__(len(updates))
        self.updates = list(updates)

    def take(self) -> list[Batch] | None:
        if self.step == len(self.updates):
            return None
        self.step += 1
        return self.updates[self.step - 1]
