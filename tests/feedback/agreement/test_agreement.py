"""α against an independent implementation, and its known values; the raters' ceiling."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import UserError
from headwater.feedback.agreement.agreement import halves, krippendorff_alpha, rater_ceiling


@given(st.integers(0, 10_000), st.sampled_from(["interval", "ordinal", "nominal"]))
def test_alpha_agrees_with_another_implementation(seed: int, metric: str) -> None:
    generator = np.random.default_rng(seed)
    raters, units = generator.integers(2, 8), generator.integers(3, 25)
    truth = generator.integers(-4, 5, size=units)
    table = np.clip(truth + generator.integers(-2, 3, size=(raters, units)), -4, 4).astype(float)
    table[generator.random(table.shape) < generator.random() * 0.7] = np.nan
    ratings = [list(column[np.isfinite(column)]) for column in table.T]
    pairable = [value for unit in ratings if len(unit) > 1 for value in unit]
    if len(set(pairable)) < 2:
        return  # α is not defined there; ours is tested below
    # Units with one rating are left out by hand: they must change nothing.
    expected = krippendorff.alpha(reliability_data=table, level_of_measurement=metric)
    assert krippendorff_alpha(ratings, metric, resamples=0).alpha == pytest.approx(expected, abs=1e-9)


def test_raters_are_interchangeable() -> None:
    generator = np.random.default_rng(0)
    units = [list(generator.integers(-4, 5, size=5)) for _ in range(20)]
    shuffled = [list(generator.permutation(unit)) for unit in units]
    assert krippendorff_alpha(units, resamples=50) == krippendorff_alpha(shuffled, resamples=50)


def test_perfect_chance_and_opposite() -> None:
    assert krippendorff_alpha([[1, 1], [4, 4, 4], [2, 2]]).alpha == 1
    assert krippendorff_alpha([[3, 3], [3, 3]]).alpha == 1
    generator = np.random.default_rng(1)
    chance = krippendorff_alpha([list(generator.integers(0, 9, size=15)) for _ in range(2000)], resamples=200)
    assert chance.low < 0 < chance.high
    assert abs(chance.alpha) < 0.01
    assert krippendorff_alpha([[0, 8]] * 20, resamples=0).alpha < 0


def test_the_interval_covers_the_truth() -> None:
    """Ratings = unit + noise of equal variance: α is the intraclass correlation, ½."""
    generator = np.random.default_rng(5)
    covered = 0
    for repeat in range(40):
        units = np.round(generator.normal(size=(150, 1)) * 4 + generator.normal(size=(150, 6)) * 4)
        found = krippendorff_alpha(units.tolist(), resamples=200, seed=repeat)
        assert found.low < found.alpha < found.high
        covered += found.low <= 0.5 <= found.high
    assert covered >= 34


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UserError, match="two ratings"):
        krippendorff_alpha([[1], [2]])
    with pytest.raises(UserError, match="finite"):
        krippendorff_alpha([[1, float("nan")]])
    with pytest.raises(UserError, match="rating scale"):
        krippendorff_alpha([[i, i + 0.5] for i in range(200)])


@given(st.lists(st.lists(st.integers(-4, 4), min_size=2, max_size=7), min_size=1, max_size=8), st.integers(0, 99))
def test_halves_use_every_rating_once(ratings: list[list[int]], seed: int) -> None:
    first, second = halves(ratings, np.random.default_rng(seed))
    for values, one, other in zip(ratings, first, second, strict=True):
        sizes = {len(values) // 2, (len(values) + 1) // 2}
        assert any(abs(size * one + (len(values) - size) * other - sum(values)) < 1e-9 for size in sizes)


def test_ceiling_of_perfect_and_of_random_raters() -> None:
    generator = np.random.default_rng(0)
    truth = generator.permutation(60) % 9 - 4
    perfect = rater_ceiling([[int(value)] * 10 for value in truth], resamples=50)
    assert (perfect.accuracy, perfect.low, perfect.high) == (1.0, 1.0, 1.0)
    random = rater_ceiling(generator.integers(-4, 5, size=(300, 10)).tolist(), resamples=50)
    assert abs(random.accuracy - 0.5) < 0.04
    noisy = np.clip(truth[:, None] + np.round(generator.normal(size=(60, 10)) * 2), -4, 4).tolist()
    assert rater_ceiling(noisy, minimum_gap=1).accuracy > rater_ceiling(noisy).accuracy > 0.75


def test_ceiling_needs_two_ratings() -> None:
    with pytest.raises(UserError, match="two ratings"):
        rater_ceiling([[1], [2]])


def test_alpha_draws_clusters_whole() -> None:
    generator = np.random.default_rng(0)
    units = [list(generator.integers(0, 3, size=3)) for _ in range(20)]
    copies = [unit for unit in units for _ in range(30)]
    alone = krippendorff_alpha(units, "nominal", resamples=300)
    together = krippendorff_alpha(
        [*copies, [1]], "nominal", clusters=[*(place for place in range(20) for _ in range(30)), "one rating"], resamples=300
    )  # fmt: skip
    assert together.alpha == pytest.approx(alone.alpha, abs=0.02)  # n − 1 differs
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert together.units == 600
    apart = krippendorff_alpha(copies, "nominal", resamples=300)
    assert apart.high - apart.low < (together.high - together.low) / 3
