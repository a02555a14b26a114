"""A model: a backbone and its named heads."""

from __future__ import annotations

import copy
from typing import Literal, cast

import torch
from torch import Tensor, nn

from headwater.models.config import DecoderConfig
from headwater.models.heads import LanguageModelHead, ScalarHead
from headwater.models.transformer import Decoder

Kind = Literal["language-model", "reward", "critic"]
"""Which head sits on the decoder: token logits, one score per sequence, or one value per token."""


class Model(nn.Module):
    """`model(ids)` gives the head's output, `model.backbone(ids)` the hidden states."""

    def __init__(self, config: DecoderConfig, kind: Kind = "language-model") -> None:
        super().__init__()
        self.config = config
        self.kind = kind
        self.backbone = Decoder(config)
        head = (
            LanguageModelHead(self.backbone.embedding, config.tied_embeddings)
            if kind == "language-model"
            else ScalarHead(config.d_model, bias=kind == "critic")
        )
        self.heads = nn.ModuleDict({kind.replace("-", "_"): head})

    @property
    def language_model(self) -> LanguageModelHead:
        """The head over the vocabulary."""
        return cast(LanguageModelHead, self.heads["language_model"])

    @property
    def scalar(self) -> ScalarHead:
        """The head of a reward model or a critic."""
        return cast(ScalarHead, self.heads[self.kind])

    def forward(self, ids: Tensor, positions: Tensor | None = None, documents: Tensor | None = None) -> Tensor:
        """[batch, time] → logits [batch, time, vocabulary], or scalars [batch, time]."""
        return cast(Tensor, self.heads[self.kind.replace("-", "_")](self.backbone(ids, positions, documents)))

    def scores(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Reward of each row, [batch], read at its last real token; `lengths` counts them, so padding is no matter."""
        hidden = self.backbone(ids)
        return cast(Tensor, self.scalar(hidden[torch.arange(len(ids)), lengths - 1]))

    def initialise(self, seed: int) -> Model:
        """Fresh weights that depend on the seed alone."""
        generator = torch.Generator().manual_seed(seed)
        self.backbone.initialise(generator)
        if self.kind != "language-model":
            self.scalar.initialise(generator)
        elif not self.config.tied_embeddings:
            # Nearly uniform first predictions: the readout of μP (Yang et al., 2022).
            nn.init.normal_(self.language_model.weight, std=1 / self.config.d_model, generator=generator)
        return self

    def with_head(self, kind: Kind, seed: int) -> Model:
        """A new model with a copy of this backbone and a fresh head (critics of reward models copy the head too)."""
        other = Model(self.config, kind).initialise(seed)
        other.backbone.load_state_dict(self.backbone.state_dict())
        if kind == "critic" and self.kind == "reward":
            with torch.no_grad():
                other.scalar.score.weight.copy_(self.scalar.score.weight)
        return other

    def frozen(self, dtype: torch.dtype) -> Model:
        """A copy in this number format that is not trained."""
        return copy.deepcopy(self).to(dtype).eval().requires_grad_(False)

    def parameter_count(self) -> int:
        """Trainable numbers; tied matrices count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def training_flops_per_token(self, time: int) -> float:
        """Floating-point operations of forward and backward per token: 6·N + 6·layers·d_model·time (causal half).

        N without an embedding that is only looked up.
        """
        lookup = 0 if self.config.tied_embeddings else self.backbone.embedding.weight.numel()
        return 6.0 * (self.parameter_count() - lookup) + 6.0 * self.config.layers * self.config.d_model * time
