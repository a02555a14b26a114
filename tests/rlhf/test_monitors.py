"""Each rule speaks past its limit, is silent on the other side of it, and speaks once."""

from __future__ import annotations

import json

import pytest

from headwater.rlhf.monitors import Monitors

START = {
    "reward": 0.0,
    "selection_reward": 0.0,
    "kl": 0.0,
    "entropy": 3.0,
    "length": 20.0,
    "ended": 0.95,
    "repetition": 0.05,
}


def heard(*evaluations):
    monitors = Monitors(START)
    return [text for number, found in enumerate(evaluations, 1) for text in monitors.observe(number, START | found)]


@pytest.mark.parametrize(
    ("within", "past", "word"),
    [
        ({"repetition": 0.149}, {"repetition": 0.151}, "repetitions"),
        ({"length": 16.1}, {"length": 15.9}, "0.80 times"),
        ({"length": 23.9}, {"length": 24.5}, "ppo.length_control"),
        ({"entropy": 1.51}, {"entropy": 1.49}, "ppo.entropy_coefficient"),
        ({"ended": 0.81}, {"ended": 0.79}, "21% of the answers"),
    ],
)
def test_a_limit_has_two_sides(within, past, word):
    assert heard(within) == []
    (text,) = heard({}, past, past)
    assert word in text
    assert text.startswith("Iteration 2: ")


def course(rewards, selection):
    return [{"reward": one, "selection_reward": other} for one, other in zip(rewards, selection, strict=True)]


def test_a_reward_that_rises_while_the_selection_model_falls_is_exploited():
    (text,) = heard(*course([0.5, 1.0, 1.5, 2.0], [0.9, 1.0, 0.9, 0.8]))
    assert text.startswith("Iteration 4: the reward rose from 1.00 to 2.00")
    assert "ppo.target_kl" in text


@pytest.mark.parametrize(
    ("rewards", "selection"),
    [
        ([1.0, 1.5], [1.0, 0.5]),  # no trend yet
        ([1.0, 1.5, 2.0], [1.0, 0.95, 0.91]),  # may be chance
        ([1.0, 1.5, 2.0], [1.0, 0.5, 0.6]),  # no fall throughout
        ([2.0, 1.5, 1.0], [1.0, 0.8, 0.6]),  # both fall: PPO fails, but exploits nothing
        ([1.0, 1.5, 2.0], [1.0, 1.2, 1.4]),
    ],
)
def test_no_other_course_is_called_exploitation(rewards, selection):
    assert heard(*course(rewards, selection)) == []


def test_the_range_of_lengths_is_the_one_given():
    monitors = Monitors(START, (0.5, 2.0))
    assert monitors.observe(1, START | {"length": 39.0}) == []
    assert "0.5 to 2" in monitors.observe(2, START | {"length": 41.0})[0]


def test_a_resumed_stage_does_not_repeat_itself_and_goes_on_with_the_trend():
    evaluations = course([1.0, 1.5, 2.0], [1.0, 0.9, 0.8])
    monitors = Monitors(START)
    for number in (0, 1):
        monitors.observe(number, START | {"ended": 0.1} | evaluations[number])
    resumed = Monitors(START)
    resumed.load_state_dict(json.loads(json.dumps(monitors.state_dict())))
    (text,) = resumed.observe(2, START | {"ended": 0.1} | evaluations[2])
    assert "exploits" in text
    assert len(resumed.warnings) == 2
