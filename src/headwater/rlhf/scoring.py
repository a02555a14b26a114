"""Scores of answers: a normalised reward model, several of them, or any callable with the same signature."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from headwater.errors import UserError
from headwater.models.answer import Answer
from headwater.models.layout import load_model, read_config
from headwater.models.model import Model
from headwater.progress import say
from headwater.storage import write_atomically
from headwater.training.batch import READ_BUDGET, Row, split_by_tokens

Scorer = Callable[[Sequence[Answer]], Tensor]
"""Answers, which know what they answer → their scores, [answers], fp32."""


ENSEMBLE = "ensemble.json"
"""In the folder of a reward stage with several members: their pessimism, and the gain and bias of all together."""


class Reward(Protocol):
    """A scorer that PPO can follow in the policy's number format."""

    def __call__(self, answers: Sequence[Answer], /) -> Tensor:
        """[answers] normalised scores, fp32."""

    def frozen(self, dtype: torch.dtype) -> Reward:
        """A copy in this number format, where it has weights."""


@torch.inference_mode()
def raw_scores(model: Model, dialogues: Sequence[Sequence[int]], budget: int = READ_BUDGET) -> Tensor:
    """Scores of a reward model before normalisation, in the order given: [dialogues]."""
    scores = torch.zeros(len(dialogues))
    rows = [Row(torch.tensor(ids), per_row={"index": index}) for index, ids in enumerate(dialogues)]
    for batch in split_by_tokens(rows, budget, model.shares_beginnings):
        scores[batch.per_row["index"]] = model.scores(batch.ids, batch.lengths)
    return scores


class RewardModel:
    """A reward model with its normaliser: gain·r + bias has mean 0 and variance 1 over the SFT policy's answers."""

    def __init__(self, model: Model, gain: float, bias: float) -> None:
        self.model, self.gain, self.bias = model.eval().requires_grad_(False), gain, bias

    def __call__(self, answers: Sequence[Answer], /) -> Tensor:
        """[answers] normalised scores."""
        return self.scores([answer.ids for answer in answers])

    def scores(self, dialogues: Sequence[Sequence[int]]) -> Tensor:
        """[dialogues] normalised scores."""
        return self.gain * raw_scores(self.model, dialogues) + self.bias

    def frozen(self, dtype: torch.dtype) -> RewardModel:
        """The same in this number format: a copy, where it is another one."""
        if self.model.dtype == dtype:
            return self
        return RewardModel(self.model.frozen(dtype), self.gain, self.bias)

    @classmethod
    def load(cls, folder: Path, *, normalise: bool = True, strict: bool = True) -> RewardModel:
        """normalise: false takes the scores as they come. Raises UserError where the folder holds no reward model.

        Where the normaliser is missing, scores of unknown scale would make β meaningless: that is a UserError, too, or, if
        not `strict`, said once.
        """
        model, config = load_model(folder), read_config(folder)
        normaliser = config.get("headwater", {})
        if model.kind != "reward":
            raise UserError(f"{folder} holds no reward model: run the reward stage again.")
        if not normalise:
            return cls(model, 1.0, 0.0)
        if not {"gain", "bias"} <= normaliser.keys():
            missing = (
                f"The reward model in {folder} has no normaliser (headwater.gain and headwater.bias in config.json)"
            )
            if strict:
                raise UserError(f"{missing}: run the reward stage again.")
            say(f"{missing}: its scores are taken as they come.")
        return cls(model, normaliser.get("gain", 1.0), normaliser.get("bias", 0.0))


class RewardEnsemble:
    """Several reward models as one: the mean of their normalised scores, less `pessimism` times their deviation.

    Coste et al. (2024) call it uncertainty-weighted optimisation; they subtract the variance. The deviation, unbiased, has
    the unit of the scores, so that `pessimism` has none. Its own gain and bias make of that what a single model's make of its
    scores: means of several have a smaller deviation, and what is taken off lowers them all.
    """

    def __init__(
        self, members: Sequence[RewardModel], pessimism: float = 0.0, gain: float = 1.0, bias: float = 0.0
    ) -> None:
        self.members, self.pessimism, self.gain, self.bias = list(members), pessimism, gain, bias

    def each(self, dialogues: Sequence[Sequence[int]]) -> Tensor:
        """Normalised scores of every member, [members, dialogues]."""
        return self.normalised(self.raw(dialogues))

    def raw(self, dialogues: Sequence[Sequence[int]]) -> Tensor:
        """Scores of every member before normalisation, [members, dialogues]."""
        return torch.stack([raw_scores(member.model, dialogues) for member in self.members])

    def normalised(self, raw: Tensor) -> Tensor:
        """[members, dialogues] → the same, each member by its own normaliser."""
        return torch.stack([member.gain * row + member.bias for member, row in zip(self.members, raw, strict=True)])

    def __call__(self, answers: Sequence[Answer], /) -> Tensor:
        """[answers] scores of all together."""
        return self.scores([answer.ids for answer in answers])

    def scores(self, dialogues: Sequence[Sequence[int]]) -> Tensor:
        """[dialogues] scores of all together."""
        return self.gain * self.combine(self.each(dialogues)) + self.bias

    def fitted(self, dialogues: Sequence[Sequence[int]], folder: Path) -> RewardEnsemble:
        """The same with mean 0 and deviation 1 over these answers of the SFT policy; gain and bias are kept in the reward stage's
        `folder`. Raises UserError where all have one score."""
        mend = "they contradict each other; check the rankings, or take one with reward.members=1"
        gain, bias = fit_normaliser(self.combine(self.each(dialogues)), "The ensemble of reward models", mend)
        kept = {"pessimism": self.pessimism, "gain": gain, "bias": bias}
        write_atomically(folder / ENSEMBLE, json.dumps(kept) + "\n")
        return RewardEnsemble(self.members, self.pessimism, gain, bias)

    def combine(self, scores: Tensor) -> Tensor:
        """[members, dialogues] → [dialogues], before the gain and bias of all together."""
        mean = scores.mean(dim=0)
        return mean - self.pessimism * scores.std(dim=0) if self.pessimism else mean

    @property
    def model(self) -> Model:
        """The first member's: a critic starts from it."""
        return self.members[0].model

    def frozen(self, dtype: torch.dtype) -> RewardEnsemble:
        """A copy in this number format."""
        return RewardEnsemble([member.frozen(dtype) for member in self.members], self.pessimism, self.gain, self.bias)


def spread(scores: Tensor) -> float | None:
    """How far the members are apart, [members, dialogues] → the mean of their deviations; None where there is one alone."""
    return float(scores.std(dim=0).mean()) if len(scores) > 1 else None


def member_names(members: int) -> list[str]:
    """The folders of a reward stage's reward models: model, model-2, model-3, …"""
    return ["model", *(f"model-{number}" for number in range(2, members + 1))]


def count_members(folder: Path) -> int:
    """How many reward models lie in the folder of a reward stage."""
    members = 1
    while (folder / f"model-{members + 1}" / "config.json").is_file():
        members += 1
    return members


def load_reward(
    folder: Path, members: int = 1, pessimism: float | None = None, *, normalise: bool = True, strict: bool = True
) -> RewardModel | RewardEnsemble:
    """The reward of a finished reward stage: one model, or the ensemble of all. Settings and errors as `RewardModel.load`.

    pessimism: None for the stage's own. Stages of before kept none of their ensembles, nor a normaliser of all together.
    """
    models = [RewardModel.load(folder / name, normalise=normalise, strict=strict) for name in member_names(members)]
    if members == 1:
        return models[0]
    path = folder / ENSEMBLE
    kept = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"pessimism": 0.0, "gain": 1.0, "bias": 0.0}
    )
    if pessimism is None:
        pessimism = kept["pessimism"]
    if not normalise or pessimism != kept["pessimism"]:
        return RewardEnsemble(models, pessimism)
    return RewardEnsemble(models, pessimism, kept["gain"], kept["bias"])


def fit_normaliser(
    scores: Tensor, place: str = "The reward model", mend: str = "it has learnt nothing; check the rankings"
) -> tuple[float, float]:
    """(gain, bias) that give `scores` mean 0 and variance 1; `place` and `mend` are named where all are the same."""
    mean, deviation = float(scores.mean()), float(scores.std())
    if not deviation >= 1e-6:  # NaN too, where there are fewer than two scores
        raise UserError(f"{place} gives every answer the same score: {mend}.")
    return 1 / deviation, -mean / deviation
