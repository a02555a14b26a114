"""Heads turn hidden states into logits or scalars; a model is a backbone with named heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from headwater.models.block import ACTIVATIONS
from headwater.models.config import TransformerConfig
from headwater.models.convolutional import TextConvolutionConfig
from headwater.models.norm import norm_of

IGNORED = -1
"""Target of a position that is not learnt."""

_CHUNK_ELEMENTS = 2**23
"""Logits held at once by the fused cross-entropy: 16 MB in bf16; smaller products would be less efficient."""
_SOFTMAX_ELEMENTS = 2**20
"""Probabilities held at once in fp32: 4 MB, which stay in the processor's cache."""


class LanguageModelHead(nn.Module):
    """Logits over the vocabulary, hidden · `scale` · Wᵀ + bias; W is the embedding's matrix where `tied`.

    bias: with a number per token of the vocabulary (BERT, Marian). scale: d_model^-½ in T5, whose W is tied.
    """

    bias: nn.Parameter | None

    def __init__(self, embedding: nn.Embedding, tied: bool, bias: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = embedding.weight if tied else nn.Parameter(torch.empty_like(embedding.weight))
        self.register_parameter("bias", nn.Parameter(torch.zeros(embedding.num_embeddings)) if bias else None)
        self.scale = scale

    def forward(self, hidden: Tensor) -> Tensor:
        """[…, d_model] → [..., vocabulary]."""
        return functional.linear(self._ready(hidden), self.weight, self.bias)

    def _ready(self, hidden: Tensor) -> Tensor:
        """What is multiplied by the matrix."""
        return hidden if self.scale == 1.0 else hidden * self.scale

    def loss(self, hidden: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Σ cross-entropy in nats over the positions whose target is not IGNORED; fp32 scalar.

        hidden: [..., d_model], targets: [...]. Never holds [tokens, vocabulary]: chunks are reduced as they are made.
        smoothing: ε of label smoothing (Szegedy et al. 2016): (1 − ε)·(−log p(target)) + ε·mean of −log p over the
        vocabulary.
        """
        learnt = targets.reshape(-1) != IGNORED
        rows = hidden.reshape(-1, hidden.shape[-1])
        chosen = targets.reshape(-1)
        if not bool(learnt.all()):
            rows, chosen = rows[learnt], chosen[learnt]
        if torch.is_grad_enabled() and (hidden.requires_grad or self.weight.requires_grad):
            return _FusedCrossEntropy.apply(self._ready(rows), self.weight, self.bias, chosen, smoothing)  # type: ignore[no-any-return, no-untyped-call]
        return self.token_losses(rows, chosen, smoothing).sum()

    @torch.no_grad()
    def token_losses(self, rows: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy per token in nats, [tokens], without gradient."""
        size = max(1, _CHUNK_ELEMENTS // self.weight.shape[0])
        losses = [
            functional.cross_entropy(self(part).float(), goal, reduction="none", label_smoothing=smoothing)
            for part, goal in zip(torch.split(rows, size), torch.split(targets, size), strict=True)
        ]
        return torch.cat(losses) if losses else torch.zeros(0)


class MaskedHead(LanguageModelHead):
    """Logits for masked tokens: a dense layer, an activation and a norm before the tied matrix (Devlin et al., 2019)."""

    def __init__(self, embedding: nn.Embedding, tied: bool, config: TransformerConfig) -> None:
        super().__init__(embedding, tied, bias=True)
        self.dense = nn.Linear(config.d_model, config.d_model)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = norm_of(config)

    def _ready(self, hidden: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(hidden)))  # type: ignore[no-any-return]


class _FusedCrossEntropy(torch.autograd.Function):
    """Σ cross-entropy of softmax(h Wᵀ + bias), whose gradients are computed chunk by chunk in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32)
        rows_gradient = torch.empty_like(rows)
        learnt = ctx.needs_input_grad[1]  # not where the weights are frozen, as with LoRA
        weight_gradient = torch.zeros_like(weight) if learnt and not len(rows) else torch.zeros(0)
        bias_gradient = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        size = max(1, _CHUNK_ELEMENTS // weight.shape[0])
        for start in range(0, len(rows), size):
            chunk = slice(start, start + size)
            logits = functional.linear(rows[chunk], weight, bias)
            total += _cross_entropy_to_gradient(logits, targets[chunk, None], smoothing)
            torch.mm(logits, weight, out=rows_gradient[chunk])
            if learnt:
                part = logits.T @ rows[chunk]
                weight_gradient = part if start == 0 else weight_gradient.float() + part  # many chunks add up in fp32
            if bias_gradient is not None:
                bias_gradient += logits.sum(dim=0, dtype=torch.float32)
        ctx.save_for_backward(rows_gradient, weight_gradient, bias_gradient)
        ctx.dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = gradients
        rows, weight, bias = ctx.saved_tensors
        return (
            rows * scale.to(rows.dtype),
            (weight * scale).to(ctx.dtype) if ctx.needs_input_grad[1] else None,
            None if bias is None else (bias * scale).to(ctx.dtype),
            None,
            None,
        )


def _cross_entropy_to_gradient(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Σ cross-entropy of logits [tokens, vocabulary] with targets [tokens, 1]; the logits become its gradient.

    The gradient is softmax − (1 − ε)·[target] − ε / vocabulary.
    """
    total = torch.zeros((), dtype=torch.float32)
    size = max(1, _SOFTMAX_ELEMENTS // logits.shape[1])
    for part, goal in zip(torch.split(logits, size), torch.split(targets, size), strict=True):
        largest, picked = part.amax(dim=1, keepdim=True).float(), part.gather(1, goal).float()
        if smoothing:
            picked = (1 - smoothing) * picked + smoothing * part.mean(dim=1, keepdim=True, dtype=torch.float32)
        probabilities = part.softmax(dim=1, dtype=torch.float32)
        # log Σ exp(logits), read off the likeliest token: its probability cannot vanish.
        total += (largest - probabilities.amax(dim=1, keepdim=True).log() - picked).sum()
        probabilities.scatter_add_(1, goal, torch.full_like(picked, smoothing - 1.0))
        part.copy_(probabilities.sub_(smoothing / logits.shape[1]) if smoothing else probabilities)
    return total


class ScalarHead(nn.Module):
    """One number per hidden state: a reward (`bias=False`) or a value.

    W ~ N(0, 1/√(d_model + 1)) as in lm-human-preferences.
    """

    def __init__(self, d_model: int, bias: bool) -> None:
        super().__init__()
        self.score = nn.Linear(d_model, 1, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., d_model] → [...], computed in fp32: of two scores that differ by less than 1%, bf16 often makes one."""
        weight, bias = self.score.weight, self.score.bias
        return functional.linear(hidden.float(), weight.float(), None if bias is None else bias.float()).squeeze(-1)

    def initialise(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.score.weight, std=(self.score.in_features + 1) ** -0.5, generator=generator)
        if self.score.bias is not None:
            nn.init.zeros_(self.score.bias)


class ClassHead(nn.Module):
    """One of `classes` for a whole row, read where the row's meaning is gathered (`gathered`)."""

    def __init__(self, config: TransformerConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        self.pooler = nn.Linear(config.d_model, config.d_model) if config.pooler else None
        self.dropout = nn.Dropout(config.dropout)
        self.classes = nn.Linear(config.d_model, classes, bias=config.form == "encoder")

    def forward(self, hidden: Tensor, documents: Tensor | None = None) -> Tensor:
        """hidden [batch, time, d_model], documents [batch, time] (0 is padding) → logits [batch, classes]."""
        pooled = gathered(self.config, hidden, documents)
        if self.pooler is not None:
            pooled = self.pooler(pooled).tanh()
        return self.classes(self.dropout(pooled))  # type: ignore[no-any-return]


def gathered(config: TransformerConfig, hidden: Tensor, documents: Tensor | None = None) -> Tensor:
    """The state that stands for a whole row: hidden [batch, time, d_model], documents [batch, time] (0 is padding) →
    [batch, d_model].

    An encoder with a pooler (BERT) or of images (ViT) is read at its first real token, any other encoder is the mean over
    its real tokens (a convolutional classifier: the maximum; Kim, 2014), a decoder is read at its last real token.
    """
    if config.pooler or config.patches is not None:
        return first_of(hidden, documents)
    real = torch.ones(hidden.shape[:2], dtype=torch.bool) if documents is None else documents > 0
    if config.form == "decoder":
        places = torch.where(real, torch.arange(hidden.shape[1]), 0).amax(dim=1)
        return hidden[torch.arange(len(hidden)), places]
    if isinstance(config, TextConvolutionConfig):
        return hidden.masked_fill(~real[..., None], torch.finfo(hidden.dtype).min).amax(dim=1)
    weights = real.to(hidden.dtype)[..., None]
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def first_of(hidden: Tensor, documents: Tensor | None) -> Tensor:
    """The state of each row's first real token: hidden [batch, time, d_model] → [batch, d_model]."""
    if documents is None:
        return hidden[:, 0]
    return hidden[torch.arange(len(hidden)), (documents > 0).int().argmax(dim=1)]


class HiddenHead(nn.Module):
    """The hidden states as they are; where the configuration has a pooler, `pooled` is what it makes of the first token."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.pooler = nn.Linear(config.d_model, config.d_model) if config.pooler else None

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, time, d_model] → the same."""
        return hidden

    def pooled(self, hidden: Tensor, documents: Tensor | None = None) -> Tensor:
        """hidden [batch, time, d_model], documents [batch, time] (0 is padding) → [batch, d_model]."""
        if self.pooler is None:
            raise TypeError("this model has no pooler")
        return self.pooler(first_of(hidden, documents)).tanh()  # type: ignore[no-any-return]


class SpanHead(nn.Module):
    """Logits for the first and the last token of an answer within the row (Devlin et al., 2019)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.ends = nn.Linear(d_model, 2)

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, time, d_model] → [batch, time, 2]."""
        return self.ends(hidden)  # type: ignore[no-any-return]
