"""Intervals over seeds."""

import pytest
import torch
from scipy import stats

from headwater.evaluation.seeds import over_seeds


def test_the_interval_is_student_s():
    values = [0.91, 0.88, 0.93]
    found = over_seeds(values)
    low, high = stats.t.interval(0.95, 2, loc=stats.tmean(values), scale=stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((0.90667, low, high), abs=1e-4)
    assert str(found).startswith("0.907 [")


def test_it_holds_the_mean_in_19_of_20_cases():
    drawn = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)).tolist()
    held = sum(found.low <= 0 <= found.high for found in map(over_seeds, drawn))
    assert held / 2000 == pytest.approx(0.95, abs=0.02)


def test_one_seed_has_no_interval():
    assert str(over_seeds([0.5])) == "0.500"
