"""Attention: of a sequence to itself or to an encoder's memory; whole, causal, or within a sliding window.

Shapes: batch, time, d_model; heads × head_dim inside. What a token may look at is an `AttentionView`, made once per
forward pass and shared by all blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from headwater.models.cache import KeysAndValues
from headwater.models.config import TransformerConfig
from headwater.models.norm import RMSNorm
from headwater.models.positions import Rotate, rotate

LONGEST_BY_PRODUCTS = 2048
"""Longest row whose scores are held whole, [time, time] per head; beyond it memory would grow with the square."""


@dataclass
class AttentionView:
    """Which positions a token has and what it may look at.

    cosine, sine: [batch or 1, 1, time, head_dim], rotary angles of the tokens' positions; None: no rotary positions.
    mask: [batch or 1, heads or 1, time, keys], added to the scores: −∞ where a key may not be seen, otherwise 0 or a bias
    of the distance. None: every token sees the others, those before it where `causal`.
    window: a sliding window, in whose blocks attention is computed; `mask` then is that of `local_mask`.
    cache: where the keys and values of earlier tokens are, or None.
    """

    cosine: Tensor | None = None
    sine: Tensor | None = None
    mask: Tensor | None = None
    causal: bool = True
    window: int | None = None
    cache: KeysAndValues | None = None


class Attention(nn.Module):
    """Self-attention with grouped queries; with `qk_norm`, queries and keys are normalised per head."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        width, narrow = config.heads * config.head_dim, config.key_value_heads * config.head_dim
        self.query = nn.Linear(config.d_model, width, bias=config.query_bias)
        self.key = nn.Linear(config.d_model, narrow, bias=config.query_bias)
        self.value = nn.Linear(config.d_model, narrow, bias=config.query_bias)
        self.output = nn.Linear(width, config.d_model, bias=config.output_bias)
        self.query_norm = RMSNorm(config.head_dim, config.norm_epsilon) if config.qk_norm else nn.Identity()
        self.key_norm = RMSNorm(config.head_dim, config.norm_epsilon) if config.qk_norm else nn.Identity()
        self.grouped = config.heads != config.key_value_heads
        self.scale = config.head_dim**-0.5 if config.scaled_attention else 1.0
        self.dropout = config.dropout

    def heads(self, states: Tensor) -> Tensor:
        """[batch, time, heads · head_dim] → [batch, time, heads, head_dim]."""
        return states.view(*states.shape[:2], -1, self.head_dim)

    def forward(self, hidden: Tensor, view: AttentionView) -> Tensor:
        """[batch, time, d_model] → [batch, time, d_model]."""
        queries = self.query_norm(self.heads(self.query(hidden))).transpose(1, 2)
        keys = self.key_norm(self.heads(self.key(hidden))).transpose(1, 2)
        values = self.heads(self.value(hidden)).transpose(1, 2)
        if view.cosine is not None and view.sine is not None:
            turn = Rotate.apply if torch.is_grad_enabled() else rotate
            queries, keys = (turn(states, view.cosine, view.sine) for states in (queries, keys))
        if view.cache is not None:
            keys, values = view.cache.extend(self.layer, keys, values)
        return self.mix(queries, keys, values, view)

    def mix(self, queries: Tensor, keys: Tensor, values: Tensor, view: AttentionView) -> Tensor:
        """Heads [batch, heads, time, head_dim] → attended, joined and projected, [batch, time, d_model]."""
        dropout = self.dropout if self.training else 0.0
        if view.window is not None:
            mixed = attend_locally(queries, keys, values, view, self.grouped, self.scale, dropout)
        else:
            mixed = attend(queries, keys, values, view.mask, self.grouped, view.causal, self.scale, dropout)
        return cast(Tensor, self.output(mixed.transpose(1, 2).flatten(2)))


class CrossAttention(Attention):
    """Attention from a decoder to the memory of an encoder, whose keys and values can be computed beforehand."""

    def remembered(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Memory [batch, source_time, d_model] → keys and values, [batch, heads, source_time, head_dim] each."""
        keys = self.key_norm(self.heads(self.key(memory))).transpose(1, 2)
        return keys, self.heads(self.value(memory)).transpose(1, 2)

    def look(self, hidden: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """[batch, time, d_model] → the same. mask: [batch, 1, 1, source_time], added to the scores, or None."""
        queries = self.query_norm(self.heads(self.query(hidden))).transpose(1, 2)
        return self.mix(queries, keys, values, AttentionView(mask=mask, causal=False))


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    grouped: bool = False,
    causal: bool = True,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(scale · q kᵀ + mask) v (Vaswani et al., 2017). `causal` counts where there is no mask.

    In bf16 torch's CPU kernel has a slow backward pass, so training there takes the same formula in matrix products.
    """
    if by_products(queries.dtype, keys.shape[2]):
        return _attend_by_products(queries, keys, values, mask, grouped, causal, scale, dropout)
    return functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=mask,
        is_causal=causal and mask is None,
        enable_gqa=grouped,
        scale=scale,
        dropout_p=dropout,
    )


def by_products(dtype: torch.dtype, time: int) -> bool:
    """Whether attention over so many keys is computed in plain matrix products here."""
    return dtype == torch.bfloat16 and time <= LONGEST_BY_PRODUCTS and torch.is_grad_enabled()


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask, True where a key may be seen → the mask that is added to the scores."""
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))


def _attend_by_products(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    grouped: bool,
    causal: bool,
    scale: float | None,
    dropout: float,
) -> Tensor:
    if grouped:
        repeats = queries.shape[1] // keys.shape[1]
        keys, values = keys.repeat_interleave(repeats, dim=1), values.repeat_interleave(repeats, dim=1)
    if mask is None and causal:
        mask = additive(torch.ones(queries.shape[2], keys.shape[2], dtype=torch.bool).tril(), queries.dtype)
    scores = (queries * (queries.shape[-1] ** -0.5 if scale is None else scale)) @ keys.transpose(-2, -1)
    if mask is not None:
        scores += mask  # in place: elementwise passes over [time, keys] cost as much as the products
    weights: Tensor = scores.softmax(dim=-1)
    if dropout:
        weights = functional.dropout(weights, dropout)
    return weights @ values


def attend_locally(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    view: AttentionView,
    grouped: bool,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention within a sliding window (Beltagy et al., 2020), in blocks as long as the window: each block of queries
    looks at its own keys and the block before (and after, where not causal). Memory is linear in time.

    queries [batch, heads, time, head_dim] → the same.
    """
    assert view.window is not None
    assert view.mask is not None
    batch, _, time, _ = queries.shape
    width = view.window
    blocks = -(-time // width)
    ahead = 0 if view.causal else 1
    queries = _in_blocks(queries, width, blocks)
    keys, values = (_with_neighbours(_in_blocks(states, width, blocks), ahead) for states in (keys, values))
    mask = view.mask.expand(batch, -1, -1, -1, -1).flatten(0, 1)
    queries, keys, values = (part.transpose(1, 2).flatten(0, 1) for part in (queries, keys, values))
    mixed = attend(queries, keys, values, mask, grouped, False, scale, dropout)
    return mixed.view(batch, blocks, *mixed.shape[1:]).transpose(1, 2).flatten(2, 3)[:, :, :time]


def local_mask(time: int, width: int, causal: bool, documents: Tensor | None, dtype: torch.dtype) -> Tensor:
    """What each block of `width` queries sees of its own keys and its neighbours', added to the scores.

    documents: [batch, time] or None → [batch or 1, blocks, 1, width, 2 or 3 · width].
    """
    blocks = -(-time // width)
    ahead = 0 if causal else 1
    places = torch.arange(width)[:, None] + width - torch.arange((2 + ahead) * width)  # query − key
    near = (places > -width) & (places < width) if ahead else (places >= 0) & (places < width)
    documents = documents if documents is not None else torch.ones(1, time, dtype=torch.long)
    inside = _in_blocks(documents[:, None, :, None] + 1, width, blocks)  # 0 is beyond the ends of the row
    around = _with_neighbours(inside, ahead)
    seen = near & (inside == around.transpose(-2, -1)) & (around.transpose(-2, -1) > 0)
    seen |= (inside == 0) & near  # padding of the last block, which nothing reads, must see something
    return additive(seen, dtype).transpose(1, 2)


def _in_blocks(states: Tensor, width: int, blocks: int) -> Tensor:
    """[batch, heads, time, size] → [batch, heads, blocks, width, size], filled up with zeros."""
    padded = functional.pad(states, (0, 0, 0, blocks * width - states.shape[2]))
    return padded.view(*states.shape[:2], blocks, width, states.shape[3])


def _with_neighbours(states: Tensor, ahead: int) -> Tensor:
    """[batch, heads, blocks, width, size] → each block with the one before it (and after it), [..., 2 or 3 · width, size]."""
    parts = [functional.pad(states, (0, 0, 0, 0, 1, 0))[:, :, :-1], states]
    if ahead:
        parts.append(functional.pad(states, (0, 0, 0, 0, 0, 1))[:, :, 1:])
    return torch.cat(parts, dim=3)
