"""The baselines learn what they can learn, and nothing from shuffled labels."""

from __future__ import annotations

import numpy as np
import pytest

from headwater.errors import UserError
from headwater.evaluation.baselines import BagOfWords, Length
from headwater.evaluation.pairs import pair_accuracy

GOOD = ["good", "wonderful", "moving", "funny"]
BAD = ["bad", "dull", "empty", "silly"]
NEUTRAL = ["film", "story", "actor", "scene", "music", "plot", "summer", "city"]


def reviews(n: int, seed: int) -> tuple[list[str], np.ndarray]:
    generator = np.random.default_rng(seed)
    texts, means = [], []
    for _ in range(n):
        words = [*generator.choice(GOOD + BAD, size=2), *generator.choice(NEUTRAL, size=generator.integers(3, 8))]
        texts.append(" ".join(generator.permutation(words)))
        means.append(sum((word in GOOD) - (word in BAD) for word in words))
    return texts, np.array(means, dtype=float)


def test_bag_of_words_learns_words() -> None:
    model = BagOfWords().fit(*reviews(300, 0))
    texts, means = reviews(100, 1)
    assert pair_accuracy(model.score(texts), means).accuracy > 0.97
    assert model.score(["a wonderfully moving film"])[0] > model.score(["a dull film"])[0]  # by its characters


def test_bag_of_words_learns_chinese_without_spaces() -> None:
    texts = ["这部电影很好看。", "演员很好。", "故事很差。", "音乐很差劲。"] * 5
    model = BagOfWords().fit(texts, [2, 2, -2, -2] * 5)
    assert model.score(["很好的书"])[0] > model.score(["很差的书"])[0]


def test_bag_of_words_learns_nothing_from_shuffled_labels() -> None:
    texts, means = reviews(300, 0)
    model = BagOfWords().fit(texts, np.random.default_rng(0).permutation(means))
    unseen, truth = reviews(150, 1)
    found = pair_accuracy(model.score(unseen), truth)
    assert abs(found.accuracy - 0.5) < 0.15


def test_bag_of_words_is_deterministic() -> None:
    texts, means = reviews(100, 0)
    assert np.array_equal(BagOfWords().fit(texts, means).score(texts), BagOfWords().fit(texts, means).score(texts))


def test_bag_of_words_takes_odd_texts() -> None:
    texts, means = reviews(50, 0)
    model = BagOfWords().fit(texts, means)
    assert np.isfinite(model.score(["", "§§", "未知"])).all()
    assert model.score([]).shape == (0,)
    with pytest.raises(UserError, match="at least two"):
        BagOfWords().fit(["one"], [1])
    with pytest.raises(UserError, match="no words"):
        BagOfWords().fit(["", " "], [1, 2])
    with pytest.raises(ValueError, match="before fit"):
        BagOfWords().score(["x"])


def test_length_learns_its_direction() -> None:
    texts = ["a", "a b", "a b c"]
    assert list(Length().fit(texts, [3, 2, 1]).score(["x y", "x"])) == [-2, -1]
    assert list(Length().fit(texts, [1, 2, 3]).score(["x y", "很好看"])) == [2, 3]
