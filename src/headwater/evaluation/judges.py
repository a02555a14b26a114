"""Judges of answers: whatever gives a number per answer, higher for better, and was never seen in training the policy.

A judge is any object with a `name` and `score(instructions, answers)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headwater.evaluation.baselines import BagOfWords
from headwater.evaluation.pairwise import Pair, PairBagOfWords

Array = NDArray[np.float64]


class Judge(Protocol):
    """Scores answers; only the order of scores of answers to one instruction means anything."""

    @property
    def name(self) -> str: ...

    def score(self, instructions: Sequence[str], answers: Sequence[str]) -> Array:
        """[answers]; `instructions[i]` is what `answers[i]` answers, opening included in the answer."""
        ...


class BagOfWordsJudge:
    """Ridge regression on words, fitted on the judges' own sentences; it does not look at the instruction."""

    name = "bag_of_words"

    def __init__(self, texts: Sequence[str], means: ArrayLike) -> None:
        self.model = BagOfWords().fit(texts, means)

    def score(self, instructions: Sequence[str], answers: Sequence[str]) -> Array:
        same_length(instructions, answers)
        return self.model.score(answers)


class PairJudge:
    """Logistic regression on the difference of two answers' words, fitted on the judges' own pairs."""

    name = "bag_of_words"

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.model = PairBagOfWords()
        self.model.fit(pairs)

    def score(self, instructions: Sequence[str], answers: Sequence[str]) -> Array:
        same_length(instructions, answers)
        return self.model.scores(answers)


class LexiconJudge:
    """VADER's compound sentiment, −1 to 1 (Hutto and Gilbert 2014): a word list and rules, for English only."""

    name = "lexicon"

    def __init__(self) -> None:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self.analyser = SentimentIntensityAnalyzer()

    def score(self, instructions: Sequence[str], answers: Sequence[str]) -> Array:
        same_length(instructions, answers)
        return np.array([self.analyser.polarity_scores(answer)["compound"] for answer in answers], dtype=np.float64)


def same_length(instructions: Sequence[str], answers: Sequence[str]) -> None:
    if len(instructions) != len(answers):
        raise ValueError(f"{len(instructions)} instructions for {len(answers)} answers.")
