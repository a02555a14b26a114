"""What counts as a unit in two languages, and measures that do not reward length."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.evaluation.text_metrics import answer_units, distinct, length_ratio, repetition, variety

LINES = st.lists(st.text("ab 很好", max_size=12), min_size=1, max_size=6)


def test_units_of_english_and_chinese() -> None:
    assert answer_units("It's a GOOD film, isn’t it?") == ["it's", "a", "good", "film", "isn’t", "it"]
    assert answer_units("这部film很好看！2024年") == ["这", "部", "film", "很", "好", "看", "2024", "年"]
    assert answer_units("…!?") == answer_units("") == []


def test_distinct_by_hand() -> None:
    assert distinct([["a", "b", "a", "b"]], 2) == pytest.approx(2 / 3)
    assert distinct([["a", "b"], ["a", "b"]], 2) == 0.5
    assert distinct([["a"]], 2) == 0.0


def test_variety_cuts_both_to_the_shorter() -> None:
    found = variety(["one two three", "one two three"], ["one two", "four five six seven"])
    assert found.before == pytest.approx(2 / 3)  # one two | one two, two three
    assert found.after == 1.0
    assert found.ratio == pytest.approx(1.5)


def test_more_of_the_same_text_is_no_variety() -> None:
    before = [f"word{i} other{i} third{i}" for i in range(20)]
    assert variety(before, [f"{text} and more of it" for text in before]).ratio == 1.0
    assert variety(before, ["a wonderful film"] * 20).ratio == pytest.approx(1 / 20)


@given(LINES)
def test_the_same_answers_have_ratio_one(lines: list[str]) -> None:
    found = variety(lines, lines)
    assert found.before == found.after
    assert found.ratio == 1 or math.isnan(found.ratio)
    assert length_ratio(lines, lines) == 1 or math.isnan(length_ratio(lines, lines))


@given(LINES)
def test_shares_are_shares(lines: list[str]) -> None:
    assert 0 <= repetition(lines, 1) <= 1
    assert 0 <= variety(lines, lines[::-1]).after <= 1


def test_length_and_repetition() -> None:
    assert length_ratio(["one two", "很好"], ["one", "好"]) == 0.5
    assert repetition(["a b c a b c"], 3) == pytest.approx(1 / 4)
    assert repetition(["a b c", "a b c"], 3) == 0  # another answer's words are no repetition
    assert repetition([], 3) == 0
