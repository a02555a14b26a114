"""Settings of rounds."""

from __future__ import annotations

from dialogues import rankings
from headwater.feedback.settings import RoundSettings


def test_rounds_weigh_what_the_recipe_says() -> None:
    given = rankings(200)
    assert RoundSettings().mixed(given) == given
    drawn = RoundSettings(weights=[0.5, 2]).mixed(given)
    assert abs(sum(each.round == 1 for each in drawn) - 50) <= 2
    assert sum(each.round == 2 for each in drawn) == 200
    assert not [each for each in RoundSettings(weights=[0.0]).mixed(given) if each.round == 1]
