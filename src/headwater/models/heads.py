"""Heads turn hidden states into logits or scalars; a model is a backbone with named heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

IGNORED = -1
"""Target of a position that is not learnt."""

_CHUNK_ELEMENTS = 2**23
"""Logits held at once by the fused cross-entropy: 16 MB in bf16; smaller products would be less efficient."""
_SOFTMAX_ELEMENTS = 2**20
"""Probabilities held at once in fp32: 4 MB, which stay in the processor's cache."""


class LanguageModelHead(nn.Module):
    """Logits over the vocabulary; shares the embedding's matrix where `tied`."""

    def __init__(self, embedding: nn.Embedding, tied: bool) -> None:
        super().__init__()
        self.weight = embedding.weight if tied else nn.Parameter(torch.empty_like(embedding.weight))

    def forward(self, hidden: Tensor) -> Tensor:
        """[…, d_model] → [..., vocabulary]."""
        return functional.linear(hidden, self.weight)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Σ cross-entropy in nats over the positions whose target is not IGNORED; fp32 scalar.

        hidden: [..., d_model], targets: [...]. Never holds [tokens, vocabulary]: chunks are reduced as they are made.
        """
        learnt = targets.reshape(-1) != IGNORED
        rows = hidden.reshape(-1, hidden.shape[-1])
        chosen = targets.reshape(-1)
        if not bool(learnt.all()):
            rows, chosen = rows[learnt], chosen[learnt]
        if torch.is_grad_enabled() and hidden.requires_grad:
            return _FusedCrossEntropy.apply(rows, self.weight, chosen)  # type: ignore[no-any-return, no-untyped-call]
        return self.token_losses(rows, chosen).sum()

    @torch.no_grad()
    def token_losses(self, rows: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy per token in nats, [tokens], without gradient."""
        size = max(1, _CHUNK_ELEMENTS // self.weight.shape[0])
        losses = [
            functional.cross_entropy(self(part).float(), goal, reduction="none")
            for part, goal in zip(torch.split(rows, size), torch.split(targets, size), strict=True)
        ]
        return torch.cat(losses) if losses else torch.zeros(0)


class _FusedCrossEntropy(torch.autograd.Function):
    """Σ −log softmax(h Wᵀ)[target], whose gradients are computed chunk by chunk in the forward pass."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float32)
        rows_gradient = torch.empty_like(rows)
        weight_gradient = torch.zeros(0) if len(rows) else torch.zeros_like(weight)
        size = max(1, _CHUNK_ELEMENTS // weight.shape[0])
        for start in range(0, len(rows), size):
            chunk = slice(start, start + size)
            logits = rows[chunk] @ weight.T
            total += _cross_entropy_to_gradient(logits, targets[chunk, None])
            torch.mm(logits, weight, out=rows_gradient[chunk])
            part = logits.T @ rows[chunk]
            weight_gradient = part if start == 0 else weight_gradient.float() + part  # many chunks add up in fp32
        ctx.save_for_backward(rows_gradient, weight_gradient)
        ctx.dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (scale,) = gradients
        rows_gradient, weight_gradient = ctx.saved_tensors
        return rows_gradient * scale.to(rows_gradient.dtype), (weight_gradient * scale).to(ctx.dtype), None


def _cross_entropy_to_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Σ cross-entropy of logits [tokens, vocabulary] with targets [tokens, 1]; the logits become its gradient."""
    total = torch.zeros((), dtype=torch.float32)
    size = max(1, _SOFTMAX_ELEMENTS // logits.shape[1])
    for part, goal in zip(torch.split(logits, size), torch.split(targets, size), strict=True):
        largest, picked = part.amax(dim=1, keepdim=True).float(), part.gather(1, goal).float()
        probabilities = part.softmax(dim=1, dtype=torch.float32)
        # log Σ exp(logits), read off the likeliest token: its probability cannot vanish.
        total += (largest - probabilities.amax(dim=1, keepdim=True).log() - picked).sum()
        part.copy_(probabilities.scatter_add_(1, goal, torch.full_like(picked, -1.0)))
    return total


class ScalarHead(nn.Module):
    """One number per hidden state: a reward (`bias=False`) or a value.

    W ~ N(0, 1/√(d_model + 1)) as in lm-human-preferences.
    """

    def __init__(self, d_model: int, bias: bool) -> None:
        super().__init__()
        self.score = nn.Linear(d_model, 1, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., d_model] → [...], fp32."""
        return self.score(hidden).squeeze(-1).float()  # type: ignore[no-any-return]

    def initialise(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.score.weight, std=(self.score.in_features + 1) ** -0.5, generator=generator)
        if self.score.bias is not None:
            nn.init.zeros_(self.score.bias)
