"""Which rows are kept for prompts that begin alike, and which give way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headwater.models.prefixes import Prefixes, common

rows = st.lists(st.integers(0, 2), max_size=6)


@given(rows, rows)
def test_common_counts_the_tokens_from_the_beginning(left, right):
    length = common(left, right)
    assert left[:length] == right[:length]
    assert length == min(len(left), len(right)) or left[length] != right[length]


def test_the_one_unused_for_longest_gives_way():
    prefixes = Prefixes((10, 11))
    first, second = prefixes.keep([1, 2]), prefixes.keep([3, 4])
    assert {first, second} == {10, 11}
    assert prefixes.find([1, 2, 9]) == (first, 2)
    assert prefixes.keep([5]) == second
    assert prefixes.find([3, 4]) == (0, 0)
    assert prefixes.find([1, 7]) == (first, 1)


def test_a_row_takes_the_place_of_what_it_goes_on_from_and_is_not_kept_twice():
    prefixes = Prefixes((10, 11))
    first = prefixes.keep([1, 2])
    assert prefixes.keep([1, 2, 3]) == first
    assert prefixes.keep([1, 2]) is None
    assert prefixes.find([1, 2, 3, 4]) == (first, 3)
    assert prefixes.keep([7]) != first


def test_without_slots_nothing_is_kept():
    prefixes = Prefixes(())
    assert prefixes.keep([1]) is None
    assert prefixes.find([1]) == (0, 0)


@given(st.lists(rows, max_size=30), st.integers(1, 3))
def test_what_is_found_was_kept_and_is_the_longest(kept, slots):
    prefixes, held = Prefixes(range(slots)), {}
    for row in kept:
        if (slot := prefixes.keep(row)) is not None:
            held[slot] = row
        for prompt in kept:
            slot, length = prefixes.find(prompt)
            assert length == max((common(tokens, prompt) for tokens in held.values()), default=0)
            assert not length or held[slot][:length] == prompt[:length]
