"""Openings: nothing is lost between opening and rest, in English and in Chinese."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.words import units
from headwater.tasks.continuation import split_opening

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
