"""Which task teaches a reward model most: the one of whose answers it knows least which is better."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def preference_entropy(scores: ArrayLike) -> float:
    """Mean entropy, in bits, of the predicted outcomes of all pairs of a task's answers: 0 certain, 1 as by a coin.

    scores  rewards [answers] of one model, or [models, answers] of an ensemble

    P(i beats j) = mean over models of σ(s_i − s_j) (Bradley and Terry 1952). So members that contradict each other make a
    pair uncertain, though each of them is sure. Raises ValueError where there are fewer than two answers, or a score is not
    finite.
    """
    given = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if given.ndim != 2 or given.shape[1] < 2 or not given.shape[0] or not np.isfinite(given).all():
        raise ValueError(f"Scores {given.shape} must be finite, [models, answers], of two answers or more.")
    first, second = np.triu_indices(given.shape[1], k=1)
    gap = given[:, first] - given[:, second]
    # In logarithms, so that a pair that is all but certain keeps its tiny entropy: log σ(x) = −log(1 + e^−x).
    count = np.log(len(given))
    wins = np.logaddexp.reduce(-np.logaddexp(0, -gap), axis=0) - count
    losses = np.logaddexp.reduce(-np.logaddexp(0, gap), axis=0) - count
    entropy = -(np.exp(wins) * wins + np.exp(losses) * losses) / np.log(2)
    return float(np.clip(entropy, 0, 1).mean())
