"""How well scores order pairs of answers as people do, with an interval that knows the pairs are not independent.

n answers make n (n − 1) / 2 pairs, but each answer is in n − 1 of them; so the bootstrap draws answers, not pairs. With
w how often each answer was drawn, C the credit and E the eligibility of each pair, a resample's accuracy is
(wᵀC w) / (wᵀE w).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.evaluation.intervals import Array, draws, percentile_interval

BLOCK = 1024
"""Rows of the pair matrix that are held at once."""

TOLERANCE = 1e-9
"""Means that should differ by exactly the minimum gap must not fall short of it by rounding."""


@dataclass(frozen=True)
class PairAccuracy:
    """Share of the pairs in the right order (a tied score is ½ right), its 95% interval, and how many pairs."""

    accuracy: float
    low: float
    high: float
    pairs: int


def pair_accuracy(
    scores: ArrayLike,
    means: ArrayLike,
    minimum_gap: float = 0.0,
    sources: Sequence[str] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> PairAccuracy:
    """Accuracy of `scores` [answers] on all pairs of one source whose mean ratings `means` [answers] differ.

    `minimum_gap`: only pairs whose means differ by at least so much; 0: by anything. No such pair: accuracy is NaN.
    """
    return order_agreement(
        scores, means, sources, gap_of=means, minimum_gap=minimum_gap, resamples=resamples, seed=seed
    )


def order_agreement(
    scores: ArrayLike,
    order: ArrayLike,
    sources: Sequence[str] | None,
    *,
    gap_of: ArrayLike,
    minimum_gap: float,
    resamples: int,
    seed: int,
) -> PairAccuracy:
    """As `pair_accuracy`; the right order (`order`) and the choice of pairs (`gap_of`) may be different numbers."""
    score, right, gap = (np.asarray(values, dtype=np.float64) for values in (scores, order, gap_of))
    if not score.shape == right.shape == gap.shape or score.ndim != 1:
        raise ValueError(f"Scores {score.shape}, order {right.shape} and gaps {gap.shape} must be of one length.")
    if not (np.isfinite(score).all() and np.isfinite(right).all() and np.isfinite(gap).all()):
        raise ValueError("Scores and means must be finite.")
    labels = np.zeros(len(score), dtype=np.int64) if sources is None else np.unique(sources, return_inverse=True)[1]
    if len(labels) != len(score):
        raise ValueError(f"{len(labels)} sources for {len(score)} answers.")
    generator = np.random.default_rng(seed)
    credit, eligible = np.zeros(resamples + 1), np.zeros(resamples + 1)
    for label in np.unique(labels):
        member = labels == label
        weights = draws(int(member.sum()), resamples, generator)
        for rows, right_rows, counted_rows in blocks(score[member], right[member], gap[member], minimum_gap):
            # Row 0 of the weights is all ones: the sample itself.
            credit += ((weights[:, rows] @ right_rows) * weights).sum(axis=1, dtype=np.float64)
            eligible += ((weights[:, rows] @ counted_rows) * weights).sum(axis=1, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracies = credit / eligible
    drawn = accuracies[1:][eligible[1:] > 0]
    return PairAccuracy(float(accuracies[0]), *percentile_interval(drawn), round(eligible[0] / 2))


def blocks(
    score: Array, right: Array, gap: Array, minimum_gap: float
) -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.float32]]]:
    """(rows, credit [rows, answers], eligible [rows, answers]): every ordered pair, a block of rows at a time."""
    for start in range(0, len(score), BLOCK):
        rows = slice(start, min(start + BLOCK, len(score)))
        apart = np.abs(gap[rows, None] - gap[None, :])
        truth = np.sign(right[rows, None] - right[None, :])
        eligible = (truth != 0) & (apart > 0) & (apart >= minimum_gap - TOLERANCE)
        guess = np.sign(score[rows, None] - score[None, :])
        credit = np.where(eligible, (1 + guess * truth) / 2, 0)
        yield rows, credit.astype(np.float32), eligible.astype(np.float32)
