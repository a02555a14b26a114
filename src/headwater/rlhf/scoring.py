"""Scores of whole dialogues: a normalised reward model, or any callable with the same signature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from headwater.errors import UserError
from headwater.models.layout import load_model
from headwater.models.model import Model
from headwater.training.batch import Row, split_by_tokens

Scorer = Callable[[Sequence[Sequence[int]]], Tensor]
"""Token ids of dialogues → their scores, [dialogues], fp32."""


@torch.inference_mode()
def raw_scores(model: Model, dialogues: Sequence[Sequence[int]], budget: int = 4096) -> Tensor:
    """Scores of a reward model before normalisation, in the order given: [dialogues]."""
    scores = torch.zeros(len(dialogues))
    rows = [Row(torch.tensor(ids), per_row={"index": index}) for index, ids in enumerate(dialogues)]
    for batch in split_by_tokens(rows, budget):
        scores[batch.per_row["index"]] = model.scores(batch.ids, batch.lengths)
    return scores


class RewardModel:
    """A reward model with its normaliser: gain·r + bias has mean 0 and variance 1 over the SFT policy's answers."""

    def __init__(self, model: Model, gain: float, bias: float) -> None:
        self.model, self.gain, self.bias = model.eval().requires_grad_(False), gain, bias

    def __call__(self, dialogues: Sequence[Sequence[int]]) -> Tensor:
        """[dialogues] normalised scores."""
        return self.gain * raw_scores(self.model, dialogues) + self.bias

    def frozen(self, dtype: torch.dtype) -> RewardModel:
        """The same in this number format: a copy, where it is another one."""
        if self.model.dtype == dtype:
            return self
        return RewardModel(self.model.frozen(dtype), self.gain, self.bias)

    @classmethod
    def load(cls, folder: Path) -> RewardModel:
        """Raises UserError where the normaliser is missing: scores of unknown scale would make β meaningless."""
        model, config = load_model(folder)
        normaliser = config.get("headwater", {})
        if model.kind != "reward" or not {"gain", "bias"} <= normaliser.keys():
            raise UserError(
                f"The reward model in {folder} has no normaliser (headwater.gain and headwater.bias in config.json): "
                "run the reward stage again."
            )
        return cls(model, normaliser["gain"], normaliser["bias"])


def fit_normaliser(scores: Tensor) -> tuple[float, float]:
    """(gain, bias) that give `scores` mean 0 and variance 1."""
    mean, deviation = float(scores.mean()), float(scores.std())
    if not deviation >= 1e-6:  # NaN too, where there are fewer than two scores
        raise UserError(
            "The reward model gives every answer the same score: it has learnt nothing; check the rankings."
        )
    return 1 / deviation, -mean / deviation
