"""Newton's method for concave functions of a few numbers, such as log-likelihoods."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from headwater.evaluation.intervals import Array

_STEPS = 100
"""At most; a handful suffice."""


def maximise(
    start: Array, value: Callable[[Array], float], derivatives: Callable[[Array], tuple[Array, Array]], scale: float
) -> Array:
    """The point where a concave function is highest, from `start`; a step that leads down is halved until it does not.

    derivatives: point → (slope, minus the second derivatives, which must be positive definite). scale: the size of the function's
    terms together, such as the number of outcomes: a slope of 1e-9 of it counts as none.
    """
    found, reached = start, value(start)
    for _ in range(_STEPS):
        slope, curvature = derivatives(found)
        if not len(slope) or np.abs(slope).max() < 1e-9 * scale:
            break
        step = np.linalg.solve(curvature, slope)
        while (tried := value(found + step)) < reached - 1e-12 * scale:
            step /= 2
        found, reached = found + step, tried
    return found
