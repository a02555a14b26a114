"""Heads turn hidden states into logits or scalars; a model is a backbone with named heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

IGNORED = -1
"""Target of a position that is not learnt."""

_CHUNK_ELEMENTS = 2**21
"""Logits held at once by the fused cross-entropy: 8 MB in fp32, which stays in the processor's cache."""


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
        weight_gradient = torch.zeros(weight.shape, dtype=torch.float32)
        size = max(1, _CHUNK_ELEMENTS // weight.shape[0])
        for start in range(0, len(rows), size):
            part, goal = rows[start : start + size], targets[start : start + size, None]
            logits = (part @ weight.T).float()
            logits -= logits.amax(dim=1, keepdim=True)
            picked = logits.gather(1, goal)
            probabilities = logits.exp_()
            normaliser = probabilities.sum(dim=1, keepdim=True)
            total += (normaliser.log() - picked).sum()
            probabilities /= normaliser
            probabilities.scatter_add_(1, goal, torch.full_like(picked, -1.0))
            gradient = probabilities.to(weight.dtype)
            torch.mm(gradient, weight, out=rows_gradient[start : start + size])
            if weight.dtype == torch.float32:
                weight_gradient.addmm_(gradient.T, part)
            else:
                weight_gradient += gradient.T @ part
        ctx.save_for_backward(rows_gradient, weight_gradient)
        ctx.dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (scale,) = gradients
        rows_gradient, weight_gradient = ctx.saved_tensors
        return rows_gradient * scale.to(rows_gradient.dtype), (weight_gradient * scale).to(ctx.dtype), None


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
