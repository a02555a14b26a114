"""The sampler and the training path must agree on what the policy is: PPO's ratios rest on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.errors import UserError
from headwater.models.answer import Answer


@dataclass(frozen=True)
class Tolerance:
    """Mean and largest |Δ log p| between sampler and training path; beyond it, something is wrong with one of them."""

    mean: float
    largest: float


SAMPLER_TOLERANCE = {"fp32": Tolerance(1e-5, 1e-4), "bf16": Tolerance(0.02, 0.25)}
"""For two layers, by measurement (docs/lab.md, docs/decisions.md): sums in another order differ by less."""


def sampler_tolerance(precision: str, layers: int) -> Tolerance:
    """Of a model with so many layers: roundings that do not know of each other add up like the root of their number."""
    base, growth = SAMPLER_TOLERANCE[precision], max(1.0, layers / 2) ** 0.5
    return Tolerance(base.mean * growth, base.largest * growth)


def check_sampler(answers: Sequence[Answer], log_probabilities: Tensor, tolerance: Tolerance) -> float:
    """Largest |Δ log p| between what was noted when the answers were drawn and the training path's `log_probabilities`,
    [answers, longest response].

    Raises UserError where they differ by more than the tolerance.
    """
    sampled = [torch.tensor(answer.log_probabilities) for answer in answers]
    trained = [row[: len(said)] for row, said in zip(log_probabilities, sampled, strict=True)]
    difference = (torch.cat(trained) - torch.cat(sampled)).abs()
    mean, largest = float(difference.mean()), float(difference.max())
    if not (mean <= tolerance.mean and largest <= tolerance.largest):
        raise UserError(
            f"The sampler's log-probabilities differ from those of the training path by {mean:.2g} on average and "
            f"{largest:.2g} at most ({tolerance.mean:.2g} and {tolerance.largest:.2g} are allowed): use "
            "ppo.precision=fp32, and where that is used already, another machine or version of torch."
        )
    return largest
