"""Baselines for preferences on pairs whose rule is known; accuracy against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from headwater.errors import UserError
from headwater.evaluation.pairwise import Majority, Pair, PairBagOfWords, PairLength, accuracy


def pairs(count: int, seed: int = 0) -> list[Pair]:
    """The answer with "good" wins; where none or both have it, the first does. Lengths are random."""
    generator = np.random.default_rng(seed)
    found = []
    for number in range(count):
        texts = [
            " ".join(generator.choice(["tree", "house", "river"], generator.integers(2, 9))) + " good" * good
            for good in generator.integers(0, 2, 2)
        ]
        better = "good" in texts[0] or "good" not in texts[1]
        found.append(Pair(number // 3, *texts, better))
    return found


def test_words_are_learnt() -> None:
    scorer = PairBagOfWords()
    scorer.fit(pairs(300))
    # Pairs without a difference in the one word that counts are a matter of luck.
    clear = [pair for pair in pairs(100, seed=1) if ("good" in pair.first) != ("good" in pair.second)]
    assert accuracy(scorer.margins(clear), clear).accuracy > 0.95
    swapped = [Pair(pair.prompt, pair.second, pair.first, not pair.first_is_better) for pair in clear]
    assert scorer.margins(swapped) == pytest.approx(-scorer.margins(clear))


def test_one_label_is_enough() -> None:
    scorer = PairBagOfWords()
    scorer.fit([Pair(0, "good", "bad", True), Pair(1, "good tree", "bad tree", True)])
    assert scorer.margins([Pair(2, "bad", "good", False)])[0] < 0


def test_length_takes_the_side_that_was_right() -> None:
    longer = [Pair(0, "a b c", "a", True), Pair(1, "a", "a b", False), Pair(2, "a b", "a b", True)]
    for data in (longer, [Pair(each.prompt, each.first, each.second, not each.first_is_better) for each in longer]):
        scorer = PairLength()
        scorer.fit(data)
        assert accuracy(scorer.margins(data), data).accuracy == pytest.approx(2.5 / 3)


def test_majority() -> None:
    scorer = Majority()
    scorer.fit([Pair(0, "a", "b", False)] * 3 + [Pair(0, "a", "b", True)])
    assert accuracy(scorer.margins(pairs(9)), pairs(9)).accuracy == np.mean(
        [not pair.first_is_better for pair in pairs(9)]
    )


def test_the_interval_draws_prompts() -> None:
    alike = [Pair(number // 50, "a", "b", number % 100 < 50) for number in range(1000)]
    wide = accuracy(np.ones(1000), alike)
    narrow = accuracy(
        np.ones(1000), [Pair(number, "a", "b", pair.first_is_better) for number, pair in enumerate(alike)]
    )
    assert wide.accuracy == narrow.accuracy == 0.5
    assert (wide.prompts, narrow.prompts, wide.pairs) == (20, 1000, 1000)
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)


def test_too_little_is_refused() -> None:
    with pytest.raises(UserError, match="no held-out pair"):
        accuracy(np.zeros(0), [])
    with pytest.raises(UserError, match="at least two pairs"):
        PairBagOfWords().fit(pairs(1))
    with pytest.raises(UserError, match="no words"):
        PairBagOfWords().fit([Pair(0, "—", "…", True)] * 2)
