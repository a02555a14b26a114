"""Openings: nothing is lost between opening and rest, in English and in Chinese."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.words import units
from headwater.evaluation.judges import SENTIMENT_WORDS, BagOfWordsJudge, LexiconJudge
from headwater.tasks.continuation import Continuation, split_opening
from words import small_tokenizer

WORDS = st.tuples(st.integers(1, 5), st.integers(0, 4)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.one_of(st.text(), st.text("房间很好，。！ 4GB、《》")), WORDS)
def test_opening_and_rest_are_the_text(text, words):
    parts = split_opening(text, words)
    if parts is not None:
        assert parts[0] + parts[1] == text


@given(st.text("房间很好，。！、《》", min_size=1), st.integers(1, 5))
def test_a_chinese_opening_has_so_many_characters_and_leaves_as_many(text, words):
    place = int(1.5 * words)
    parts = split_opening(text, (words, words))
    if len(units(text)) < 2 * place:
        assert parts is None
    else:
        opening, rest = parts
        assert len(units(opening)) == place
        assert len(units(rest)) >= place


@pytest.mark.parametrize(
    ("text", "words", "opening"),
    [
        ("the film was fine", 2, "the film"),
        ("don't go there ever", 1, "don't"),  # an English word ends at a space
        ("房间很好，下次还住。", 2, "房间很"),
        ("很好，房间大也安静", 1, "很"),
        ("房间大，也很安静而且便宜", 2, "房间大，"),  # a mark stays with what is before it
        ("15.4寸笔记本很重，不方便", 3, "15.4寸笔"),  # a number is a unit and stays whole
        ("买了ThinkPad以后很满意", 2, "买了ThinkPad"),
        ("房间大", 2, None),
    ],
)
def test_where_it_is_cut(text, words, opening):
    parts = split_opening(text, (words, words))
    assert (parts and parts[0]) == opening


PRAISE = ["今天天气很好，我们去公园散步", "语言模型很好", "大学很好，可以学习"]
BLAME = ["天气不好，公园很差", "平台很差，工作很多年", "文本很差，也不可以理解"]


def judges_of(folder, source, texts):
    lines = [
        {"id": str(place), "text": text, "source": source, "share": "judge", "ratings": [rating], "mean": rating}
        for place, (text, rating) in enumerate(texts)
    ]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / "reviews.jsonl").write_text(content, encoding="utf-8")
    return Continuation(folder, {source: "Write."}, (2, 4), small_tokenizer()).judges(list, None)


def test_the_lexicon_is_that_of_the_answers_language(tmp_path):
    words = tmp_path / SENTIMENT_WORDS
    words.write_text(json.dumps({"praise": ["很好"], "blame": ["很差"]}), encoding="utf-8")
    texts = [*((text, 1) for text in PRAISE), *((text, -1) for text in BLAME)]
    for judge in judges_of(tmp_path, "reviews-zh", texts):
        assert (judge.score(["?"] * 3, PRAISE) > judge.score(["?"] * 3, BLAME)).all(), judge.name
    english = judges_of(tmp_path, "film-reviews", [("good film", 2), ("bad film", -2)])
    assert [type(judge) for judge in english] == [BagOfWordsJudge, LexiconJudge]
