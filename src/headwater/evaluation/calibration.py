"""Whether a reward model's probabilities mean what they say: of the pairs it calls 70%, do people agree on 70%?

P(a better than b) = σ(r_a − r_b), the Bradley–Terry model that the reward is trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from headwater.evaluation.intervals import sigmoid
from headwater.evaluation.pairs import TOLERANCE

MOST_ANSWERS = 3000
"""Answers whose pairs are all looked at: 4.5 million; more would take gigabytes and change nothing."""
MOST_PAIRS = 200_000
"""Of theirs, pairs that stand on the curve."""


@dataclass(frozen=True)
class Bin:
    """Predictions from `low` to `high`: how many, what was predicted on average, and what came out."""

    low: float
    high: float
    count: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Calibration:
    """Reliability curve (empty bins left out) and expected calibration error, mean |predicted − observed|."""

    bins: list[Bin]
    error: float
    count: int


def calibration(probabilities: ArrayLike, outcomes: ArrayLike, bins: int = 10) -> Calibration:
    """Bins of equal width over [0, 1]; error after Guo et al. 2017, equation 3.

    `probabilities` [pairs]; `outcomes` [pairs]: 1 came true, 0 did not, ½ a tie.
    """
    predicted, came = np.asarray(probabilities, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if predicted.shape != came.shape or predicted.ndim != 1:
        raise ValueError(f"Probabilities {predicted.shape} and outcomes {came.shape} must be of one length.")
    if not ((predicted >= 0) & (predicted <= 1)).all():
        raise ValueError("Probabilities must lie between 0 and 1.")
    places = np.minimum((predicted * bins).astype(np.int64), bins - 1)
    counts = np.bincount(places, minlength=bins)
    sums, hits = (np.bincount(places, weights=values, minlength=bins) for values in (predicted, came))
    curve = [
        Bin(i / bins, (i + 1) / bins, int(counts[i]), float(sums[i] / counts[i]), float(hits[i] / counts[i]))
        for i in range(bins)
        if counts[i]
    ]
    total = max(1, len(predicted))
    return Calibration(curve, sum(b.count * abs(b.predicted - b.observed) for b in curve) / total, len(predicted))


def pair_calibration(
    rewards: ArrayLike,
    means: ArrayLike,
    minimum_gap: float = 0.0,
    sources: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> Calibration:
    """Calibration of σ(r_a − r_b) on pairs of one source whose mean ratings differ by `minimum_gap` (0: differ at all).

    `rewards`, `means`: [answers]. Each pair stands on the curve once, a and b in random order: the curve then runs over
    all of [0, 1]. Of more than 3,000 answers or 200,000 pairs a random choice of so many is taken.
    """
    reward, mean = np.asarray(rewards, dtype=np.float64), np.asarray(means, dtype=np.float64)
    labels = np.zeros(len(reward), dtype=np.int64) if sources is None else np.unique(sources, return_inverse=True)[1]
    generator = np.random.default_rng(seed)
    if len(reward) > MOST_ANSWERS:
        kept = np.sort(generator.choice(len(reward), size=MOST_ANSWERS, replace=False))
        reward, mean, labels = reward[kept], mean[kept], labels[kept]
    first, second = np.triu_indices(len(reward), k=1)
    apart = np.abs(mean[first] - mean[second])
    chosen = np.flatnonzero((labels[first] == labels[second]) & (apart > 0) & (apart >= minimum_gap - TOLERANCE))
    if len(chosen) > MOST_PAIRS:
        chosen = np.sort(generator.choice(chosen, size=MOST_PAIRS, replace=False))
    turned = generator.random(len(chosen)) < 0.5
    a = np.where(turned, second[chosen], first[chosen])
    b = np.where(turned, first[chosen], second[chosen])
    return calibration(sigmoid(reward[a] - reward[b]), mean[a] > mean[b])
