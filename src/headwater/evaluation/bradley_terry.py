"""Strengths of several policies from pairwise outcomes: P(i beats j) = σ(θ_i − θ_j) (Bradley and Terry 1952).

A tie counts as half a win for either side, as it does in `win_rate`: so the fitted probability for two policies is the
win rate that is reported of them, and a policy that only won and tied still has a finite strength. (The model of
Davidson 1970, with a parameter for ties, has neither property: there a strength comes from wins over losses alone.)
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.errors import UserError
from headwater.evaluation.intervals import Array, draws, percentile_interval, sigmoid
from headwater.evaluation.newton import maximise


@dataclass(frozen=True)
class Outcome:
    """One comparison. `won`: 1 where `first` was better, 0 where `second` was, ½ for a tie (or a judge's probability)."""

    prompt: Hashable
    first: str
    second: str
    won: float


@dataclass(frozen=True)
class Strength:
    """θ in nats of odds against the first policy, whose θ is 0, with its 95% bootstrap interval over prompts.

    An end of the interval is ±∞ where more than 2.5% of the resamples have the policy win, or lose, always.
    """

    policy: str
    strength: float
    low: float
    high: float
    comparisons: int


def bradley_terry(outcomes: Sequence[Outcome], *, resamples: int = 1000, seed: int = 0) -> list[Strength]:
    """Maximum-likelihood strengths, in the order in which the policies are first named.

    All outcomes of one prompt are drawn together. Raises UserError where the comparisons do not connect the policies:
    where two were never compared, even by way of others, or where some always beat all others.
    """
    names = list(dict.fromkeys(name for outcome in outcomes for name in (outcome.first, outcome.second)))
    wins = wins_by_prompt(outcomes, names)
    total = wins.sum(axis=0)
    _require_connected(total, names)
    # The first row of the weights is the sample itself.
    weights = draws(len(wins), resamples, np.random.default_rng(seed)).astype(np.float64)
    fits = np.array([fit(drawn) for drawn in np.tensordot(weights, wins, axes=1)])
    compared = (total + total.T).sum(axis=1)
    found = []
    for place, name in enumerate(names):
        drawn = fits[1:, place][~np.isnan(fits[1:, place])]
        low, high = percentile_interval(drawn, method="inverted_cdf")
        found.append(Strength(name, float(fits[0, place]), low, high, round(compared[place])))
    return found


def wins_by_prompt(outcomes: Sequence[Outcome], names: Sequence[str]) -> Array:
    """[prompts, policies, policies]: how often the one beat the other on a prompt, a tie as ½ for both."""
    if not outcomes:
        raise UserError("There is no comparison to fit strengths to: compare the policies on some prompts.")
    prompts = {prompt: place for place, prompt in enumerate(dict.fromkeys(outcome.prompt for outcome in outcomes))}
    places = {name: place for place, name in enumerate(names)}
    wins = np.zeros((len(prompts), len(names), len(names)))
    for outcome in outcomes:
        if outcome.first == outcome.second or not 0 <= outcome.won <= 1:
            raise ValueError(f"{outcome} is no outcome: two different policies, and `won` from 0 to 1.")
        first, second = places[outcome.first], places[outcome.second]
        wins[prompts[outcome.prompt], first, second] += outcome.won
        wins[prompts[outcome.prompt], second, first] += 1 - outcome.won
    return wins


def fit(wins: Array) -> Array:
    """`wins` [policies, policies] → θ [policies], θ_0 = 0, maximising Σ wins_ij · log σ(θ_i − θ_j) by Newton steps.

    ±∞ for a policy that is above or below the first by outcomes that go one way only; NaN where none connect them.
    """
    reaches = reachable(wins > 0)
    above, below = reaches[:, 0], reaches[0]
    strengths = np.select([above & below, above, below], [0.0, np.inf, -np.inf], default=np.nan)
    group = np.flatnonzero(above & below)
    inner = wins[np.ix_(group, group)]
    games, scored = inner + inner.T, inner.sum(axis=1)

    def derivatives(others: Array) -> tuple[Array, Array]:
        theta = np.append(0.0, others)
        chances = sigmoid(theta[:, None] - theta[None, :])
        slope = scored - (games * chances).sum(axis=1)
        curved = games * chances * chances.T
        return slope[1:], (np.diag(curved.sum(axis=1)) - curved)[1:, 1:]

    others = maximise(
        np.zeros(len(group) - 1),
        lambda others: _log_likelihood(np.append(0.0, others), inner),
        derivatives,
        float(games.sum()),
    )
    strengths[group] = np.append(0.0, others)
    return strengths


def reachable(edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[policies, policies]: whether a path of edges leads from the one to the other; to itself always."""
    reaches = edges | np.eye(len(edges), dtype=bool)
    for middle in range(len(edges)):
        reaches |= reaches[:, [middle]] & reaches[[middle], :]
    return reaches


def _log_likelihood(theta: Array, wins: Array) -> float:
    return float(-(wins * np.logaddexp(0, theta[None, :] - theta[:, None])).sum())


def _require_connected(wins: Array, names: Sequence[str]) -> None:
    """A strength is finite only where a chain of wins or ties leads from every policy to every other (Ford 1957)."""
    linked = reachable((wins + wins.T) > 0)
    for place, name in enumerate(names):
        if not linked[0, place]:
            raise UserError(
                f"`{names[0]}` and `{name}` were not compared, not even by way of others: compare them on some prompts."
            )
    reaches = reachable(wins > 0)
    for better, worse in itertools.permutations(range(len(names)), 2):
        if not reaches[worse, better]:
            raise UserError(
                f"`{names[worse]}` never won or tied, not even by way of others, against `{names[better]}`, so the "
                "strengths have no bound: compare them on more prompts, or leave one out."
            )
