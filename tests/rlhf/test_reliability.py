"""Pairs that are turned round: as many as wanted, the same ones every time."""

from __future__ import annotations

import pytest
import torch

from headwater.objectives.preference import Preference
from headwater.rlhf.reliability import FlippedPairs
from headwater.training.batch import collate


def batch(places=(0, 1, 2, 3, 4, 4), rankings=40):
    texts = [[5 + place, 6, 7] for place in range(len(places))]
    groups = [Preference().prepare(texts, places, index) for index in range(rankings)]
    return collate([row for group in groups for row in group])


def turned_round(objective, given):
    first, second, _ = objective.pairs(given)
    place = given.per_row["place"]
    return place[first] > place[second]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
def test_the_share_is_the_one_wanted(share):
    given = batch()
    flipped = turned_round(FlippedPairs("leave-out", share=share, flips=3), given)
    assert float(flipped.float().mean()) == pytest.approx(share, abs=0.05)
    assert bool(flipped.any()) == (share > 0)


def test_nothing_but_the_order_within_pairs_changes():
    given = batch()
    plain, flipped = Preference().pairs(given), FlippedPairs(share=0.3, flips=3).pairs(given)
    assert torch.equal(torch.stack(plain[:2]).sort(dim=0).values, torch.stack(flipped[:2]).sort(dim=0).values)
    assert torch.equal(plain[2], flipped[2])


def test_a_pair_is_turned_round_in_every_epoch_or_in_none():
    """Whatever else is in the batch."""
    objective, given = FlippedPairs("leave-out", share=0.3, flips=3), batch()
    alone = batch(rankings=1)
    count = len(objective.pairs(alone)[0])
    assert torch.equal(turned_round(objective, alone), turned_round(objective, given)[:count])
    other = FlippedPairs("leave-out", share=0.3, flips=4)
    assert not torch.equal(turned_round(objective, given), turned_round(other, given))


def test_a_whole_ranking_is_no_pair():
    with pytest.raises(ValueError, match="pairs"):
        FlippedPairs(loss="plackett-luce", share=0.1, flips=1)
