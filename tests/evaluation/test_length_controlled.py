"""The length-controlled win rate against scikit-learn, and on judges whose taste is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from headwater.evaluation.length_controlled import PENALTY, fit, length_controlled_win_rate
from headwater.evaluation.win_rate import win_rate

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def judged(prompts: int, quality: float, taste: float, longer: float = 10.0, seed: int = 0) -> Arrays:
    """Scores and lengths; the logit of a win is quality + taste·(standardised length difference through tanh)."""
    generator = np.random.default_rng(seed)
    before, after = generator.normal(30, 8, prompts), generator.normal(30 + longer, 8, prompts)
    feature = np.tanh((after - before) / (after - before).std())
    wins = generator.random(prompts) < 1 / (1 + np.exp(-quality - taste * feature))
    return np.zeros(prompts), np.where(wins, 1.0, -1.0), before, after


def test_the_fit_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    feature, outcomes = np.tanh(generator.normal(size=200)), generator.choice([0, 0.5, 1], 200)
    weights = generator.integers(0, 4, 200).astype(float)
    inputs = np.stack([np.ones(200), feature], axis=1)
    model = LogisticRegression(C=1 / PENALTY, fit_intercept=False, tol=1e-10)
    labels = np.repeat([1, 0], 200)
    model.fit(np.concatenate([inputs, inputs]), labels, np.concatenate([weights * outcomes, weights * (1 - outcomes)]))
    assert fit(feature, outcomes, weights) == pytest.approx(model.coef_[0], abs=1e-5)


def test_a_judge_that_only_likes_length_is_undone() -> None:
    data = judged(4000, quality=0.0, taste=3.0)
    assert win_rate(*data[:2]).rate > 0.7
    found = length_controlled_win_rate(*data, resamples=100)
    assert found.rate == pytest.approx(0.5, abs=0.04)
    assert found.low < 0.5 < found.high
    assert found.length_effect == pytest.approx(3.0, rel=0.1)


def test_a_judge_that_does_not_look_at_length_is_left_alone() -> None:
    data = judged(4000, quality=1.0, taste=0.0)
    found = length_controlled_win_rate(*data, resamples=100)
    assert found.rate == pytest.approx(1 / (1 + np.exp(-1)), abs=0.04)
    assert found.low < win_rate(*data[:2]).rate < found.high


def test_both_at_once() -> None:
    found = length_controlled_win_rate(*judged(6000, quality=-0.5, taste=2.0, longer=-5.0), resamples=50)
    assert found.rate == pytest.approx(1 / (1 + np.exp(0.5)), abs=0.04)


def test_the_interval_covers_the_truth() -> None:
    covered = 0
    for repeat in range(40):
        found = length_controlled_win_rate(*judged(200, 0.5, 1.0, seed=repeat), resamples=100, seed=repeat)
        covered += found.low <= 1 / (1 + np.exp(-0.5)) <= found.high
    assert covered >= 33


def test_equal_lengths_give_the_plain_win_rate() -> None:
    before, after, _, _ = judged(300, 0.4, 0.0)
    found = length_controlled_win_rate(before, after, np.ones(300), np.ones(300), resamples=10)
    assert found.rate == pytest.approx(win_rate(before, after).rate, abs=1e-4)
    assert found.length_effect == 0


def test_separable_outcomes_stay_finite() -> None:
    ones = length_controlled_win_rate([0] * 50, [1] * 50, [3] * 50, range(50), resamples=20)
    assert 0.97 < ones.low <= ones.rate < 1
    lengths = np.arange(-25, 25) + 0.5
    only_length = length_controlled_win_rate(np.zeros(50), lengths, np.zeros(50), lengths, resamples=20)
    assert only_length.rate == pytest.approx(0.5, abs=1e-6)
    assert np.isfinite(only_length.length_effect)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        length_controlled_win_rate([1], [1, 2], [1], [1])
    with pytest.raises(ValueError, match="finite"):
        length_controlled_win_rate([1], [float("nan")], [1], [1])
