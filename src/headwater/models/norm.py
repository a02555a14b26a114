"""Normalisation over the last dimension."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from headwater.models.config import TransformerConfig


def _normalise(hidden: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """x / rms(x) · w, x / rms(x), and 1 / rms(x)."""
    norm = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=torch.float32)
    inverse = torch.rsqrt(norm.square_().div_(hidden.shape[-1]).add_(epsilon)).to(hidden.dtype)
    normalised = hidden * inverse
    return normalised * weight, normalised, inverse


class _Normalise(torch.autograd.Function):
    """x / rms(x) · w with a backward pass in few sweeps over memory, which is what elementwise chains cost."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        scaled, normalised, inverse = _normalise(hidden, weight, epsilon)
        ctx.save_for_backward(normalised, weight, inverse)
        return scaled

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        normalised, weight, inverse = ctx.saved_tensors
        product = gradient * normalised
        weight_gradient = product.flatten(0, -2).sum(dim=0)
        along = product.mul_(weight).mean(dim=-1, keepdim=True)
        return (gradient * weight).addcmul_(normalised, along, value=-1).mul_(inverse), weight_gradient, None


class RMSNorm(nn.Module):
    """x / √(mean x² + ε) · w over the last dimension (Zhang & Sennrich, 2019)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        if not torch.is_grad_enabled():  # an autograd function costs as much as what it computes for one token
            return _normalise(hidden, self.weight, self.epsilon)[0]
        return _Normalise.apply(hidden, self.weight, self.epsilon)  # type: ignore[no-any-return, no-untyped-call]


def norm_of(config: TransformerConfig) -> nn.Module:
    """The norm that this configuration names, over d_model; layer norm is Ba et al. (2016)."""
    if config.norm == "rms":
        return RMSNorm(config.d_model, config.norm_epsilon)
    return nn.LayerNorm(config.d_model, config.norm_epsilon)
