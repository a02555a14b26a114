"""Pairs of rankings: as many as answers that do not tie, the better one first by turns."""

from __future__ import annotations

import numpy as np

from dialogues import rankings
from headwater.feedback.preference_pairs import pairs_of


def test_pairs_do_not_give_away_which_answer_is_better() -> None:
    pairs = pairs_of(rankings())
    assert len(pairs) == 80
    assert np.mean([pair.first_is_better for pair in pairs]) == 0.5
    assert all((pair.first == "good") == pair.first_is_better for pair in pairs)
