"""Every judge prefers the plainly better answer and returns one number per answer."""

from __future__ import annotations

import numpy as np
import pytest

from headwater.evaluation.judges import BagOfWordsJudge, Judge, LexiconJudge

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
