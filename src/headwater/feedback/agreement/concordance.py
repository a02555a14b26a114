"""How far two known raters agree on orders and on categories: Kendall's τ-b and Cohen's κ, with bootstrap intervals.

Both are computed from sums over units (tasks), so the intervals come from drawing whole units anew, with replacement: the
pairs of one task's answers are no independent observations.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headwater.errors import UserError
from headwater.evaluation.intervals import Array, draws, percentile_interval
from headwater.feedback.agreement.agreement import sums_by
from headwater.feedback.judgements import Groups
from headwater.feedback.orders import pair_orders

Weights = Literal["linear", "quadratic"]


@dataclass(frozen=True)
class Coefficient:
    """1: perfect; 0: as by chance; below: the other way round. With its 95% interval; NaN where it is not defined (a rater
    who ties everything, or always says the same).
    """

    value: float
    low: float
    high: float
    units: int


def kendall_tau(
    pairs: Sequence[tuple[Groups, Groups]],
    units: Sequence[Hashable] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Coefficient:
    """τ-b (Kendall 1945) of two raters' rankings of the same tasks, pooled over the tasks.

    pairs  (one's ranking, the other's) per task; answers that not both ranked are left out
    units  what is drawn together, one name per element of `pairs`; absent: each alone

    With the sums over all pairs of answers within a task, τ-b = (C − D) / √((P − T₁)(P − T₂)): C pairs in the same order,
    D in the opposite, P all, T those that a rater ties. Raises UserError where no task has two answers that both ranked.
    """
    rows = np.array([concordance(one, other) for one, other in pairs], dtype=np.float64).reshape(-1, 4)
    compared = rows[:, 3] > 0
    if not compared.any():
        raise UserError("Kendall's τ needs a task of which two people ranked the same two answers: there is none.")
    names = list(range(len(rows))) if units is None else list(units)
    sums = sums_by(rows[compared, :3], [name for name, kept in zip(names, compared, strict=True) if kept])
    weights = draws(len(sums), resamples, np.random.default_rng(seed)).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _coefficient(_tau_b(weights @ sums), len(sums))


def same_order(
    pairs: Sequence[tuple[Groups, Groups]],
    units: Sequence[Hashable],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Coefficient | None:
    """How often one rater puts two answers in the order that the other gave them: what nobody who foretells people's orders can
    be asked to exceed. Arguments as of `kendall_tau`.

    Of pairs that the other does not tie; where the one ties, it is half right. Both are asked to foretell the other: with the
    sums of `kendall_tau`, ½ + (C − D) / (2P − T₁ − T₂). None where nobody has put in order what another judged, too.
    """
    rows = np.array([concordance(one, other) for one, other in pairs], dtype=np.float64).reshape(-1, 4)
    asked = rows[:, 1] + rows[:, 2] > 0
    if not asked.any():
        return None
    sums = sums_by(rows[asked, :3], [name for name, kept in zip(units, asked, strict=True) if kept])
    weights = draws(len(sums), resamples, np.random.default_rng(seed)).astype(np.float64)
    drawn = weights @ sums
    return _coefficient(0.5 + drawn[:, 0] / (drawn[:, 1] + drawn[:, 2]), len(sums))


def concordance(one: Groups, other: Groups) -> tuple[int, int, int, int]:
    """(C − D, pairs that the first does not tie, pairs that the second does not tie, pairs) of the answers in both."""
    mine, theirs = pair_orders(one), pair_orders(other)
    both = [(mine[pair], theirs[pair]) for pair in mine.keys() & theirs.keys()]
    return sum(a * b for a, b in both), sum(a != 0 for a, _ in both), sum(b != 0 for _, b in both), len(both)


def _tau_b(sums: Array) -> Array:
    """Sums [..., 3] → τ-b [...]."""
    return np.asarray(sums[..., 0] / np.sqrt(sums[..., 1] * sums[..., 2]))


def mean_kappa(
    raters: Sequence[tuple[Sequence[tuple[float, float]], Sequence[Hashable]]],
    weights: Weights | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Coefficient:
    """κ of two raters (Cohen 1960; weighted: 1968), of several the mean of every two (Light 1971).

    raters   of each such two (labels, units): (one's label, the other's) per item, and the name of each item's unit; units of
             one name are drawn together, whoever judged them
    weights  how much a near miss counts, where the labels are a scale (how much better a pair's first is): by the distance
             of their places among the labels that occur, or its square; absent: all misses alike

    κ = 1 − Σ w·O / Σ w·E: disagreement observed over that expected from how often each uses each label. Two raters whose κ
    is not defined are left out.
    """
    values = np.unique([label for labels, _ in raters for pair in labels for label in pair])
    names = {name: place for place, name in enumerate(dict.fromkeys(name for _, units in raters for name in units))}
    drawn = draws(len(names), resamples, np.random.default_rng(seed))
    costs = miss_costs(len(values), weights)
    found = []
    for labels, units in raters:
        tables = sums_by(_confusions(labels, values), units)
        own = drawn[:, [names[name] for name in dict.fromkeys(units)]].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(_kappa(own @ tables.reshape(len(tables), -1), costs))
    kappas = np.array(found)
    known = np.isfinite(kappas)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _coefficient(np.where(known, kappas, 0).sum(axis=0) / known.sum(axis=0), len(names))


def _confusions(labels: Sequence[tuple[float, float]], values: Array) -> Array:
    """One table per item, [items, values, values]."""
    places = np.searchsorted(values, np.asarray(labels, dtype=np.float64))
    tables = np.zeros((len(labels), len(values), len(values)))
    tables[np.arange(len(labels)), places[:, 0], places[:, 1]] = 1
    return tables


def miss_costs(labels: int, weights: Weights | None) -> Array:
    """What a disagreement costs, [labels, labels]."""
    apart = np.abs(np.subtract.outer(np.arange(labels), np.arange(labels))).astype(np.float64)
    return (apart > 0).astype(np.float64) if weights is None else apart if weights == "linear" else apart**2


def _kappa(flat: Array, costs: Array) -> Array:
    """Confusion tables [..., labels²] → κ [...]."""
    tables = flat.reshape(*flat.shape[:-1], *costs.shape)
    one, other, total = tables.sum(axis=-1), tables.sum(axis=-2), tables.sum(axis=(-2, -1))
    expected = one[..., :, None] * other[..., None, :]
    return np.asarray(1 - (tables * costs).sum(axis=(-2, -1)) * total / (expected * costs).sum(axis=(-2, -1)))


def _coefficient(found: Array, units: int) -> Coefficient:
    """The sample's value stands first in `found`, those of the resamples behind it."""
    drawn = found[1:][np.isfinite(found[1:])]
    value = float(found[0]) if np.isfinite(found[0]) else float("nan")
    return Coefficient(value, *percentile_interval(drawn), units)
