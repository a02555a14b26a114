"""The statistics that several measures share: resamples, intervals, and the logistic function."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def draws(units: int, resamples: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """How often a bootstrap draws each unit, [1 + resamples, units]; the first row is the sample itself, once each."""
    weights = np.ones((resamples + 1, units), dtype=np.float32)
    for place in range(1, resamples + 1):
        weights[place] = np.bincount(generator.integers(units, size=units), minlength=units)
    return weights


def percentile_interval(drawn: ArrayLike, method: Literal["linear", "inverted_cdf"] = "linear") -> tuple[float, float]:
    """The middle 95% of the values that the resamples gave, [resamples]; NaN where there is none.

    `inverted_cdf` takes one of the values and interpolates nothing: between two infinities there is no middle.
    """
    values = np.asarray(drawn, dtype=np.float64)
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [0.025, 0.975], method=method)
    return float(low), float(high)


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95% score interval for a share (Wilson 1927): within 0 and 1, and no point where the share is 0 or 1."""
    from scipy.stats import binomtest

    if not 0 <= count <= total or not total:
        raise ValueError(f"{count} of {total} is no share.")
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^−x) without overflow."""
    from scipy.special import expit

    return np.asarray(expit(x))
