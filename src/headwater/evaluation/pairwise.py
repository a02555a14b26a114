"""Baselines for preferences: which of two answers is better, by the same guess always, by length, by words.

What a reward model makes of a set of preferences means little without them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from headwater.errors import UserError
from headwater.evaluation.baselines import WORDS, lengths_of
from headwater.evaluation.intervals import Array, draws, percentile_interval

RESAMPLES = 1000


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt; `prompt` is what the interval draws by."""

    prompt: Hashable
    first: str
    second: str
    first_is_better: bool


class PairScorer(Protocol):
    """Learns from pairs, and says of others which answer is better."""

    def fit(self, pairs: Sequence[Pair]) -> None: ...

    def margins(self, pairs: Sequence[Pair]) -> Array:
        """[pairs]: above 0 where the first answer is thought better, 0 for no opinion."""
        ...


class Majority:
    """Always the side that was better more often in training."""

    def fit(self, pairs: Sequence[Pair]) -> None:
        self.margin = 1.0 if 2 * sum(pair.first_is_better for pair in pairs) >= len(pairs) else -1.0

    def margins(self, pairs: Sequence[Pair]) -> Array:
        return np.full(len(pairs), self.margin)


class PairLength:
    """The longer answer, or the shorter, whichever was better more often in training; words, and Chinese characters."""

    def fit(self, pairs: Sequence[Pair]) -> None:
        right = np.sign(_length_differences(pairs)) @ np.array([1 if pair.first_is_better else -1 for pair in pairs])
        self.sign = -1.0 if right < 0 else 1.0

    def margins(self, pairs: Sequence[Pair]) -> Array:
        return self.sign * _length_differences(pairs)


class PairBagOfWords:
    """Logistic regression on the difference of the answers' TF-IDF vectors; swapping the answers swaps the verdict.

    The fit has no random part.
    """

    def fit(self, pairs: Sequence[Pair]) -> None:
        """Raises UserError where there are too few pairs, or no words."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        if len(pairs) < 2:
            raise UserError(f"A bag of words needs at least two pairs to learn from; there are {len(pairs)}.")
        self._vectorizer: Any = TfidfVectorizer(
            sublinear_tf=True, token_pattern=WORDS, min_df=2 if len(pairs) > 50 else 1
        )
        try:
            self._vectorizer.fit(sorted({text for pair in pairs for text in (pair.first, pair.second)}))
        except ValueError as error:
            if "vocabulary" not in str(error) and "no terms" not in str(error):
                raise
            raise UserError("The answers have no words: check the texts of the preferences.") from None
        # Every pair stands in both orders, so that both labels are there, and no side is preferred.
        both = [*pairs, *(Pair(pair.prompt, pair.second, pair.first, not pair.first_is_better) for pair in pairs)]
        self._model: Any = LogisticRegression(fit_intercept=False, max_iter=300)
        self._model.fit(self._differences(both), [pair.first_is_better for pair in both])

    def margins(self, pairs: Sequence[Pair]) -> Array:
        """[pairs], in logits."""
        return np.asarray(self._model.decision_function(self._differences(pairs)), dtype=np.float64)

    def scores(self, texts: Sequence[str]) -> Array:
        """[texts], in logits: the margin of a pair is the difference of its answers' scores."""
        return np.asarray(self._model.decision_function(self._vectorizer.transform(texts)), dtype=np.float64)

    def _differences(self, pairs: Sequence[Pair]) -> Any:
        first, second = ([getattr(pair, side) for pair in pairs] for side in ("first", "second"))
        return self._vectorizer.transform(first) - self._vectorizer.transform(second)


@dataclass(frozen=True)
class Accuracy:
    """Share of the pairs in the right order (no opinion is ½ right), with its 95% bootstrap interval over prompts."""

    accuracy: float
    low: float
    high: float
    pairs: int
    prompts: int


def accuracy(margins: Array, pairs: Sequence[Pair], *, seed: int = 0) -> Accuracy:
    """`margins` [pairs] against what people said. Raises UserError where there is no pair."""
    if not pairs:
        raise UserError("There is no held-out pair: give more preferences.")
    right = np.array([1 if pair.first_is_better else -1 for pair in pairs])
    credit = (1 + np.sign(margins) * right) / 2
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(pair.prompt for pair in pairs))}
    owner = np.array([places[pair.prompt] for pair in pairs])
    credits, counts = np.bincount(owner, weights=credit), np.bincount(owner)
    # The first row of the weights is the sample itself.
    weights = draws(len(places), RESAMPLES, np.random.default_rng(seed)).astype(np.float64)
    shares = (weights @ credits) / (weights @ counts)
    return Accuracy(float(shares[0]), *percentile_interval(shares[1:]), len(pairs), len(places))


def _length_differences(pairs: Sequence[Pair]) -> Array:
    return lengths_of([pair.first for pair in pairs]) - lengths_of([pair.second for pair in pairs])
