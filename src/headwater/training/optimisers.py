"""Optimisers by role. Each parameter is moved by exactly one: Muon takes whole matrices inside the blocks, where it is
chosen; the named optimiser (AdamW beside Muon) moves the rest. Embeddings, heads, gains and biases have no weight decay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from headwater.training.settings import OptimiserSettings

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, dtype: torch.dtype, iterations: int = 5) -> Tensor:
    """Newton–Schulz iteration towards the nearest (semi-)orthogonal matrix (Jordan et al., 2024).

    matrices: [count, rows, columns] → the same shape, singular values between about 0.7 and 1.2.
    """
    a, b, c = _COEFFICIENTS
    states = matrices.to(dtype)
    tall = states.shape[-2] > states.shape[-1]
    if tall:
        states = states.transpose(-2, -1)
    states = states / states.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):
        gram = states @ states.transpose(-2, -1)
        states = torch.baddbmm(states, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), states, beta=a)
    return states.transpose(-2, -1) if tall else states


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised (Jordan et al., 2024), with Nesterov's look-ahead.

    The same function as `torch.optim.Muon`, which always computes in bf16 and one matrix at a time: here matrices of
    one shape go together, in the precision that this processor is fast at.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        learning_rate: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(parameters, {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # noqa: ARG002
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                directions = orthogonalise(torch.stack([self._direction(p, group) for p in parameters]), self.dtype)
                scale = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for parameter, direction in zip(parameters, directions, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(direction.to(parameter.dtype), alpha=-scale)
        return None

    def _direction(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        assert parameter.grad is not None
        state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
        return parameter.grad.lerp(state["momentum_buffer"], group["momentum"])


def build(
    module: nn.Module, masters: dict[str, Tensor], settings: OptimiserSettings, matrix_dtype: torch.dtype
) -> list[torch.optim.Optimizer]:
    """The optimisers of a module's fp32 masters (by parameter name), each parameter in exactly one."""
    embeddings = {f"{place}.weight" for place, part in module.named_modules() if isinstance(part, nn.Embedding)}
    roles: dict[str, list[Tensor]] = defaultdict(list)
    for name, master in masters.items():
        roles["plain" if name in embeddings else role(name, master, settings)].append(master)
    optimisers: list[torch.optim.Optimizer] = []
    if roles["muon"]:
        rate, decay = settings.matrix_learning_rate, settings.weight_decay
        optimisers.append(Muon(roles["muon"], rate, weight_decay=decay, dtype=matrix_dtype))
    groups = [
        {"params": roles["decayed"], "weight_decay": settings.weight_decay},
        {"params": roles["plain"], "weight_decay": 0.0},
    ]
    if roles["decayed"] or roles["plain"]:
        optimisers.append(_other_than_muon([group for group in groups if group["params"]], settings))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return optimisers


def role(name: str, parameter: Tensor, settings: OptimiserSettings) -> str:
    """ "muon", "decayed" or "plain": what moves the parameter of this name, if it is no embedding."""
    if sum(size > 1 for size in parameter.shape) < 2 or name.startswith("heads."):
        return "plain"
    if settings.name == "muon" and "blocks." in name and parameter.dim() == 2:
        return "muon"
    return "decayed"


def _other_than_muon(groups: list[dict[str, Any]], settings: OptimiserSettings) -> torch.optim.Optimizer:
    """The optimiser of all that Muon does not take."""
    rate = settings.learning_rate
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum, nesterov=settings.nesterov)
    if settings.name == "adafactor":
        return torch.optim.Adafactor(groups, lr=rate)
    adam = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return adam(groups, lr=rate, betas=settings.betas, eps=settings.epsilon, fused=True)
