"""Several models that decide together: the mean of their probabilities at every step (Sutskever et al., 2014).

An `Ensemble` is used as if it were one model: generation, beam search and bits per byte take it as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from headwater.errors import UserError
from headwater.models.backbone import Backbone
from headwater.models.cache import Cache
from headwater.models.heads import IGNORED, LanguageModelHead
from headwater.models.model import Model


class Ensemble(Model):
    """Models of one vocabulary as one; it decodes up to the shortest context among them.

    Raises UserError where there is no model, or the models' forms or vocabularies differ. Whether equal ids stand for
    equal tokens is for the caller to know: the models must share a tokenizer.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        nn.Module.__init__(self)
        if not models:
            raise UserError("An ensemble has no model: give it at least one.")
        first = models[0]
        for name in ("vocabulary", "form", "decoder_start"):
            values = [getattr(model.config, name) for model in models]
            if len(set(values)) > 1:
                raise UserError(f"The models of an ensemble differ in {name} ({values}): choose models that share it.")
        for model in models:
            if model.kind != "language-model":
                raise UserError(
                    f"An ensemble predicts tokens; one of its models is a {model.kind} model: leave it out."
                )
        widths = [model.config.d_model for model in models]
        self.config = replace(first.config, context=min(model.config.context for model in models))
        self.kind, self.classes = first.kind, first.classes
        self.backbone = _Backbones([model.backbone for model in models], widths)
        self.heads = nn.ModuleDict({"language_model": MeanHead([model.language_model for model in models], widths)})


class MeanHead(nn.Module):
    """log of the mean of the heads' probabilities; hidden states of all models stand one after the other."""

    def __init__(self, heads: Sequence[LanguageModelHead], widths: list[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.widths = widths

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., Σ d_model] → log-probabilities [..., vocabulary] in fp32, which are logits as good as any."""
        logits = [head(part).float() for head, part in self._parts(hidden)]
        log_probabilities = torch.stack([each.log_softmax(dim=-1) for each in logits])
        return log_probabilities.logsumexp(dim=0) - math.log(len(logits))

    def token_losses(self, rows: Tensor, targets: Tensor) -> Tensor:
        """−log p of each target in nats, without gradient: [tokens, Σ d_model], [tokens] → [tokens]."""
        losses = torch.stack([head.token_losses(part, targets) for head, part in self._parts(rows)])
        return math.log(len(losses)) - (-losses).logsumexp(dim=0)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Σ −log p in nats over the positions whose target is not IGNORED, without gradient."""
        learnt = targets != IGNORED
        return self.token_losses(hidden[learnt], targets[learnt]).sum()

    def _parts(self, hidden: Tensor) -> list[tuple[LanguageModelHead, Tensor]]:
        """Each model's head with its part of the hidden states, in the head's number format."""
        heads = [cast(LanguageModelHead, head) for head in self.heads]
        parts = torch.split(hidden, self.widths, dim=-1)
        return [(head, part.to(head.weight.dtype)) for head, part in zip(heads, parts, strict=True)]


class _Backbones(Backbone):
    """All backbones side by side; their hidden states, and their memories of sources, one after the other in the last
    dimension: [batch, time, Σ d_model]."""

    def __init__(self, backbones: Sequence[Backbone], widths: list[int]) -> None:
        super().__init__()
        self.members = nn.ModuleList(backbones)
        self.widths = widths

    def forward(self, *inputs: Tensor, cache: _Caches | None = None, **more: Any) -> Tensor:
        """Of every model, what it makes of the same inputs."""
        if cache is None:
            return torch.cat([member(*inputs, **more) for member in self.members], dim=-1)
        pairs = zip(self.members, cache.members, strict=True)
        return torch.cat([member(*inputs, cache=part, **more) for member, part in pairs], dim=-1)

    def new_cache(self, slots: int, capacity: int, dtype: torch.dtype) -> _Caches:  # noqa: ARG002 (each has its own)
        """An empty memory for each model."""
        return _Caches(
            [member.new_cache(slots, capacity, next(member.parameters()).dtype) for member in self._backbones()],
            self.widths,
        )

    def encode(self, source: Tensor, documents: Tensor | None = None) -> Tensor:
        """[batch, source_time] → all memories, [batch, source_time, Σ d_model]."""
        return torch.cat([member.encode(source, documents) for member in self._backbones()], dim=-1)

    def decode(self, target: Tensor, cache: Cache) -> Tensor:
        """The next tokens [batch, time] of the rows that the cache names → hidden states."""
        parts = zip(self._backbones(), cast(_Caches, cache).members, strict=True)
        return torch.cat([member.decode(target, part) for member, part in parts], dim=-1)

    def _backbones(self) -> list[Backbone]:
        return [cast(Backbone, member) for member in self.members]


class _Caches:
    """Every model's memory of the same slots."""

    def __init__(self, members: Sequence[Cache], widths: list[int]) -> None:
        self.members, self.widths = members, widths

    def begin(self, rows: Tensor, starts: Tensor, lengths: Tensor) -> None:
        for member in self.members:
            member.begin(rows, starts, lengths)

    def remember(self, rows: Tensor, memory: Tensor, documents: Tensor | None) -> None:
        for member, part in zip(self.members, torch.split(memory, self.widths, dim=-1), strict=True):
            member.remember(rows, part, documents)

    def move(self, source: int, target: int) -> None:
        for member in self.members:
            member.move(source, target)

    def select(self, order: Tensor) -> None:
        for member in self.members:
            member.select(order)
