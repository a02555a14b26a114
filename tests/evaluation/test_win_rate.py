"""Win rate with ties as a half, and an interval that holds what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.evaluation.win_rate import win_rate


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_it_counts(pairs: list[tuple[int, int]]) -> None:
    before, after = zip(*pairs, strict=True)
    found = win_rate(before, after, resamples=200)
    assert found.rate == pytest.approx(sum(1.0 if b > a else 0.5 if b == a else 0 for a, b in pairs) / len(pairs))
    assert found.low <= found.rate + 1e-9
    assert found.high >= found.rate - 1e-9
    mirrored = win_rate(after, before, resamples=200)
    assert mirrored.rate == pytest.approx(1 - found.rate)
    assert (found.prompts, found.ties) == (mirrored.prompts, mirrored.ties)


def test_certain_cases() -> None:
    assert win_rate([0, 0], [1, 1]).rate == win_rate([0, 0], [1, 1]).low == 1
    assert win_rate([1, 1], [1, 1]).rate == win_rate([1, 1], [1, 1]).high == 0.5


def test_the_interval_covers_the_truth() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for repeat in range(200):
        found = win_rate(np.zeros(300), np.where(generator.random(300) < 0.8, 1, -1), seed=repeat)
        covered += found.low <= 0.8 <= found.high
        assert found.high - found.low == pytest.approx(2 * 1.96 * (0.16 / 300) ** 0.5, rel=0.3)
    assert 180 <= covered <= 200


def test_the_seed_decides() -> None:
    before, after = np.random.default_rng(0).normal(size=(2, 50))
    assert win_rate(before, after, seed=3) == win_rate(before, after, seed=3)


def test_what_does_not_fit_is_refused() -> None:
    for before, after in (([], []), ([1], [1, 2]), ([1], [float("nan")])):
        with pytest.raises(ValueError, match=r"length|finite"):
            win_rate(before, after)
