"""What studies measure on a model: accuracy, how far gradients reach back, and speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from headwater.models.decoding import next_logits
from headwater.models.heads import IGNORED
from headwater.models.model import Model
from headwater.objectives.causal import CausalLM
from headwater.studies.training import fastest, seconds_per_step
from headwater.training.batch import Batch, Row, collate
from headwater.training.settings import OptimiserSettings


@torch.inference_mode()
def accuracy(model: Model, rows: Sequence[Row]) -> float:
    """Share of the targets of a decoder's rows that are its likeliest token, all tokens before them given."""
    batch = collate(rows)
    targets = batch.per_token["targets"]
    asked = targets != IGNORED
    return float((model(batch.ids).argmax(dim=-1) == targets)[asked].float().mean())


def gradient_norms(model: Model, batch: Batch) -> list[float]:
    """‖∂ loss at the last token T / ∂ embedding at T − t‖ for t = 0, 1 …, the mean over the rows of a decoder's batch.

    All rows must be as long as the batch is wide.
    """
    embedded: list[Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[0]

    handle = model.backbone.embedding.register_forward_hook(keep)
    try:
        last = model(batch.ids)[:, -1]
    finally:
        handle.remove()
    loss = functional.cross_entropy(last, batch.per_token["targets"][:, -1], reduction="sum")
    (gradient,) = torch.autograd.grad(loss, embedded)
    return gradient.norm(dim=-1).mean(dim=0).flip(0).tolist()  # type: ignore[no-any-return]


def training_speed(model: Model, length: int, tokens: int, optimiser: OptimiserSettings) -> float:
    """Tokens per second of training steps on rows of `length` tokens, `tokens` per step. The model is changed."""
    ids = torch.randint(model.config.vocabulary, (max(1, tokens // length), length + 1))
    rows = [Row(row[:-1], {"targets": row[1:].clone()}) for row in ids]
    batch = collate(rows)
    return batch.tokens / seconds_per_step(model, CausalLM(), lambda _: [batch], optimiser, steps=2)


@torch.inference_mode()
def decoding_speed(model: Model, length: int, rows: int = 8, steps: int = 8) -> float:
    """Tokens per second of decoding `rows` side by side when `length` tokens of each are in the cache."""
    cache = model.backbone.new_cache(rows, length + 1, model.dtype)
    ids, slots = torch.zeros(rows, 1, dtype=torch.long), torch.arange(rows)
    starts, lengths = torch.full((rows,), length), torch.ones(rows, dtype=torch.long)
    return rows / fastest(lambda _: next_logits(model, cache, ids, slots, starts, lengths), steps)
