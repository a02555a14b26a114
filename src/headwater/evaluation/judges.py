"""Judges of answers: whatever gives a number per answer, higher for better, and was never seen in training the policy.

A judge is any object with a `name` and `score(instructions, answers)`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from headwater.evaluation.baselines import BagOfWords
from headwater.evaluation.intervals import Array
from headwater.evaluation.pairwise import Pair, PairBagOfWords

SENTIMENT_WORDS = "sentiment-words.json"
"""Beside rated Chinese texts: words of praise and of blame."""
_NEGATION = re.compile(r"[不没沒无無未别別非难難][^\W\d_]{0,2}$")
"""A Chinese character of negation, and at most two others up to the word."""


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


class ChineseLexiconJudge:
    """Words of praise less words of blame in a Chinese text, −1 to 1 on VADER's scale: s / √(s² + 15).

    At each place the longest word of the lists counts. One that follows a negation, with no more than two characters and
    no punctuation between, counts the other way round. It is blind to irony, to "too" and to what the lists lack.
    """

    name = "lexicon"

    def __init__(self, praise: Iterable[str], blame: Iterable[str]) -> None:
        self.polarity = dict.fromkeys(praise, 1) | dict.fromkeys(blame, -1)
        self.longest = max(map(len, self.polarity), default=0)

    @classmethod
    def read(cls, path: Path) -> ChineseLexiconJudge:
        """From the file that the samples stage writes: {"praise": words, "blame": words}."""
        lists = json.loads(path.read_text(encoding="utf-8"))
        return cls(lists["praise"], lists["blame"])

    def score(self, instructions: Sequence[str], answers: Sequence[str]) -> Array:
        same_length(instructions, answers)
        sums = np.array([self._sum(answer) for answer in answers], dtype=np.float64)
        return np.asarray(sums / np.sqrt(sums**2 + 15))

    def _sum(self, text: str) -> int:
        total = place = 0
        while place < len(text):
            for length in range(min(self.longest, len(text) - place), 0, -1):
                if polarity := self.polarity.get(text[place : place + length]):
                    turned = _NEGATION.search(text[max(0, place - 3) : place])
                    total += -polarity if turned else polarity
                    break
            else:
                length = 1
            place += length
        return total


def same_length(instructions: Sequence[str], answers: Sequence[str]) -> None:
    if len(instructions) != len(answers):
        raise ValueError(f"{len(instructions)} instructions for {len(answers)} answers.")
