"""From tokens or images to the first hidden states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headwater.errors import UserError
from headwater.models.config import Patches, TransformerConfig
from headwater.models.norm import norm_of
from headwater.models.positions import sinusoids


class InputLayer(nn.Module):
    """What is added to the tokens' embeddings: scale, positions, segments, a norm, dropout; each where it is asked for."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.scale = config.d_model**0.5 if config.scaled_embeddings else 1.0
        self.sinusoidal = config.positions == "sinusoidal"
        places = config.context if config.patches is None else config.patches.count + 1
        self.positions = nn.Embedding(places, config.d_model) if config.positions == "learned" else None
        self.segments = nn.Embedding(config.segments, config.d_model) if config.segments else None
        self.norm = norm_of(config) if config.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, embedded: Tensor, positions: Tensor, segments: Tensor | None = None) -> Tensor:
        """embedded [batch, time, d_model], positions [batch or 1, time], segments [batch, time] (absent: 0) → embedded."""
        if self.scale != 1.0:
            embedded = embedded * self.scale
        if self.segments is not None:
            embedded = embedded + self.segments(torch.zeros_like(positions) if segments is None else segments)
        if self.positions is not None:
            if int(positions.max()) >= self.positions.num_embeddings:
                raise UserError(
                    f"A row of {int(positions.max()) + 1} tokens is longer than the {self.positions.num_embeddings} positions "
                    "that this model has learnt: shorten it."
                )
            embedded = embedded + self.positions(positions)
        elif self.sinusoidal:
            embedded = embedded + sinusoids(positions, embedded.shape[-1], embedded.dtype)
        return self.dropout(self.norm(embedded))  # type: ignore[no-any-return]


class PatchEmbedding(nn.Module):
    """An image's patches as tokens, after a learned one that stands for the whole (Dosovitskiy et al., 2021)."""

    def __init__(self, patches: Patches, d_model: int) -> None:
        super().__init__()
        self.whole = nn.Parameter(torch.zeros(1, 1, d_model))
        self.projection = nn.Conv2d(patches.channels, d_model, patches.patch, stride=patches.patch)

    @property
    def weight(self) -> Tensor:
        return self.projection.weight

    def forward(self, pixels: Tensor) -> Tensor:
        """[batch, channels, height, width] → [batch, 1 + patches, d_model]."""
        patches = self.projection(pixels.to(self.weight.dtype)).flatten(2).transpose(1, 2)
        return torch.cat((self.whole.expand(len(pixels), -1, -1), patches), dim=1)
