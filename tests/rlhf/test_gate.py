"""What PPO refuses to follow."""

from __future__ import annotations

import pytest

from headwater.rlhf.gate import objection

MEASURED = {"accuracy": 0.81, "accuracy_ci": [0.79, 0.83], "length_baseline": 0.55}


def test_a_reward_clearly_above_length_passes():
    assert objection(MEASURED) is None
    assert objection({**MEASURED, "length_baseline": 0.789}) is None


@pytest.mark.parametrize("length", [0.79, 0.8, 0.9])
def test_an_interval_that_does_not_lie_above_length_is_refused_with_what_was_measured(length):
    said = objection({**MEASURED, "length_baseline": length})
    assert said is not None
    assert "81.0%" in said
    assert "79.0% to 83.0%" in said
    assert f"{length:.1%}" in said
    assert "ppo.gate=false" in said


def test_length_that_is_worse_than_chance_is_no_bar_to_be_proud_of():
    weak = {"accuracy": 0.52, "accuracy_ci": [0.48, 0.56], "length_baseline": 0.45}
    said = objection(weak)
    assert said is not None
    assert "not clearly above always naming one side (50.0%)" in said
    assert objection(weak | {"accuracy_ci": [0.501, 0.56]}) is None


@pytest.mark.parametrize("missing", [{"accuracy_ci": [None, None]}, {"accuracy_ci": None}, {"length_baseline": None}])
def test_what_was_not_measured_is_refused_too(missing):
    said = objection(MEASURED | missing)
    assert said is not None
    assert "ppo.gate=false" in said
