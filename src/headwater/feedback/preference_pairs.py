"""Rankings as pairs of which one answer is better: what accuracy is measured on, and simple judges learn from."""

from __future__ import annotations

from collections.abc import Sequence

from headwater.evaluation.pairwise import Pair
from headwater.feedback.comparisons import first_said
from headwater.feedback.orders import ordered_pairs
from headwater.feedback.store.reader import Ranking


def pairs_of(rankings: Sequence[Ranking]) -> list[Pair]:
    """Every two answers of each ranking that do not tie, the better one first and second by turns; the interval of what is
    measured on them draws what the user said first.
    """
    pairs: list[Pair] = []
    for ranking in rankings:
        asked = first_said(ranking.conversation)
        for better, worse in ordered_pairs(ranking.groups):
            first_is_better = len(pairs) % 2 == 0
            one, other = (better, worse) if first_is_better else (worse, better)
            pairs.append(Pair(asked, ranking.responses[one], ranking.responses[other], first_is_better))
    return pairs
