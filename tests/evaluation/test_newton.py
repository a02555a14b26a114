"""The maximiser on functions whose highest point is known, or that scipy finds otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from headwater.evaluation.newton import maximise


def logistic(outcomes: np.ndarray):
    """Σ y·θ − log(1 + e^θ) per place, less θ²/20."""

    def value(theta: np.ndarray) -> float:
        return float((outcomes * theta - np.logaddexp(0, theta)).sum() - (theta**2).sum() / 20)

    def derivatives(theta: np.ndarray):
        chances = 1 / (1 + np.exp(-theta))
        return outcomes - chances - theta / 10, np.diag(chances * (1 - chances) + 0.1)

    return value, derivatives


@given(st.lists(st.floats(-3, 4), min_size=1, max_size=5))
def test_the_highest_point_is_scipys(outcomes: list[float]) -> None:
    value, derivatives = logistic(np.array(outcomes))
    found = maximise(np.zeros(len(outcomes)), value, derivatives, 1.0)
    other = minimize(lambda theta: -value(theta), np.zeros(len(outcomes)), method="BFGS", tol=1e-9)
    assert found == pytest.approx(other.x, abs=1e-3)


def test_a_step_too_far_is_halved() -> None:
    """−log cosh curves so little far out that a plain Newton step runs away."""
    found = maximise(
        np.array([3.0]),
        lambda x: -float(np.log(np.cosh(x)).sum()),
        lambda x: (-np.tanh(x), np.diag(1 / np.cosh(x) ** 2)),
        1.0,
    )
    assert found == pytest.approx([0.0], abs=1e-6)


def test_nothing_to_find_is_found() -> None:
    assert maximise(np.zeros(0), lambda _: 0.0, lambda x: (x, np.zeros((0, 0))), 1.0).shape == (0,)
