"""How a model knows where a token stands: rotary, sinusoidal, relative and linear-bias positions as pure functions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from headwater.models.config import RopeScaling, TransformerConfig


def rotary_frequencies(config: TransformerConfig) -> tuple[Tensor, float]:
    """Angle per position of each pair of dimensions (Su et al., 2021), [head_dim / 2], and the factor on cosine and sine."""
    width, base, scaling = config.head_dim, config.rope_base, config.rope_scaling
    frequencies = 1.0 / base ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    if scaling is None:
        return frequencies, 1.0
    if scaling.kind == "linear":
        return frequencies / scaling.factor, 1.0
    if scaling.kind == "llama3":
        return _llama3(frequencies, scaling), 1.0
    return _yarn(frequencies, scaling, width, base)


def _yarn(frequencies: Tensor, scaling: RopeScaling, width: int, base: float) -> tuple[Tensor, float]:
    """Peng et al. (2023), eq. 18–22: slow frequencies are divided by the factor, fast ones stay, a ramp between."""

    def dimension(turns: float) -> float:
        """The pair that makes so many turns within the original context."""
        return width * math.log(scaling.original_context / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(dimension(scaling.fast)), 0)
    high = min(math.ceil(dimension(scaling.slow)), width - 1)
    pairs = torch.arange(width // 2, dtype=torch.float32)
    divided = ((pairs - low) / max(high - low, 1e-3)).clamp(0, 1)
    mixed = frequencies / scaling.factor * divided + frequencies * (1 - divided)
    sharper = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0
    return mixed, sharper if scaling.attention_factor is None else scaling.attention_factor


def _llama3(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """As Llama 3.1 does: by the number of turns within the original context, divided, kept, or between."""
    turns = scaling.original_context * frequencies / (2 * math.pi)
    kept = ((turns - scaling.slow) / (scaling.fast - scaling.slow)).clamp(0, 1)
    return (1 - kept) * frequencies / scaling.factor + kept * frequencies


def rotary_angles(positions: Tensor, config: TransformerConfig, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles, half-split layout.

    positions: [batch or 1, time] → two of [batch or 1, 1, time, head_dim].
    """
    frequencies, factor = rotary_frequencies(config)
    angles = positions[..., None].float() * frequencies
    angles = torch.cat((angles, angles), dim=-1)[:, None]
    cosine, sine = angles.cos(), angles.sin()
    if factor != 1.0:
        cosine, sine = cosine * factor, sine * factor
    return cosine.to(dtype), sine.to(dtype)


def rotate(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turns queries or keys [batch, heads, time, head_dim] by their positions' angles."""
    half = states.shape[-1] // 2
    turned = states * cosine
    turned[..., :half].addcmul_(states[..., half:], sine[..., :half], value=-1)
    turned[..., half:].addcmul_(states[..., :half], sine[..., half:])
    return turned


class Rotate(torch.autograd.Function):
    """`rotate`, whose gradient is the turn back."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return rotate(states, cosine, sine)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return rotate(gradients[0], cosine, -sine), None, None


def sinusoids(positions: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """sin(pos / 10000^(2i/d)) in the first half, cos in the second (Vaswani et al., 2017), [..., width].

    The paper interleaves the two, which is the same up to the order of dimensions.
    """
    rates = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = positions[..., None].double() * rates
    return torch.cat((angles.sin(), angles[..., : width // 2].cos()), dim=-1).to(dtype)


def linear_biases(query_positions: Tensor, key_positions: Tensor, heads: int) -> Tensor:
    """−slope · distance, added to the scores (ALiBi; Press et al., 2022).

    query_positions [batch, time], key_positions [batch, keys] → [batch, heads, time, keys].
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (index + 1) / power) for index in range(power)]
    slopes += [2 ** (-4 * (2 * index + 1) / power) for index in range(heads - power)]
    distances = (query_positions[:, :, None] - key_positions[:, None, :]).abs()
    return -torch.tensor(slopes)[:, None, None] * distances[:, None].float()


def relative_buckets(distances: Tensor, buckets: int, farthest: int, causal: bool) -> Tensor:
    """T5's bucket of each distance key − query (Raffel et al., 2020): exact for near ones, logarithmic up to `farthest`.

    distances: any shape, integers → the same shape, 0 ≤ bucket < buckets.
    """
    found = torch.zeros_like(distances)
    if causal:
        far = (-distances).clamp(min=0)
    else:
        buckets //= 2
        found += (distances > 0).long() * buckets
        far = distances.abs()
    exact = buckets // 2
    steps = (far.float().clamp(min=1) / exact).log() / math.log(farthest / exact) * (buckets - exact)
    logarithmic = (exact + steps.long()).clamp(max=buckets - 1)
    return found + torch.where(far < exact, far, logarithmic)
