"""What several seeds say together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class Spread:
    """Mean over seeds with its 95% interval; without one where there is a single seed."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def over_seeds(values: Sequence[float]) -> Spread:
    """mean ± t·s/√n, t of Student's distribution with n − 1 degrees of freedom: with few seeds a wide interval."""
    mean = fmean(values)
    if len(values) < 2:
        return Spread(mean, None, None)
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Spread(mean, mean - half, mean + half)
