"""Every judge prefers the plainly better answer and returns one number per answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.evaluation.judges import BagOfWordsJudge, ChineseLexiconJudge, Judge, LexiconJudge

TEXTS = ["a wonderful film", "a terrible film", "wonderful acting", "terrible acting", "great fun", "no fun, awful"] * 3


@pytest.fixture(params=["bag_of_words", "lexicon"])
def judge(request: pytest.FixtureRequest) -> Judge:
    return BagOfWordsJudge(TEXTS, [3, -3] * 9) if request.param == "bag_of_words" else LexiconJudge()


def test_it_prefers_the_better_answer(judge: Judge) -> None:
    scores = judge.score(["?"] * 3, ["wonderful, great", "terrible and awful", ""])
    assert scores.shape == (3,)
    assert scores[0] > scores[2] > scores[1]
    assert judge.name in ("bag_of_words", "lexicon")


def test_order_and_company_do_not_matter(judge: Judge) -> None:
    forward = judge.score(["?"] * 4, TEXTS[:4])
    assert np.allclose(judge.score(["!"] * 4, TEXTS[:4][::-1])[::-1], forward)
    assert np.allclose(judge.score(["?"], TEXTS[:1]), forward[:1])


def test_lengths_must_match(judge: Judge) -> None:
    with pytest.raises(ValueError, match="1 instructions"):
        judge.score(["?"], ["a", "b"])


def test_the_lexicon_stays_on_its_scale() -> None:
    scores = LexiconJudge().score(["?"] * 2, ["good " * 50, "awful " * 50])
    assert -1 <= scores[1] < scores[0] <= 1


CHINESE = ChineseLexiconJudge(["好", "满意", "好评"], ["差", "好笑", "失望"])


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("很好，很满意", 2),
        ("差", -1),
        ("不好", -1),  # turned round
        ("不太满意", -1),
        ("没有失望", 1),
        ("不，很好", 1),  # a mark stands between
        ("好笑", -1),  # the longest word counts, not the one in it
        ("好评", 1),
        ("不是一般的好", 1),  # too far away
        ("房间", 0),
        ("", 0),
    ],
)
def test_the_chinese_lexicon_counts_words_and_turns_negated_ones_round(text: str, total: int) -> None:
    (score,) = CHINESE.score(["?"], [text])
    assert score == pytest.approx(total / np.sqrt(total**2 + 15))


@given(st.text("好坏评不没笑，x"))
def test_the_chinese_lexicon_stays_on_its_scale(text: str) -> None:
    assert -1 < CHINESE.score(["?"], [text])[0] < 1


def test_word_counts_learn_single_characters_of_chinese() -> None:
    judge = BagOfWordsJudge(["房间好，近", "电脑差，慢", "很好的书", "很差的书", "都好", "都差"] * 3, [1, -1] * 9)
    scores = judge.score(["?"] * 2, ["这本好", "这本差"])
    assert scores[0] > scores[1]
