from pathlib import Path

import pytest

import rlhf_seeds

CLAIM = rlhf_seeds.CLAIMS["quickstart"]
GOOD = {
    "reward_model": 0.9,
    "bag_of_words": 0.85,
    "lexicon": 0.7,
    "kl": 8.0,
    "distinct_2_ratio": 0.9,
    "length_ratio": 1.0,
}


def summary(seconds_of_ppo=100.0, **changes):
    values = {**GOOD, **changes}
    judges = ("reward_model", "bag_of_words", "lexicon")
    return {
        "seconds": {"pretrain": 300.0, "sft": 10.0, "ppo": seconds_of_ppo, "report": 1.0},
        "reward": {"accuracy": 0.81},
        "evaluation": {
            **{name: values[name] for name in values if name not in judges},
            "perplexity_before": 60.0,
            "perplexity_after": 75.0,
            "win_rate": {judge: values[judge] for judge in judges},
            "win_rate_ci": {judge: None if values[judge] is None else [0.6, 0.95] for judge in judges},
        },
    }


@pytest.mark.parametrize(
    ("name", "edge", "beyond"),
    [
        ("reward_model", 0.85, 0.849),
        ("bag_of_words", 0.80, 0.799),
        ("lexicon", 0.65, 0.649),
        ("kl", 12.0, 12.01),
        ("distinct_2_ratio", 0.8, 0.799),
        ("length_ratio", 0.7, 0.699),
        ("length_ratio", 1.3, 1.301),
    ],
)
def test_each_target_ends_where_it_says(name, edge, beyond):
    assert all(rlhf_seeds.check({**GOOD, name: edge}, CLAIM.bounds).values())
    assert [
        missed for missed, holds in rlhf_seeds.check({**GOOD, name: beyond}, CLAIM.bounds).items() if not holds
    ] == [name]


def test_what_was_not_measured_does_not_hold():
    assert not rlhf_seeds.check({**GOOD, "kl": None}, CLAIM.bounds)["kl"]
    assert not any(rlhf_seeds.check({}, CLAIM.bounds).values())


def test_a_line_counts_only_the_seconds_after_pretraining():
    line = rlhf_seeds.line_of(summary(), CLAIM)
    assert line["values"]["seconds"] == 111.0
    assert all(line["holds"].values())


def test_the_table_shows_every_seed_what_it_missed_and_the_spread():
    lines = {1: rlhf_seeds.line_of(summary(), CLAIM), 2: rlhf_seeds.line_of(summary(lexicon=0.6, kl=10.0), CLAIM)}
    rows = rlhf_seeds.table(lines, CLAIM.bounds).splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert rows[2].startswith("| 1 | 0.900 [0.600, 0.950] |")
    assert "all hold" in rows[2]
    assert "**0.600 [0.600, 0.950]**" in rows[3]
    assert "missed: lexicon" in rows[3]
    assert rlhf_seeds.spread(list(lines.values()))["kl"] == {
        "least": 8.0,
        "mean": 9.0,
        "largest": 10.0,
        "deviation": pytest.approx(2**0.5),
    }


def test_a_judge_that_gave_nothing_leaves_a_gap():
    assert "**–**" in rlhf_seeds.table({1: rlhf_seeds.line_of(summary(lexicon=None), CLAIM)}, CLAIM.bounds)


def test_other_recipes_promise_other_things():
    claim = rlhf_seeds.claim_of(Path("recipes/smollm2-reviews.yaml"))
    line = rlhf_seeds.line_of(summary(kl=14.0, lexicon=0.79), claim)
    assert line["values"]["perplexity_ratio"] == 1.25
    assert [name for name, holds in line["holds"].items() if not holds] == ["lexicon"]
    assert line["values"]["seconds"] == 101.0
    assert rlhf_seeds.claim_of(Path("own.yaml")) is CLAIM
    assert rlhf_seeds.heading("length_ratio", claim.bounds) == "length 0.7–1.3"
    assert rlhf_seeds.heading("bag_of_words", claim.bounds) == "bag of words"
