"""How fresh weights are drawn: named schemes, each with its source.

What makes a start stable is the size of the signal: it must neither grow nor vanish from layer to layer, forward and
backward. `headwater diagnose` shows it, and the study `start` shows what becomes of a bad one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from headwater.models.config import TransformerConfig

_RESIDUAL_OUTPUTS = ("attention.output.weight", "cross.output.weight", "feedforward.down.weight")


def _fan_in(weight: Tensor) -> int:
    return weight[0].numel()


def _on_residual_branch(name: str, config: TransformerConfig) -> float:
    """1/√(2·blocks) for matrices that write into the residual stream, so that it keeps its size at any depth."""
    return 1 / math.sqrt(2 * config.depth) if name.endswith(_RESIDUAL_OUTPUTS) else 1.0


def _scaled(name: str, weight: Tensor, config: TransformerConfig) -> float:
    """1/√fan_in (LeCun et al., 1998) and residual branches scaled as in GPT-2; embeddings 0.02."""
    if "embedding" in name or name.startswith("inputs."):
        return 0.02
    return 1 / math.sqrt(_fan_in(weight)) * _on_residual_branch(name, config)


def _gpt2(name: str, weight: Tensor, config: TransformerConfig) -> float:  # noqa: ARG001
    """0.02 everywhere, residual branches scaled (Radford et al., 2019)."""
    return 0.02 * _on_residual_branch(name, config)


def _bert(name: str, weight: Tensor, config: TransformerConfig) -> float:  # noqa: ARG001
    """0.02 everywhere (Devlin et al., 2019)."""
    return 0.02


def _xavier(name: str, weight: Tensor, config: TransformerConfig) -> float:
    """√(2 / (fan_in + fan_out)) (Glorot & Bengio, 2010); embeddings 1/√d_model (Vaswani et al., 2017)."""
    if "embedding" in name or name.startswith("inputs."):
        return 1 / math.sqrt(config.d_model)
    return math.sqrt(2 / (_fan_in(weight) + len(weight)))


def _kaiming(name: str, weight: Tensor, config: TransformerConfig) -> float:  # noqa: ARG001
    """√(2 / fan_in) for matrices (He et al., 2015); embeddings 0.02."""
    return 0.02 if "embedding" in name or name.startswith("inputs.") else math.sqrt(2 / _fan_in(weight))


def _small(name: str, weight: Tensor, config: TransformerConfig) -> float:  # noqa: ARG001
    """√(2 / (5·d_model)) everywhere (Nguyen & Salazar, 2019)."""
    return math.sqrt(2 / (5 * config.d_model))


def _t5(name: str, weight: Tensor, config: TransformerConfig) -> float:
    """Raffel et al. (2020): embeddings 1, queries also divided by √head_dim, since scores are not."""
    if name.startswith("embedding"):
        return 1.0
    if name.endswith("relative.weight"):
        return 1 / math.sqrt(config.d_model)
    return 1 / math.sqrt(_fan_in(weight)) * (1 / math.sqrt(config.head_dim) if name.endswith(".query.weight") else 1.0)


def _unit(name: str, weight: Tensor, config: TransformerConfig) -> float:  # noqa: ARG001
    """1 everywhere: a bad start, to see what it does."""
    return 1.0


SCHEMES: dict[str, Callable[[str, Tensor, TransformerConfig], float]] = {
    "scaled": _scaled,
    "gpt2": _gpt2,
    "bert": _bert,
    "xavier": _xavier,
    "kaiming": _kaiming,
    "small": _small,
    "t5": _t5,
    "unit": _unit,
}
"""Name → standard deviation of a normal distribution for each matrix."""


def initialise(module: nn.Module, config: TransformerConfig, scheme: str, generator: torch.Generator) -> None:
    """Fresh weights: matrices and embeddings by the scheme, biases 0; gains keep their 1."""
    embeddings_first = sorted(module.named_parameters(), key=lambda item: not item[0].startswith("embedding"))
    for name, parameter in embeddings_first:
        if parameter.dim() >= 2:
            nn.init.normal_(parameter, std=SCHEMES[scheme](name, parameter, config), generator=generator)
        elif name.endswith(".bias"):
            nn.init.zeros_(parameter)
