"""How often one model's answers beat another's to the same prompts, by a judge's scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from headwater.evaluation.intervals import percentile_interval


@dataclass(frozen=True)
class WinRate:
    """Share of prompts that the new model wins, ties counted ½, with its 95% bootstrap interval over prompts."""

    rate: float
    low: float
    high: float
    prompts: int
    wins: int
    ties: int


def win_rate(before: ArrayLike, after: ArrayLike, *, resamples: int = 2000, seed: int = 0) -> WinRate:
    """`before`, `after`: a judge's scores [prompts] of the two models' answers, in the same order of prompts.

    A prompt is won, tied or lost; so drawing prompts with replacement is drawing the three counts from a multinomial.
    """
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if old.shape != new.shape or old.ndim != 1 or not len(old):
        raise ValueError(f"Scores before {old.shape} and after {new.shape} must be of one length, at least 1.")
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        raise ValueError("A judge's scores must be finite.")
    prompts = len(old)
    wins, ties = int((new > old).sum()), int((new == old).sum())
    shares = np.array([wins, ties, prompts - wins - ties]) / prompts
    drawn = np.random.default_rng(seed).multinomial(prompts, shares, size=resamples)
    low, high = percentile_interval((drawn[:, 0] + drawn[:, 1] / 2) / prompts)
    return WinRate((wins + ties / 2) / prompts, low, high, prompts, wins, ties)
