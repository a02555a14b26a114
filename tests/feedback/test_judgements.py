"""Only whole and sensible judgements are taken; everything else is one plain sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import UserError
from headwater.feedback.judgements import Judgement, check, parse_ranking

KNOWN = {1, 3, 7, 9, 12}

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 14) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=12,
)


@st.composite
def valid_rankings(draw: st.DrawFn) -> list[list[int]]:
    order = draw(st.permutations(sorted(KNOWN)))[: draw(st.integers(1, len(KNOWN)))]
    groups: list[list[int]] = [[order[0]]]
    for response in order[1:]:
        if draw(st.booleans()):
            groups.append([response])
        else:
            groups[-1].append(response)
    return groups


@given(valid_rankings())
def test_a_valid_ranking_is_returned_as_it_is(groups: list[list[int]]) -> None:
    parsed = parse_ranking(groups, KNOWN)
    assert parsed == groups
    assert parsed is not groups


@given(ANYTHING | st.lists(st.lists(st.integers(0, 13), max_size=3), max_size=4))
def test_anything_else_is_a_user_error(value: object) -> None:
    try:
        parsed = parse_ranking(value, KNOWN)
    except UserError:
        return
    flat = [response for group in parsed for response in group]
    assert parsed == value
    assert flat
    assert all(parsed)
    assert len(set(flat)) == len(flat)
    assert set(flat) <= KNOWN
    assert all(type(response) is int for response in flat)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ([], "ranking is"), (None, "ranking is"), ([[]], "Group 1"), ([[1], []], "Group 2"), ([1, 3], "Group 1"),
        ([[1], [3, 1]], "twice"), ([[1, 1]], "twice"), ([[2]], "not among"), ([[True]], "whole numbers"),
        ([["1"]], "whole numbers"), ([[1.0]], "whole numbers"), ({"1": 1}, "ranking is"), ("[[1]]", "ranking is"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(value: object, word: str) -> None:
    with pytest.raises(UserError, match=word):
        parse_ranking(value, KNOWN)


RANKING = Judgement(kind="ranking", client_id="c", annotator=1, prompt=1, ranking=[[1], [3]])
PAIR = replace(RANKING, kind="pair", strength=2.0)
RATING = Judgement(kind="rating", client_id="c", annotator=1, prompt=1, response=3, axes={"fluent": 2})


@pytest.mark.parametrize(
    "judgement",
    [
        RANKING, PAIR, RATING, replace(PAIR, ranking=[[1, 3]], strength=None),
        replace(RANKING, ranking=None, flags=["all-bad"]), replace(PAIR, ranking=None, flags=["skip"]),
        replace(RATING, axes=None, flags=["skip"]), replace(RATING, axes=None, edit="Better.", edit_of=3),
    ],
)  # fmt: skip
def test_whole_judgements_pass(judgement: Judgement) -> None:
    check(judgement, KNOWN)


@pytest.mark.parametrize(
    "judgement",
    [
        replace(RANKING, kind="guess"), replace(RANKING, client_id=" "), replace(RANKING, ranking=None),
        replace(RANKING, strength=1.0), replace(RANKING, response=1), replace(RANKING, milliseconds=-1),
        replace(RANKING, flags=[""]), replace(RANKING, ranking=[[2]], flags=["skip"]),
        replace(PAIR, ranking=[[1], [3], [7]]), replace(PAIR, ranking=[[1]]), replace(PAIR, strength=-1.0),
        replace(PAIR, strength=float("nan")), replace(PAIR, strength=float("inf")), replace(PAIR, response=1),
        replace(RATING, response=2), replace(RATING, response=None), replace(RATING, axes={}),
        replace(RATING, axes={"fluent": float("nan")}), replace(RATING, axes={"fluent": True}),
        replace(RATING, axes={"": 1}), replace(RATING, ranking=[[3]]),
    ],
)  # fmt: skip
def test_broken_judgements_do_not(judgement: Judgement) -> None:
    with pytest.raises(UserError):
        check(judgement, KNOWN)
