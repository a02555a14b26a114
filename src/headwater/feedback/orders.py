"""Orders with ties: groups, best first, and what they say of every two things in them.

    [[7], [3, 9], [1]]    7 is best, 3 and 9 tie, 1 is worst

The functions know nothing of the store, nor of what is put in order: mostly ids of answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

One = TypeVar("One", bound=Hashable)

Orders = dict[tuple[int, int], int]
"""{(answer, answer), lower id first: 1 where the first is better, -1 where the second is, 0 for a tie}."""


def groups_of(ranks: Mapping[One, float]) -> list[list[One]]:
    """{one: its rank} as groups, the lowest rank first; equal ranks tie, in the order in which they stand."""
    found: dict[float, list[One]] = {}
    for one, rank in ranks.items():
        found.setdefault(rank, []).append(one)
    return [found[rank] for rank in sorted(found)]


def places(groups: Sequence[Sequence[One]]) -> dict[One, int]:
    """{one: number of its group, 0 for the best}."""
    return {one: place for place, group in enumerate(groups) for one in group}


def has_order(groups: Sequence[Sequence[One]]) -> bool:
    """Whether not all tie."""
    return len(groups) > 1


def pair_orders(groups: Sequence[Sequence[int]]) -> Orders:
    """What is said of every two answers."""
    place = places(groups)
    return {
        (low, high): (place[high] > place[low]) - (place[high] < place[low])
        for low, high in itertools.combinations(sorted(place), 2)
    }


def ordered_pairs(groups: Sequence[Sequence[One]]) -> list[tuple[One, One]]:
    """(better, worse) of every two that do not tie, by the better one's place."""
    return [
        (better, worse)
        for place, group in enumerate(groups)
        for better in group
        for below in groups[place + 1 :]
        for worse in below
    ]
