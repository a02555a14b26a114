"""How well a model predicts text: bits per byte, which no tokenizer can flatter, and whether it knows how sure it may be."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.evaluation.calibration import Calibration, calibration
from headwater.models.heads import IGNORED
from headwater.models.model import Model
from headwater.training.batch import READ_BUDGET, Row, split_by_tokens

_TOGETHER = 256
"""Places whose probabilities of the whole vocabulary are held at once."""


@dataclass(frozen=True)
class Text:
    """Something to be predicted: a row with `targets`, its UTF-8 bytes, and the group it is counted in."""

    row: Row
    bytes: int
    group: str


@dataclass(frozen=True)
class Prediction:
    """bits_per_byte: over all texts ("all") and per group; calibration: of the likeliest next token at every place."""

    bits_per_byte: dict[str, float]
    calibration: Calibration


def bits_per_byte(model: Model, texts: Sequence[Text]) -> dict[str, float]:
    """Σ nats / ln 2 / Σ UTF-8 bytes, over all texts ("all") and per group; the closing token's bits are included."""
    nats: dict[str, float] = defaultdict(float)
    for groups, hidden, targets in _learnt_places(model, texts):
        _add(nats, groups, model.language_model.token_losses(hidden, targets))
    return _per_byte(nats, texts)


@torch.inference_mode()
def prediction(model: Model, texts: Sequence[Text]) -> Prediction:
    """`bits_per_byte`, and in the same pass: of the tokens that the model expects with probability p, does a share of p come?

    Over the likeliest token at every place (Guo et al. 2017); tuning a model on people's preferences can spoil this (OpenAI
    2023, GPT-4).
    """
    nats: dict[str, float] = defaultdict(float)
    sure, came = [torch.zeros(0)], [torch.zeros(0, dtype=torch.bool)]
    for groups, hidden, targets in _learnt_places(model, texts):
        losses = []
        for states, wanted in zip(torch.split(hidden, _TOGETHER), torch.split(targets, _TOGETHER), strict=True):
            said = model.language_model(states).float().log_softmax(dim=-1)
            losses.append(-said.gather(1, wanted[:, None])[:, 0])
            likeliest = said.max(dim=-1)
            sure.append(likeliest.values.exp())
            came.append(likeliest.indices == wanted)
        _add(nats, groups, torch.cat(losses) if losses else torch.zeros(0))
    return Prediction(_per_byte(nats, texts), calibration(torch.cat(sure).numpy(), torch.cat(came).numpy()))


@torch.inference_mode()
def _learnt_places(model: Model, texts: Sequence[Text]) -> Iterator[tuple[list[str], Tensor, Tensor]]:
    """Batch by batch, of every place that has a target: its text's group, the state that predicts it [places, d_model], and the
    target [places]."""
    for index, text in enumerate(texts):
        text.row.per_row["text"] = index
    for batch in split_by_tokens([text.row for text in texts], READ_BUDGET, model.shares_beginnings):
        learnt = batch.per_token["targets"] != IGNORED
        owners = batch.per_row["text"][:, None].expand_as(learnt)[learnt]
        groups = [texts[owner].group for owner in owners.tolist()]
        yield groups, model.hidden_states(*batch.inputs())[learnt], batch.per_token["targets"][learnt]


def _add(nats: dict[str, float], groups: Sequence[str], losses: Tensor) -> None:
    for group, loss in zip(groups, losses.tolist(), strict=True):
        nats[group] += loss


def _per_byte(nats: dict[str, float], texts: Sequence[Text]) -> dict[str, float]:
    sizes: dict[str, int] = defaultdict(int)
    for text in texts:
        sizes[text.group] += text.bytes
    result = {group: nats[group] / math.log(2) / size for group, size in sizes.items() if size}
    result["all"] = sum(nats.values()) / math.log(2) / max(1, sum(sizes.values()))
    return result
