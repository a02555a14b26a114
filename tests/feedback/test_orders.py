"""Orders with ties, against what comparing the ranks of every two says."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from headwater.feedback.orders import groups_of, has_order, ordered_pairs, pair_orders, places

RANKS = st.dictionaries(st.integers(1, 9), st.integers(-2, 3) | st.sampled_from([0.5, 1.5]), max_size=9)
"""{answer: rank}: equal ranks tie."""


@given(RANKS)
def test_groups_stand_by_rank_and_hold_each_once_in_the_order_given(ranks: dict[int, float]) -> None:
    groups = groups_of(ranks)
    assert [one for group in groups for one in group] == sorted(ranks, key=ranks.__getitem__)
    assert all(len({ranks[one] for one in group}) == 1 for group in groups)
    assert has_order(groups) == (len(set(ranks.values())) > 1)
    assert groups_of(places(groups)) == groups


@given(RANKS)
def test_every_two_are_as_their_ranks_say(ranks: dict[int, float]) -> None:
    groups = groups_of(ranks)
    better = [(one, other) for one, other in itertools.permutations(ranks, 2) if ranks[one] < ranks[other]]
    found = ordered_pairs(groups)
    assert sorted(found) == sorted(better)
    place = places(groups)
    assert [place[one] for one, _ in found] == sorted(place[one] for one, _ in found)
    orders = pair_orders(groups)
    assert list(orders) == list(itertools.combinations(sorted(ranks), 2))
    assert {pair for pair, order in orders.items() if order > 0} == {(a, b) for a, b in better if a < b}
    assert {pair for pair, order in orders.items() if order < 0} == {(b, a) for a, b in better if a > b}


def test_known_values() -> None:
    groups = [[7], [3, 9], [1]]
    assert groups_of({3: 2, 7: 1, 1: 5, 9: 2}) == groups
    assert places(groups) == {7: 0, 3: 1, 9: 1, 1: 2}
    assert pair_orders(groups) == {(1, 3): -1, (1, 7): -1, (1, 9): -1, (3, 7): -1, (3, 9): 0, (7, 9): 1}
    assert ordered_pairs([["a"], ["b", "c"]]) == [("a", "b"), ("a", "c")]
    assert not has_order([[1, 2]])
    assert not has_order([])
