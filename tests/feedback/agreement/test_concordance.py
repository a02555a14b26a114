"""τ-b and κ against scipy and scikit-learn on random tables with ties and gaps."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from sklearn.metrics import cohen_kappa_score

from headwater.errors import UserError
from headwater.feedback.agreement.concordance import Coefficient, Weights, concordance, kendall_tau, mean_kappa
from headwater.feedback.judgements import Groups

RANKS = st.dictionaries(st.integers(1, 9), st.integers(0, 3), max_size=9)
"""{answer: rank}: equal ranks tie, absent answers are gaps."""


def groups(ranks: dict[int, int]) -> Groups:
    return [[answer for answer in sorted(ranks) if ranks[answer] == rank] for rank in sorted(set(ranks.values()))]


def kappa(
    labels: Sequence[tuple[float, float]], weights: Weights | None = None, resamples: int = 1000, seed: int = 0
) -> Coefficient:
    """Of two raters, each item drawn alone."""
    return mean_kappa([(labels, range(len(labels)))], weights, resamples, seed)


@given(RANKS, RANKS)
def test_tau_of_one_task_is_that_of_another_implementation(one: dict[int, int], other: dict[int, int]) -> None:
    both = sorted(one.keys() & other.keys())
    if len(both) < 2:
        with pytest.raises(UserError, match="same two answers"):
            kendall_tau([(groups(one), groups(other))])
        return
    expected = kendalltau([one[answer] for answer in both], [other[answer] for answer in both]).statistic
    found = kendall_tau([(groups(one), groups(other))], resamples=0).value
    assert (math.isnan(found) and math.isnan(expected)) or found == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(RANKS, RANKS), min_size=1, max_size=5))
def test_tau_pools_the_pairs_within_tasks(tables: list[tuple[dict[int, int], dict[int, int]]]) -> None:
    """Independently: the cosine of the signs of all pairs within tasks, either way round."""
    mine, theirs = [], []
    for one, other in tables:
        for a in one.keys() & other.keys():
            for b in one.keys() & other.keys():
                mine.append(np.sign(one[a] - one[b]))
                theirs.append(np.sign(other[a] - other[b]))
    if not np.any(mine) or not np.any(theirs):
        return  # not defined
    expected = np.dot(mine, theirs) / (np.linalg.norm(mine) * np.linalg.norm(theirs))
    assert kendall_tau([(groups(a), groups(b)) for a, b in tables], resamples=0).value == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=40),
    st.sampled_from([None, "linear", "quadratic"]),
)
def test_kappa_is_that_of_another_implementation(labels: list[tuple[int, int]], weights: Weights | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = cohen_kappa_score([one for one, _ in labels], [other for _, other in labels], weights=weights)
    found = kappa(labels, weights, resamples=0).value
    if len({label for pair in labels for label in pair}) < 2:
        assert math.isnan(found)  # nothing to agree about; scikit-learn changed its mind over the years
    else:
        assert found == pytest.approx(expected, abs=1e-12)


def test_known_values() -> None:
    order, reverse = [[1], [2], [3]], [[3], [2], [1]]
    assert kendall_tau([(order, order)] * 3).value == 1
    assert kendall_tau([(order, reverse)]).value == -1
    assert math.isnan(kendall_tau([(order, [[1, 2, 3]])]).value)
    assert concordance([[1], [2, 3]], [[3], [1], [4]]) == (-1, 1, 1, 1)
    assert kappa([(1, 1), (-1, -1)]).value == 1
    assert kappa([(1, -1), (-1, 1)]).value == -1
    # Cohen's own: 20 and 15 of 50 alike, 5 and 10 not.
    table = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    assert kappa(table).value == pytest.approx(0.4)


def test_the_intervals_cover_the_truth() -> None:
    """A rater who copies another's label with probability q and else draws one anew: κ = q. τ of pairs is κ's likeness."""
    generator = np.random.default_rng(3)
    covered = {"κ": 0, "τ": 0}
    for repeat in range(60):
        first = generator.choice([-1, 1], size=200)
        second = np.where(generator.random(200) < 0.4, first, generator.choice([-1, 1], size=200))
        found = kappa(list(zip(first.tolist(), second.tolist(), strict=True)), resamples=300, seed=repeat)
        orders = [
            ([[1], [2]] if a > 0 else [[2], [1]], [[1], [2]] if b > 0 else [[2], [1]])
            for a, b in zip(first, second, strict=True)
        ]
        tau = kendall_tau(orders, resamples=300, seed=repeat)
        assert found.low < found.value < found.high
        covered["κ"] += found.low <= 0.4 <= found.high
        covered["τ"] += tau.low <= 0.4 <= tau.high
    assert min(covered.values()) >= 51  # of 60; 57 are expected


def test_units_are_drawn_together() -> None:
    """A hundred copies of each item say no more than the items do."""
    generator = np.random.default_rng(0)
    items = list(zip(generator.integers(0, 2, 30).tolist(), generator.integers(0, 2, 30).tolist(), strict=True))
    alone = kappa(items, resamples=400)
    many = [item for item in items for _ in range(100)]
    copies = mean_kappa([(many, [place for place in range(30) for _ in range(100)])], resamples=400)
    assert copies.value == pytest.approx(alone.value)
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high))
    assert copies.units == 30
