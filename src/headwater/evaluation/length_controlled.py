"""The win rate that would be left if both models' answers were equally long (Dubois et al. 2024).

A logistic regression of the outcome on the difference in length,

    P(after wins) = σ(θ + φ · tanh((length_after − length_before) / s)),    s: the differences' standard deviation,

is read at difference 0: σ(θ). Their third term, how hard each instruction is, needs many models; here there are two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from headwater.evaluation.intervals import Array, draws, percentile_interval, sigmoid
from headwater.evaluation.newton import maximise

PENALTY = 0.01
"""Of θ² + φ², halved, against the summed log-likelihood: it moves nothing that can be seen, and keeps the estimate
finite where one model wins always, or exactly where its answers are longer."""


@dataclass(frozen=True)
class LengthControlled:
    """σ(θ) with its 95% bootstrap interval over prompts, and φ: how much longer answers are preferred (0: not)."""

    rate: float
    low: float
    high: float
    length_effect: float


def length_controlled_win_rate(
    before: ArrayLike,
    after: ArrayLike,
    lengths_before: ArrayLike,
    lengths_after: ArrayLike,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> LengthControlled:
    """Scores of one judge and lengths (in any unit) of two models' answers, [prompts] each; a tie is half a win.

    `s` is that of the whole sample in every resample. Where all differences are alike, it is the plain win rate.
    """
    old, new, short, long = (
        np.asarray(values, dtype=np.float64) for values in (before, after, lengths_before, lengths_after)
    )
    if not old.shape == new.shape == short.shape == long.shape or old.ndim != 1 or not len(old):
        raise ValueError("Scores and lengths before and after must be of one length, at least 1.")
    if not all(np.isfinite(values).all() for values in (old, new, short, long)):
        raise ValueError("Scores and lengths must be finite.")
    outcomes = (1 + np.sign(new - old)) / 2
    difference = long - short
    deviation = difference.std()
    feature = np.tanh(difference / deviation) if deviation > 0 else np.zeros(len(difference))
    weights = draws(len(old), resamples, np.random.default_rng(seed)).astype(np.float64)
    # The first row of the weights is the sample itself.
    fits = np.array([fit(feature, outcomes, drawn) for drawn in weights])
    rates = sigmoid(fits[:, 0])
    return LengthControlled(float(rates[0]), *percentile_interval(rates[1:]), float(fits[0, 1]))


def fit(feature: Array, outcomes: Array, weights: Array) -> Array:
    """(θ, φ) that maximise Σ w·(y·log p + (1 − y)·log(1 − p)) − PENALTY·(θ² + φ²)/2, by Newton's method.

    `feature`, `outcomes` (0 to 1) and `weights`: [prompts].
    """
    inputs = np.stack([np.ones_like(feature), feature], axis=1)

    def derivatives(found: Array) -> tuple[Array, Array]:
        chances = sigmoid(inputs @ found)
        slope = inputs.T @ (weights * (outcomes - chances)) - PENALTY * found
        return slope, (inputs * (weights * chances * (1 - chances))[:, None]).T @ inputs + PENALTY * np.eye(2)

    return maximise(
        np.zeros(2), lambda found: _objective(found, inputs, outcomes, weights), derivatives, float(weights.sum())
    )


def _objective(found: Array, inputs: Array, outcomes: Array, weights: Array) -> float:
    logits = inputs @ found
    likelihood = (weights * (outcomes * logits - np.logaddexp(0, logits))).sum()
    return float(likelihood - PENALTY * (found**2).sum() / 2)
