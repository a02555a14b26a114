"""The decoder-only Transformer: embedding, blocks, final norm."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from headwater.models.block import AttentionView, Block, KeyValueCache, RMSNorm, additive, by_products, rotary_angles
from headwater.models.config import DecoderConfig


class Decoder(nn.Module):
    """Token ids [batch, time] → hidden states [batch, time, d_model]."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.d_model)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = RMSNorm(config.d_model, config.norm_epsilon)

    def forward(
        self,
        ids: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Causal by construction; right padding changes nothing for the tokens before it.

        ids: [batch, time]. positions: [batch, time], absent: 0, 1, 2 ….
        documents: [batch, time], ids of packed documents, which cannot see each other; absent: one per row.
        cache: decoding continues the rows that it names; positions then follow from their lengths.
        """
        view = self._view(ids, positions, documents, cache)
        hidden = self.embedding(ids)
        for block in self.blocks:
            hidden = block(hidden, view)
        return self.norm(hidden)  # type: ignore[no-any-return]

    def _view(
        self, ids: Tensor, positions: Tensor | None, documents: Tensor | None, cache: KeyValueCache | None
    ) -> AttentionView:
        config, dtype = self.config, self.embedding.weight.dtype
        time = torch.arange(ids.shape[1])
        seen = None
        if cache is not None:
            positions = cache.starts[:, None] + time
            seen = torch.arange(cache.span) <= positions[..., None]
        elif documents is not None:
            seen = (documents[:, :, None] == documents[:, None, :]) & (time[:, None] >= time)
        elif by_products(dtype):
            seen = (time[:, None] >= time)[None]  # made once here, not in every block
        mask = None if seen is None else additive(seen[:, None], dtype)
        if positions is None:
            positions = time[None]
        cosine, sine = rotary_angles(positions, config.head_dim, config.rope_base, dtype)
        return AttentionView(cosine, sine, mask, cache)

    def initialise(self, generator: torch.Generator) -> None:
        """Normal with std 0.02 for embeddings, 1/√fan_in for matrices, and the outputs of residual branches scaled by
        1/√(2·layers) (Radford et al., 2019), so that the residual stream keeps its size at any depth."""
        branches = 1 / math.sqrt(2 * self.config.layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            std = 0.02 if name.startswith("embedding") else parameter.shape[1] ** -0.5
            if name.endswith(("attention.output.weight", "feedforward.down.weight")):
                std *= branches
            nn.init.normal_(parameter, std=std, generator=generator)
