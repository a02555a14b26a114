"""Weights averaged over a training: smoother, and often better, than those of its last step.

An average watches the fp32 masters after every update; what it holds is part of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from headwater.errors import UserError
from headwater.training.settings import AveragingSettings

Weights = Mapping[str, Tensor]
"""Parameters by name, in fp32."""


class Average(Protocol):
    """What a learner asks of an average."""

    def observe(self, weights: Weights) -> None:
        """Hears the weights after an update."""

    def weights(self) -> dict[str, Tensor] | None:
        """The average so far; None before there is any."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def average_of(settings: AveragingSettings, steps: int) -> Average | None:
    """The average that the settings ask for, or None.

    steps: of the whole training. Raises UserError where it is too short for the snapshots.
    """
    if settings.last * settings.every > steps:
        raise UserError(
            f"{settings.last} snapshots, one every {settings.every} steps, do not fit in {steps} steps of training: "
            "make `averaging.every` or `averaging.last` smaller."
        )
    if settings.ema:
        return ExponentialAverage(settings.ema)
    return LastSnapshots(settings.last, settings.every) if settings.last else None


class ExponentialAverage:
    """θ̄ₜ = Σᵢ dᵗ⁻ⁱ θᵢ / Σᵢ dᵗ⁻ⁱ over the updates i = 1 … t, with decay d.

    Corrected for its start as in Kingma & Ba 2015, section 7.2, so the first weights have no share of their own: the
    weight of the newest is (1 − d) / (1 − dᵗ), which falls from 1 to 1 − d.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._average: dict[str, Tensor] = {}

    @torch.no_grad()
    def observe(self, weights: Weights) -> None:
        self.updates += 1
        if not self._average:
            self._average = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        share = (1 - self.decay) / (1 - self.decay**self.updates)
        for name, average in self._average.items():
            average.lerp_(weights[name], share)

    def weights(self) -> dict[str, Tensor] | None:
        return dict(self._average) or None

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "average": dict(self._average)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        self._average = {name: tensor.clone() for name, tensor in state["average"].items()}


class LastSnapshots:
    """The mean of the last `count` snapshots, one every `every` updates: the checkpoint averaging of Vaswani et al. 2017."""

    def __init__(self, count: int, every: int) -> None:
        self.count, self.every = count, every
        self.updates = 0
        self.snapshots: list[dict[str, Tensor]] = []

    def observe(self, weights: Weights) -> None:
        self.updates += 1
        if self.updates % self.every == 0:
            self.snapshots.append({name: weight.detach().clone() for name, weight in weights.items()})
            del self.snapshots[: -self.count]

    def weights(self) -> dict[str, Tensor] | None:
        return mean_weights(self.snapshots) if self.snapshots else None

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "snapshots": list(self.snapshots)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates, self.snapshots = state["updates"], list(state["snapshots"])


@torch.no_grad()
def mean_weights(sets: Iterable[Weights]) -> dict[str, Tensor]:
    """The mean of several models' weights, parameter by parameter; they must have the same names and shapes."""
    total: dict[str, Tensor] = {}
    count = 0
    for count, weights in enumerate(sets, 1):
        if count > 1 and weights.keys() != total.keys():
            raise ValueError(f"not the same model: {sorted(weights.keys() ^ total.keys())} differ")
        for name, weight in weights.items():
            total[name] = weight.double() if count == 1 else total[name].add_(weight)
    if not count:
        raise ValueError("no weights to average")
    return {name: tensor.div_(count).float() for name, tensor in total.items()}
