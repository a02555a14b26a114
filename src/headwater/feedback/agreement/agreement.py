"""How far raters agree, where each sentence has ratings by unknown, interchangeable people.

Krippendorff's α after K. Krippendorff, *Content Analysis* (4th ed., 2018), chapter 12: α = 1 − D_o / D_e, the observed
over the expected disagreement between two ratings. With o[c, k] the coincidences (each pair of ratings within a unit of
n_u ratings counts 1/(n_u − 1)), n[c] its row sums and n its total:

    D_o = Σ o[c, k] δ²(c, k) / n        D_e = Σ n[c] n[k] δ²(c, k) / (n (n − 1))

Only the counts of values per unit matter, not who gave them; units with one rating say nothing and are left out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headwater.errors import UserError
from headwater.evaluation.intervals import Array, percentile_interval
from headwater.evaluation.pairs import PairAccuracy, order_agreement

Metric = Literal["interval", "ordinal", "nominal"]

MOST_VALUES = 200
"""Distinct ratings up to which counting by value is meant; a rating scale has about ten."""

HALVINGS = 10
"""Times that the raters are parted anew."""


@dataclass(frozen=True)
class Agreement:
    """α with its bootstrap interval. 1: perfect; 0: as by chance; below: systematic disagreement."""

    alpha: float
    low: float
    high: float
    units: int
    ratings: int


def value_counts(units: Sequence[Sequence[float]]) -> tuple[Array, Array]:
    """Ratings per unit → (distinct values [values], counts [units, values]); units of fewer than 2 ratings left out."""
    kept = [unit for unit in units if len(unit) >= 2]
    if not kept:
        raise UserError("Agreement needs at least one answer with two ratings: there is none.")
    flat = np.concatenate([np.asarray(unit, dtype=np.float64) for unit in kept])
    if not np.isfinite(flat).all():
        raise UserError("Agreement needs finite ratings: one is infinite or no number.")
    values, places = np.unique(flat, return_inverse=True)
    if len(values) > MOST_VALUES:
        raise UserError(f"Agreement is meant for a rating scale: {len(values)} different ratings are too many.")
    owners = np.repeat(np.arange(len(kept)), [len(unit) for unit in kept])
    counts = np.bincount(owners * len(values) + places, minlength=len(kept) * len(values))
    return values, counts.reshape(len(kept), len(values)).astype(np.float64)


def coincidences(counts: Array) -> Array:
    """Counts [units, values] → coincidences of each unit [units, values, values]."""
    pairs = counts[:, :, None] * counts[:, None, :]
    diagonal = np.arange(counts.shape[1])
    pairs[:, diagonal, diagonal] -= counts
    scaled: Array = pairs / (counts.sum(axis=1) - 1)[:, None, None]
    return scaled


def squared_differences(values: Array, totals: Array, metric: Metric) -> Array:
    """δ²(c, k) [..., values, values]; only `ordinal` depends on `totals` [..., values], how often each value occurs."""
    if metric == "interval":
        return np.asarray((values[:, None] - values[None, :]) ** 2)
    if metric == "nominal":
        return np.asarray(values[:, None] != values[None, :], dtype=np.float64)
    # Ordinal: the number of ratings from c to k, half of those at the ends (mid-ranks' difference).
    middle = np.cumsum(totals, axis=-1) - totals / 2
    return np.asarray((middle[..., :, None] - middle[..., None, :]) ** 2)


def alpha_of(coincidence: Array, values: Array, metric: Metric) -> Array:
    """Coincidences [..., values, values] → α [...]; all ratings the same: 1."""
    totals = coincidence.sum(axis=-1)
    n = totals.sum(axis=-1)
    delta = squared_differences(values, totals, metric)
    observed = (coincidence * delta).sum(axis=(-2, -1))
    expected = (totals[..., :, None] * totals[..., None, :] * delta).sum(axis=(-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(expected > 0, 1 - (n - 1) * observed / expected, 1.0))


def krippendorff_alpha(
    units: Sequence[Sequence[float]],
    metric: Metric = "interval",
    *,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """α of the ratings of each unit (of any number), with the 95% percentile interval over resampled units.

    clusters  one name per unit; units of one name are drawn together, as they must be where they depend on each other (the
              pairs of one task's answers)

    Raises UserError where no unit has two ratings.
    """
    values, counts = value_counts(units)
    per_unit = coincidences(counts)
    if clusters is not None:
        owners = [cluster for cluster, unit in zip(clusters, units, strict=True) if len(unit) >= 2]
        per_unit = sums_by(per_unit, owners)
    alpha = float(alpha_of(per_unit.sum(axis=0), values, metric))
    generator = np.random.default_rng(seed)
    flat = per_unit.reshape(len(per_unit), -1)
    drawn = []
    for start in range(0, resamples, 100):  # in portions: the weights of all resamples at once would be large
        times = min(100, resamples - start)
        chosen = generator.integers(len(flat), size=(times, len(flat)))
        weights = np.stack([np.bincount(row, minlength=len(flat)) for row in chosen]).astype(np.float64)
        drawn.append(alpha_of((weights @ flat).reshape(times, len(values), len(values)), values, metric))
    low, high = percentile_interval(np.concatenate(drawn)) if drawn else (alpha, alpha)
    return Agreement(alpha, low, high, len(counts), int(counts.sum()))


def sums_by(rows: Array, owners: Sequence[Hashable]) -> Array:
    """Rows [rows, …] summed by owner → [owners, …], in the order in which the owners first stand."""
    places = {owner: place for place, owner in enumerate(dict.fromkeys(owners))}
    sums = np.zeros((len(places), *rows.shape[1:]))
    np.add.at(sums, [places[owner] for owner in owners], rows)
    return sums


def halves(ratings: Sequence[Sequence[float]], generator: np.random.Generator) -> tuple[Array, Array]:
    """Splits each answer's ratings in two random halves → their means [answers], [answers].

    Of an odd number the extra one falls on either side by chance. Needs two ratings per answer.
    """
    firsts, seconds = np.empty(len(ratings)), np.empty(len(ratings))
    for place, values in enumerate(ratings):
        mixed = generator.permutation(np.asarray(values, dtype=np.float64))
        cut = (len(mixed) + int(generator.integers(2)) * (len(mixed) % 2)) // 2
        firsts[place], seconds[place] = mixed[:cut].mean(), mixed[cut:].mean()
    return firsts, seconds


def rater_ceiling(
    ratings: Sequence[Sequence[float]],
    *,
    minimum_gap: float = 0.0,
    resamples: int = 1000,
    seed: int = 0,
) -> PairAccuracy:
    """How often one random half of the raters orders two answers as the other half does.

    Counted are pairs whose full means differ by `minimum_gap` or more and that the second half does not tie; a tie in
    the first half is ½ right. Mean over `HALVINGS`; the interval resamples answers: the mean of the halvings' bounds.
    By the choice of pairs with both halves' ratings it is a little too high: a ceiling, not an estimate.
    """
    kept = [place for place, values in enumerate(ratings) if len(values) >= 2]
    if not kept:
        raise UserError("The raters' ceiling needs answers with two ratings or more: there are none.")
    rated = [ratings[place] for place in kept]
    full = np.array([np.mean(values) for values in rated])
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(HALVINGS):
        predicts, orders = halves(rated, generator)
        found.append(
            order_agreement(
                predicts, orders, None, gap_of=full, minimum_gap=minimum_gap,
                resamples=max(1, resamples // HALVINGS), seed=int(generator.integers(2**31)),
            )
        )  # fmt: skip
    mean = {name: float(np.mean([getattr(one, name) for one in found])) for name in ("accuracy", "low", "high")}
    return PairAccuracy(**mean, pairs=round(float(np.mean([one.pairs for one in found]))))
