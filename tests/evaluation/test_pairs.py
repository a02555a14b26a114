"""Pair accuracy against counting by hand; its interval against the truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.evaluation import pairs
from headwater.evaluation.pairs import pair_accuracy

ITEM = st.tuples(st.integers(-5, 5), st.integers(-40, 40), st.sampled_from("ab"))


def by_hand(items: list[tuple[int, int, str]], tenths: int) -> tuple[float, int]:
    credits = []
    for (score, mean, source), (other, other_mean, other_source) in itertools.combinations(items, 2):
        if source == other_source and mean != other_mean and abs(mean - other_mean) >= tenths:
            credits.append(0.5 if score == other else float((score > other) == (mean > other_mean)))
    return (sum(credits) / len(credits) if credits else float("nan")), len(credits)


@given(st.lists(ITEM, min_size=1, max_size=25), st.sampled_from([0, 1, 3, 10]))
def test_it_counts_pairs_of_one_source(items: list[tuple[int, int, str]], tenths: int) -> None:
    scores, means, sources = zip(*items, strict=True)
    found = pair_accuracy(scores, np.array(means) / 10, tenths / 10, sources, resamples=5)
    accuracy, count = by_hand(items, tenths)
    assert found.pairs == count
    assert found.accuracy == pytest.approx(accuracy, nan_ok=True)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    scores, means = generator.normal(size=(2, 50))
    whole = pair_accuracy(scores, means, 0.3, resamples=20)
    monkeypatch.setattr(pairs, "BLOCK", 7)
    pieces = pair_accuracy(scores, means, 0.3, resamples=20)
    assert pieces.accuracy == pytest.approx(whole.accuracy)
    assert (pieces.low, pieces.high, pieces.pairs) == pytest.approx((whole.low, whole.high, whole.pairs))


def test_perfect_reversed_and_constant() -> None:
    means = np.arange(30.0)
    assert pair_accuracy(means, means, resamples=20).low == 1
    assert pair_accuracy(-means, means, resamples=20).high == 0
    assert pair_accuracy(np.zeros(30), means, resamples=20).accuracy == 0.5


def test_the_interval_is_wide_enough_for_dependent_pairs() -> None:
    """Scores of pure chance have accuracy ½; a bootstrap over pairs would miss it most of the time."""
    generator = np.random.default_rng(7)
    covered = 0
    for repeat in range(60):
        scores, means = generator.normal(size=(2, 60))
        found = pair_accuracy(scores, means, resamples=300, seed=repeat)
        covered += found.low <= 0.5 <= found.high
    assert covered >= 50


def test_the_seed_decides_the_interval() -> None:
    scores, means = np.random.default_rng(0).normal(size=(2, 40))
    assert pair_accuracy(scores, means, seed=1) == pair_accuracy(scores, means, seed=1)
    assert pair_accuracy(scores, means, seed=1) != pair_accuracy(scores, means, seed=2)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        pair_accuracy([1, 2], [1])
    with pytest.raises(ValueError, match="finite"):
        pair_accuracy([1, float("nan")], [1, 2])
    with pytest.raises(ValueError, match="sources"):
        pair_accuracy([1, 2], [1, 2], sources=["a"])
