"""The entropy of predicted preferences, against the formula written out, and its ends."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import entropy

from headwater.feedback.uncertainty import preference_entropy


@given(st.integers(0, 10_000))
def test_it_is_the_entropy_of_the_mean_prediction(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(generator.integers(1, 5), generator.integers(2, 6))) * generator.choice([0.1, 1, 5])
    found = []
    for i, j in itertools.combinations(range(scores.shape[1]), 2):
        chance = float(np.mean(expit(scores[:, i] - scores[:, j])))
        found.append(entropy([chance, 1 - chance], base=2))
    assert preference_entropy(scores) == pytest.approx(np.mean(found), abs=1e-9)


def test_its_ends() -> None:
    assert preference_entropy([2.0, 2.0, 2.0]) == 1.0
    assert preference_entropy([[9.0, -9.0], [-9.0, 9.0]]) == pytest.approx(1.0)  # each is sure, of the opposite
    assert preference_entropy([800.0, -800.0]) == 0.0
    assert 0 < preference_entropy([30.0, 0.0]) < preference_entropy([20.0, 0.0]) < preference_entropy([1.0, 0.0]) < 1


@pytest.mark.parametrize("scores", [[1.0], [], [[1.0, math.nan]], [[[1.0, 2.0]]]])
def test_what_has_no_pair_is_refused(scores: object) -> None:
    with pytest.raises(ValueError, match="two answers or more"):
        preference_entropy(scores)  # type: ignore[arg-type]
