"""Intervals against the equations that define them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.evaluation.intervals import draws, percentile_interval, sigmoid, wilson


@given(st.integers(1, 400).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_the_ends_of_wilson_are_as_far_from_the_share_as_the_score_test_allows(counts: tuple[int, int]) -> None:
    count, total = counts
    share, ends = count / total, wilson(*counts)
    assert 0 <= ends[0] <= share <= ends[1] <= 1
    for end in ends:
        assert abs(share - end) == pytest.approx(1.959963984540054 * math.sqrt(end * (1 - end) / total), abs=1e-12)


def test_no_share_of_nothing() -> None:
    for count, total in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="is no share"):
            wilson(count, total)


def test_the_first_draw_is_the_sample_and_every_other_has_as_many_units() -> None:
    drawn = draws(7, 20, np.random.default_rng(0))
    assert drawn.shape == (21, 7)
    assert (drawn[0] == 1).all()
    assert (drawn.sum(axis=1) == 7).all()
    assert len({tuple(row) for row in drawn}) > 10


def test_the_interval_of_a_uniform_sample() -> None:
    assert percentile_interval(np.arange(1001)) == pytest.approx((25, 975))


def test_the_interval_of_nothing_is_no_number() -> None:
    assert all(math.isnan(end) for end in percentile_interval([]))


def test_an_interval_may_end_in_infinity() -> None:
    drawn = [-math.inf] * 10 + [0.0] * 80 + [math.inf] * 10
    assert percentile_interval(drawn, method="inverted_cdf") == (-math.inf, math.inf)


def test_extreme_logits() -> None:
    assert list(sigmoid(np.array([-1e9, 0, 1e9]))) == [0, 0.5, 1]
    assert sigmoid(np.array([-2.0, -40.0])) == pytest.approx([1 / (1 + math.exp(2)), math.exp(-40)], rel=1e-12)
