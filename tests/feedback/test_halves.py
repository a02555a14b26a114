"""The judges' share in two halves."""

from __future__ import annotations

from dialogues import rankings
from headwater.feedback.halves import half_of, halved


def test_the_halves_have_nothing_in_common_and_miss_nothing() -> None:
    found = {half: {each.id for each in halved(rankings(), half)} for half in ("annotator", "judge")}
    assert not found["annotator"] & found["judge"]
    assert found["annotator"] | found["judge"] == set(range(40))
    assert min(map(len, found.values())) > 8
    derived = rankings(1, derived=True)
    parts = [
        {derived[0].responses[one] for each in halved(derived, half) for group in each.groups for one in group}
        for half in ("annotator", "judge")
    ]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == {"good", "bad", "bad bad"}
    assert all(half_of(text) == "annotator" for text in parts[0])
    assert halved(rankings(), None) == rankings()
