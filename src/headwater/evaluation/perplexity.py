"""How well a model predicts text: bits per byte, which no tokenizer can flatter, and whether it knows how sure it may be."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from headwater.evaluation.calibration import Calibration, calibration
from headwater.models.heads import IGNORED
from headwater.models.model import Model
from headwater.training.batch import Row, split_by_tokens

_BUDGET = 4096
"""Padded tokens per forward pass."""


@dataclass(frozen=True)
class Text:
    """Something to be predicted: a row with `targets`, its UTF-8 bytes, and the group it is counted in."""

    row: Row
    bytes: int
    group: str


def bits_per_byte(model: Model, texts: Sequence[Text]) -> dict[str, float]:
    """Σ nats / ln 2 / Σ UTF-8 bytes, over all texts ("all") and per group; the closing token's bits are included."""
    nats: dict[str, float] = defaultdict(float)
    sizes: dict[str, int] = defaultdict(int)
    for index, text in enumerate(texts):
        text.row.per_row["text"] = index
        sizes[text.group] += text.bytes
    with torch.inference_mode():
        for batch in split_by_tokens([text.row for text in texts], _BUDGET):
            hidden = model.hidden_states(*batch.inputs())
            learnt = batch.per_token["targets"] != IGNORED
            losses = model.language_model.token_losses(hidden[learnt], batch.per_token["targets"][learnt])
            owners = batch.per_row["text"][:, None].expand_as(learnt)[learnt]
            for owner, loss in zip(owners.tolist(), losses.tolist(), strict=True):
                nats[texts[owner].group] += loss
    result = {group: nats[group] / math.log(2) / size for group, size in sizes.items() if size}
    result["all"] = sum(nats.values()) / math.log(2) / max(1, sum(sizes.values()))
    return result


@torch.inference_mode()
def next_token_calibration(model: Model, texts: Sequence[Text]) -> Calibration:
    """Of the tokens that the model expects with probability p, does a share of p come? Over the likeliest token at every
    place (Guo et al. 2017); tuning a model on people's preferences can spoil this (OpenAI 2023, GPT-4)."""
    sure, came = [torch.zeros(0)], [torch.zeros(0, dtype=torch.bool)]
    for batch in split_by_tokens([text.row for text in texts], _BUDGET):
        learnt = batch.per_token["targets"] != IGNORED
        likeliest = (
            model.language_model(model.hidden_states(*batch.inputs())[learnt]).float().softmax(dim=-1).max(dim=-1)
        )
        sure.append(likeliest.values)
        came.append(likeliest.indices == batch.per_token["targets"][learnt])
    return calibration(torch.cat(sure).numpy(), torch.cat(came).numpy())
