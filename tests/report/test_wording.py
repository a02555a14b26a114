from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.report import wording


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (wording.count(12345.4), "12,345"),
        (wording.decimal(-1.236), "−1.24"),
        (wording.percent(0.8734), "87.3%"),
        (wording.percent_interval([0.85, 0.9]), "85.0% to 90.0%"),
        (wording.decimal_interval([-0.1, 0.2], 1), "−0.1 to 0.2"),
        (wording.millions(4212345), "4.21 million"),
        (wording.millions(1.5e9), "1.5 billion"),
        (wording.millions(9999), "9,999"),
        (wording.duration(12.34), "12.3 s"),
        (wording.duration(581), "9 min 41 s"),
        (wording.duration(7300), "2 h 1 min"),
        (wording.cut("abcdef", 4), "abc…"),
        (wording.cut("abcd", 4), "abcd"),
        (wording.words("near_duplicate"), "near duplicate"),
        (wording.printable("a\x00b\x07\n\tc\ud800"), "a\ufffdb\ufffd\n\tc?"),
        (wording.printable(None), "–"),
        (wording.printable(3), 3),
    ],
)
def test_wording(shown: Any, expected: Any) -> None:
    assert shown == expected


@pytest.mark.parametrize(
    "show",
    [
        wording.count,
        wording.decimal,
        wording.percent,
        wording.percent_interval,
        wording.decimal_interval,
        wording.duration,
        wording.millions,
    ],
)
@pytest.mark.parametrize("value", [None, math.nan, "text", True, [1], [None, 1], {}])
def test_what_is_no_number_is_a_dash(show: Callable[[Any], str], value: Any) -> None:
    assert show(value) == wording.NOTHING


@given(st.text(st.characters()))
def test_printable_text_can_be_written(text: str) -> None:
    shown = wording.printable(text)
    shown.encode("utf-8")
    assert not [character for character in shown if ord(character) < 32 and character not in "\t\n\r"]
