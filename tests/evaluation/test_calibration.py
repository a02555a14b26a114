"""A model that says what is so has no calibration error; one that exaggerates has the right one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headwater.evaluation.calibration import calibration, pair_calibration
from headwater.evaluation.intervals import sigmoid


def test_by_hand() -> None:
    found = calibration([0.05, 0.05, 0.95, 1.0], [0, 1, 1, 1])
    assert [(b.count, b.observed) for b in found.bins] == [(2, 0.5), (2, 1.0)]
    assert [b.predicted for b in found.bins] == pytest.approx([0.05, 0.975])
    assert found.error == pytest.approx(0.5 * 0.45 + 0.5 * 0.025)


def test_true_probabilities_are_calibrated() -> None:
    generator = np.random.default_rng(0)
    predicted = generator.random(50_000)
    came = generator.random(50_000) < predicted
    assert calibration(predicted, came).error < 0.02
    assert calibration(sigmoid(3 * np.log(predicted / (1 - predicted))), came).error > 0.1


@given(arrays(np.float64, 20, elements=st.floats(0, 1)), arrays(np.bool_, 20))
def test_bins_hold_everything_once(predicted: np.ndarray, came: np.ndarray) -> None:
    found = calibration(predicted, came)
    assert sum(b.count for b in found.bins) == found.count == 20
    assert sum(b.count * b.observed for b in found.bins) == pytest.approx(came.sum())
    assert all(b.low - 1e-9 <= b.predicted <= b.high + 1e-9 for b in found.bins)
    assert 0 <= found.error <= 1


def test_pairs_of_a_known_utility() -> None:
    """People order by utility + Gumbel noise: σ of the utilities' difference is exactly right (Bradley–Terry)."""
    generator = np.random.default_rng(1)
    utility = generator.normal(size=1500) * 1.5
    heard = utility + generator.gumbel(size=1500)
    assert pair_calibration(utility, heard).error < 0.03
    assert pair_calibration(4 * utility, heard).error > 0.08
    assert pair_calibration(-utility, heard).error > 0.3


def test_pairs_stay_within_a_source_and_a_gap() -> None:
    means = [0.0, 0.1, 5.0, 0.0, 3.0]
    assert pair_calibration(np.zeros(5), means).count == 9
    assert pair_calibration(np.zeros(5), means, sources=list("aaabb")).count == 4
    assert pair_calibration(np.zeros(5), means, 1.0, list("aaabb")).count == 3
    assert pair_calibration(np.zeros(5), means, 99.0).bins == []


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        calibration([0.5], [1, 0])
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibration([1.5], [1])
