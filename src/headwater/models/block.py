"""The parts of a Transformer block: normalisation, rotary positions, self-attention, gated feed-forward.

Shapes: batch, time, d_model; heads × head_dim inside attention. The attention mask is given as an `AttentionView`, made
once per forward pass and shared by all blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from headwater.models.config import DecoderConfig


@dataclass
class AttentionView:
    """Which positions a token has and what it may look at.

    cosine, sine: [batch or 1, 1, time, head_dim], rotary angles of the tokens' positions.
    mask: None for plain causal attention, or [batch or 1, 1, time, keys], added to the scores: 0 where a key may be
    seen, −∞ where not.
    cache: where decoding keeps keys and values, or None.
    """

    cosine: Tensor
    sine: Tensor
    mask: Tensor | None = None
    cache: KeyValueCache | None = None


class KeyValueCache:
    """Keys and values of slots with their own lengths: [layers, slots, key_value_heads, capacity, head_dim] each."""

    def __init__(self, config: DecoderConfig, slots: int, capacity: int, dtype: torch.dtype) -> None:
        shape = (config.layers, slots, config.key_value_heads, capacity, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype)
        self.values = torch.zeros(shape, dtype=dtype)
        self.rows = torch.zeros(0, dtype=torch.long)
        """Slots of this forward pass, [batch]."""
        self.starts = torch.zeros(0, dtype=torch.long)
        """Position at which each row's new keys go, [batch]."""
        self.span = 0
        """Keys that attention looks at: the longest row after this pass."""

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes new keys and values [batch, heads, time, head_dim]; returns all up to `span`."""
        time = keys.shape[2]
        places = self.starts[:, None] + torch.arange(time)
        self.keys[layer][self.rows[:, None], :, places] = keys.transpose(1, 2)
        self.values[layer][self.rows[:, None], :, places] = values.transpose(1, 2)
        count = len(self.rows)
        if torch.equal(self.rows, torch.arange(count)):  # the usual case: a view, no copy
            return self.keys[layer][:count, :, : self.span], self.values[layer][:count, :, : self.span]
        return self.keys[layer][self.rows, :, : self.span], self.values[layer][self.rows, :, : self.span]

    def move(self, source: int, target: int) -> None:
        """Copies a slot onto another one."""
        self.keys[:, target] = self.keys[:, source]
        self.values[:, target] = self.values[:, source]


class _Normalise(torch.autograd.Function):
    """x / rms(x) · w with a backward pass in few sweeps over memory, which is what elementwise chains cost."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        norm = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = torch.rsqrt(norm.square_().div_(hidden.shape[-1]).add_(epsilon)).to(hidden.dtype)
        normalised = hidden * inverse
        ctx.save_for_backward(normalised, weight, inverse)
        return normalised * weight

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
        return _Normalise.apply(hidden, self.weight, self.epsilon)  # type: ignore[no-any-return, no-untyped-call]


def rotary_angles(positions: Tensor, head_dim: int, base: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles (Su et al., 2021), half-split layout.

    positions: [batch or 1, time] → two of [batch or 1, 1, time, head_dim].
    """
    frequencies = 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = positions[..., None].float() * frequencies
    angles = torch.cat((angles, angles), dim=-1)[:, None]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turns queries or keys [batch, heads, time, head_dim] by their positions' angles."""
    half = states.shape[-1] // 2
    turned = states * cosine
    turned[..., :half].addcmul_(states[..., half:], sine[..., :half], value=-1)
    turned[..., half:].addcmul_(states[..., :half], sine[..., half:])
    return turned


class _Rotate(torch.autograd.Function):
    """`rotate`, whose gradient is the turn back."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return rotate(states, cosine, sine)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return rotate(gradients[0], cosine, -sine), None, None


class Attention(nn.Module):
    """Causal self-attention with grouped queries; with `qk_norm`, queries and keys are normalised per head."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.query = nn.Linear(config.d_model, config.heads * config.head_dim, bias=False)
        self.key = nn.Linear(config.d_model, config.key_value_heads * config.head_dim, bias=False)
        self.value = nn.Linear(config.d_model, config.key_value_heads * config.head_dim, bias=False)
        self.output = nn.Linear(config.heads * config.head_dim, config.d_model, bias=False)
        self.query_norm = RMSNorm(config.head_dim, config.norm_epsilon) if config.qk_norm else nn.Identity()
        self.key_norm = RMSNorm(config.head_dim, config.norm_epsilon) if config.qk_norm else nn.Identity()
        self.grouped = config.heads != config.key_value_heads

    def forward(self, hidden: Tensor, view: AttentionView) -> Tensor:
        """[batch, time, d_model] → [batch, time, d_model]."""
        batch, time, _ = hidden.shape
        queries = self.query_norm(self.query(hidden).view(batch, time, -1, self.head_dim)).transpose(1, 2)
        keys = self.key_norm(self.key(hidden).view(batch, time, -1, self.head_dim)).transpose(1, 2)
        values = self.value(hidden).view(batch, time, -1, self.head_dim).transpose(1, 2)
        queries, keys = (_Rotate.apply(states, view.cosine, view.sine) for states in (queries, keys))  # type: ignore[no-untyped-call]
        if view.cache is not None:
            keys, values = view.cache.extend(self.layer, keys, values)
        mixed = attend(queries, keys, values, view.mask, self.grouped)
        return cast(Tensor, self.output(mixed.transpose(1, 2).reshape(batch, time, -1)))


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, grouped: bool) -> Tensor:
    """softmax(q kᵀ / √head_dim + mask) v (Vaswani et al., 2017). mask None: causal.

    In bf16 torch's CPU kernel has a slow backward pass, so training there takes the same formula in matrix products.
    """
    if by_products(queries.dtype):
        return _attend_by_products(queries, keys, values, mask, grouped)
    return functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped
    )


def by_products(dtype: torch.dtype) -> bool:
    """Whether attention is computed in plain matrix products here."""
    return dtype == torch.bfloat16 and torch.is_grad_enabled()


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask, True where a key may be seen → the mask that is added to the scores."""
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))


def _attend_by_products(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, grouped: bool) -> Tensor:
    if grouped:
        repeats = queries.shape[1] // keys.shape[1]
        keys, values = keys.repeat_interleave(repeats, dim=1), values.repeat_interleave(repeats, dim=1)
    if mask is None:
        mask = additive(torch.ones(queries.shape[2], keys.shape[2], dtype=torch.bool).tril(), queries.dtype)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    scores += mask  # in place: elementwise passes over [time, keys] cost as much as the products
    weights: Tensor = scores.softmax(dim=-1)
    return weights @ values


class _GatedActivation(torch.autograd.Function):
    """silu(gate) · up with a backward pass in few sweeps over memory, which is what an elementwise chain costs."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        gate, up = ctx.saved_tensors
        gradient_up = functional.silu(gate).mul_(gradient)
        gradient_gate = torch.ops.aten.silu_backward(gradient * up, gate)
        return gradient_gate, gradient_up


class GatedFeedForward(nn.Module):
    """down(silu(gate x) · up x) (SwiGLU; Shazeer, 2020)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_feedforward, bias=False)
        self.up = nn.Linear(config.d_model, config.d_feedforward, bias=False)
        self.down = nn.Linear(config.d_feedforward, config.d_model, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, time, d_model] → the same."""
        activated = _GatedActivation.apply(self.gate(hidden), self.up(hidden))  # type: ignore[no-untyped-call]
        return cast(Tensor, self.down(activated))


class Block(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x): the pre-norm residual block."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_epsilon)
        self.attention = Attention(config, layer)
        self.feedforward_norm = RMSNorm(config.d_model, config.norm_epsilon)
        self.feedforward = GatedFeedForward(config)

    def forward(self, hidden: Tensor, view: AttentionView) -> Tensor:
        """[batch, time, d_model] → the same."""
        hidden = hidden + self.attention(self.attention_norm(hidden), view)
        return cast(Tensor, hidden + self.feedforward(self.feedforward_norm(hidden)))
