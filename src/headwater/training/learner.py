"""A learner: a module, its fp32 masters, and all that moves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from headwater.training import optimisers
from headwater.training.averaging import Average
from headwater.training.precision import DTYPES
from headwater.training.schedule import rate
from headwater.training.settings import OptimiserSettings, ScheduleSettings


class Learner:
    """A module with all that moves it: fp32 masters, optimisers by role, schedule, clip; perhaps an average of its weights.

    Frozen weights have no master and are in no checkpoint; `release` gives them back as they were.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: OptimiserSettings,
        schedule: ScheduleSettings,
        precision: str = "fp32",
        average: Average | None = None,
    ) -> None:
        dtype = DTYPES[precision]
        self.module, self.settings, self.schedule, self.average = module, settings, schedule, average
        self.separate = dtype != torch.float32
        self.masters: dict[str, Tensor] = {
            name: torch.nn.Parameter(parameter.detach().clone()) if self.separate else parameter
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        self.frozen: dict[str, Tensor] = {
            name: parameter.detach().clone() if self.separate else parameter
            for name, parameter in module.named_parameters()
            if not parameter.requires_grad
        }
        module.to(dtype)
        self.optimisers = optimisers.build(module, self.masters, settings, dtype)

    def collect_gradients(self) -> None:
        """Adds the module's gradients to the masters', so that accumulation is in fp32."""
        if not self.separate:
            return
        for name, parameter in self.module.named_parameters():
            if parameter.grad is not None:
                master = self.masters[name]
                master.grad = parameter.grad.float() if master.grad is None else master.grad.add_(parameter.grad)
                parameter.grad = None

    def gradient_norm(self) -> Tensor | None:
        """Euclidean norm over all masters, or None where there is no gradient at all."""
        gradients = [master.grad for master in self.masters.values() if master.grad is not None]
        return torch.nn.utils.get_total_norm(gradients) if gradients else None

    def update(self, norm: Tensor, progress: float) -> None:
        """Clips, steps, and writes the masters back into the module."""
        torch.nn.utils.clip_grads_with_norm_(self.masters.values(), self.settings.clip, norm)
        factor = rate(self.schedule, progress)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor
            optimiser.step()
        self._write(self.masters)
        if self.average:
            self.average.observe(self.masters)

    @torch.no_grad()
    def _write(self, weights: Mapping[str, Tensor]) -> None:
        """Gives the module these weights, in its precision."""
        for name, parameter in self.module.named_parameters():
            if name in weights and parameter is not weights[name]:
                parameter.copy_(weights[name])

    def released_weights(self) -> dict[str, Tensor]:
        """What `release` would give now: the average where there is one, otherwise the masters. Not a copy."""
        return (self.average.weights() if self.average else None) or self.masters

    @contextmanager
    def as_released(self) -> Iterator[None]:
        """Within it the module has the weights that `release` would give now: to measure them on the way."""
        if self.average is None:
            yield
            return
        kept = {
            name: parameter.detach().clone()
            for name, parameter in self.module.named_parameters()
            if name in self.masters
        }
        self._write(self.released_weights())
        try:
            yield
        finally:
            self._write(kept)

    def release(self, weights: Mapping[str, Tensor] | None = None) -> nn.Module:
        """The module in fp32 with `weights`, by default the average where there is one, when training is over."""
        self.module.float()
        self._write(self.frozen)
        self._write(self.released_weights() if weights is None else weights)
        return self.module

    def clear(self) -> None:
        for master in self.masters.values():
            master.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {
            "masters": dict(self.masters),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "average": self.average.state_dict() if self.average else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(state["masters"][name])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        if self.average:
            self.average.load_state_dict(state["average"])
        self._write(self.masters)
