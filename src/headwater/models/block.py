"""The Transformer's block: attention and feed-forward as residual branches, with the norm before or after them."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from headwater.models.attention import Attention, AttentionView, CrossAttention
from headwater.models.config import TransformerConfig
from headwater.models.norm import norm_of

ACTIVATIONS = {
    "silu": nn.SiLU(),
    "relu": nn.ReLU(),
    "gelu": nn.GELU(),
    "gelu-tanh": nn.GELU(approximate="tanh"),
}


class _GatedSilu(torch.autograd.Function):
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
    """down(activation(gate x) · up x) (Shazeer, 2020)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_feedforward, bias=config.feedforward_bias)
        self.up = nn.Linear(config.d_model, config.d_feedforward, bias=config.feedforward_bias)
        self.down = nn.Linear(config.d_feedforward, config.d_model, bias=config.feedforward_bias)
        self.activation = config.activation

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, time, d_model] → the same."""
        gate, up = self.gate(hidden), self.up(hidden)
        if self.activation == "silu" and torch.is_grad_enabled():
            return cast(Tensor, self.down(_GatedSilu.apply(gate, up)))  # type: ignore[no-untyped-call]
        return cast(Tensor, self.down(ACTIVATIONS[self.activation](gate) * up))


class FeedForward(nn.Module):
    """down(activation(up x)) (Vaswani et al., 2017)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_feedforward, bias=config.feedforward_bias)
        self.down = nn.Linear(config.d_feedforward, config.d_model, bias=config.feedforward_bias)
        self.activation = config.activation

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, time, d_model] → the same."""
        return cast(Tensor, self.down(ACTIVATIONS[self.activation](self.up(hidden))))


class Block(nn.Module):
    """x + branch(norm x) for each branch; where the norm comes after, norm(x + branch x) (Vaswani et al., 2017)."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.pre = config.norm_place == "pre"
        self.attention_norm = norm_of(config)
        self.attention = Attention(config, layer)
        self.feedforward_norm = norm_of(config)
        self.feedforward = (GatedFeedForward if config.gated else FeedForward)(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, view: AttentionView) -> Tensor:
        """[batch, time, d_model] → the same."""
        branch = self.attention(self.attention_norm(hidden) if self.pre else hidden, view)
        hidden = self.joined(hidden, branch, self.attention_norm)
        return self.fed_forward(hidden)

    def fed_forward(self, hidden: Tensor) -> Tensor:
        """The feed-forward branch."""
        branch = self.feedforward(self.feedforward_norm(hidden) if self.pre else hidden)
        return self.joined(hidden, branch, self.feedforward_norm)

    def joined(self, hidden: Tensor, branch: Tensor, norm: nn.Module) -> Tensor:
        hidden = hidden + self.dropout(branch)
        return hidden if self.pre else cast(Tensor, norm(hidden))


class CrossBlock(Block):
    """A decoder's block with attention to an encoder's memory between its two branches."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.cross_norm = norm_of(config)
        self.cross = CrossAttention(config, layer)

    def forward(  # type: ignore[override]
        self, hidden: Tensor, view: AttentionView, keys: Tensor, values: Tensor, memory_mask: Tensor | None
    ) -> Tensor:
        """hidden [batch, time, d_model] → the same; keys and values as `CrossAttention.remembered` gives them."""
        branch = self.attention(self.attention_norm(hidden) if self.pre else hidden, view)
        hidden = self.joined(hidden, branch, self.attention_norm)
        branch = self.cross.look(self.cross_norm(hidden) if self.pre else hidden, keys, values, memory_mask)
        hidden = self.joined(hidden, branch, self.cross_norm)
        return self.fed_forward(hidden)
