"""Strengths against scipy's optimiser and scikit-learn's logistic regression; intervals against the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from headwater.errors import UserError
from headwater.evaluation.bradley_terry import Outcome, bradley_terry, fit
from headwater.evaluation.win_rate import win_rate


def drawn(truth: list[float], prompts: int, seed: int = 0, ties: float = 0.1) -> list[Outcome]:
    """Every pair of policies on every prompt."""
    generator = np.random.default_rng(seed)
    found = []
    for prompt in range(prompts):
        for first in range(len(truth)):
            for second in range(first):
                chance = 1 / (1 + math.exp(truth[second] - truth[first]))
                won = 0.5 if generator.random() < ties else float(generator.random() < chance)
                found.append(Outcome(prompt, f"p{first}", f"p{second}", won))
    return found


def by_name(outcomes: list[Outcome], **more: int) -> dict[str, float]:
    return {each.policy: each.strength for each in bradley_terry(outcomes, **more)}


def test_it_is_the_maximum_that_scipy_finds() -> None:
    outcomes = drawn([0.0, 0.7, -0.4, 1.5], 40)
    names = list(by_name(outcomes, resamples=0))

    def loss(free: np.ndarray) -> float:
        theta = dict(zip(names, [0.0, *free], strict=True))
        gaps = [(each.won, theta[each.first] - theta[each.second]) for each in outcomes]
        return sum(won * np.log1p(np.exp(-gap)) + (1 - won) * np.log1p(np.exp(gap)) for won, gap in gaps)

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-8}).x
    assert [by_name(outcomes, resamples=0)[name] for name in names[1:]] == pytest.approx(best.tolist(), abs=1e-5)


def test_it_is_an_unpenalised_logistic_regression() -> None:
    outcomes = drawn([0.0, 1.0, -1.0], 60, seed=1)
    names = list(by_name(outcomes, resamples=0))
    rows, labels, weights = [], [], []
    for each in outcomes:
        row = [float(name == each.first) - float(name == each.second) for name in names[1:]]
        rows += [row, row]
        labels += [1, 0]
        weights += [each.won, 1 - each.won]
    model = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10, max_iter=1000).fit(rows, labels, weights)
    assert [by_name(outcomes, resamples=0)[name] for name in names[1:]] == pytest.approx(
        model.coef_[0].tolist(), abs=1e-4
    )


def test_of_two_policies_it_says_what_the_win_rate_says() -> None:
    before, after = [0, 1, 2, 3, 3], [1, 1, 3, 2, 4]
    outcomes = [
        Outcome(prompt, "before", "after", 1.0 if old > new else 0.0 if old < new else 0.5)
        for prompt, (old, new) in enumerate(zip(before, after, strict=True))
    ]
    strengths = bradley_terry(outcomes)
    rate = win_rate(before, after).rate
    assert strengths[1].strength == pytest.approx(math.log(rate / (1 - rate)))
    assert strengths[0].comparisons == strengths[1].comparisons == 5


def test_intervals_cover_the_truth() -> None:
    truth, covered = [0.0, 0.8, -0.5], 0
    for repeat in range(40):
        for each in bradley_terry(drawn(truth, 100, seed=repeat, ties=0), resamples=100, seed=repeat):
            covered += each.low <= truth[int(each.policy[1])] - truth[1] <= each.high
    assert covered >= 106  # of 120, 40 of which are certain


def test_the_order_of_outcomes_does_not_matter_and_the_seed_decides() -> None:
    outcomes = drawn([0.0, 0.5], 30)
    assert bradley_terry(outcomes, seed=4) == bradley_terry(outcomes, seed=4)
    backwards = [Outcome(each.prompt, each.second, each.first, 1 - each.won) for each in outcomes]
    assert by_name(outcomes) == pytest.approx({"p1": 0.0, "p0": by_name(outcomes)["p0"]})
    assert by_name(backwards) == pytest.approx({"p0": 0.0, "p1": -by_name(outcomes)["p0"]})


def test_a_resample_that_goes_one_way_is_infinite() -> None:
    one_loss = [Outcome(prompt, "a", "b", float(prompt == 0)) for prompt in range(12)]
    strength = bradley_terry(one_loss)[1]
    assert math.isfinite(strength.strength)
    assert math.isfinite(strength.low)
    assert strength.high == math.inf
    assert fit(np.array([[0.0, 0], [1, 0]])).tolist() == [0, math.inf]
    assert np.isnan(fit(np.zeros((2, 2)))[1])


def test_what_is_not_connected_is_refused() -> None:
    apart = [Outcome(0, "a", "b", 0.5), Outcome(0, "c", "d", 0.5)]
    with pytest.raises(UserError, match=r"`a` and `c` were not compared, not even by way of others: compare them"):
        bradley_terry(apart)
    with pytest.raises(UserError, match=r"`b` never won or tied.*against `a`.*more prompts"):
        bradley_terry([Outcome(0, "a", "b", 1.0), Outcome(1, "a", "b", 1.0)])
    with pytest.raises(UserError, match="There is no comparison"):
        bradley_terry([])
    with pytest.raises(ValueError, match="is no outcome"):
        bradley_terry([Outcome(0, "a", "a", 1.0)])
