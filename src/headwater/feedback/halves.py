"""The judges' share in two halves: an annotator that learnt from one must not be the judge of the outcome, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from headwater.corpus.shares import hash_fraction
from headwater.feedback.comparisons import first_said
from headwater.feedback.store.reader import Ranking

Half = Literal["annotator", "judge"]


def half_of(text: str) -> Half:
    """Which half a text, or the dialogue that begins with it, belongs to."""
    return "annotator" if hash_fraction("half of the judges' share", text) < 0.5 else "judge"


def halved(rankings: list[Ranking], half: Half | None) -> list[Ranking]:
    """What of the rankings belongs to a half; None: all of it.

    A derived ranking is halved by its sentences, since they all answer one instruction; what somebody judged, by what the
    user said first.
    """
    if half is None:
        return rankings
    return [kept for ranking in rankings if (kept := _part(ranking, half)) is not None]


def _part(ranking: Ranking, half: Half) -> Ranking | None:
    if not ranking.derived:
        return ranking if half_of(first_said(ranking.conversation)) == half else None
    groups = [[one for one in group if half_of(ranking.responses[one]) == half] for group in ranking.groups]
    return replace(ranking, groups=[group for group in groups if group])
