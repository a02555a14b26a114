"""What the study `methods` says of its trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from headwater.evaluation.bradley_terry import Strength
from headwater.evaluation.seeds import Spread, over_seeds
from headwater.studies.findings import Claim, Findings, Plot, Table
from headwater.studies.methods_settings import Settings

BEST_OF_N = "best-of-n"
JUDGES = {"reward_model": "reward model", "bag_of_words": "bag of words", "lexicon": "lexicon"}
REWARDS = {"reward": "reward that is followed", "selection_reward": "selection model", "gold": "judge"}
"""Names in a curve → what they are."""
Results = Sequence[Mapping[str, Any]]


def findings(
    settings: Settings,
    results: Mapping[str, Results],
    followed: Mapping[str, Any],
    ranking: Mapping[str, Sequence[Strength]],
) -> Findings:
    """results: the trials of every method, a seed each; followed: that of PPO with a weak penalty; ranking: strengths by
    judge, of the same policies in the same order."""
    rates = {name: _over(trials, lambda one: one["win_rate"]["reward_model"]) for name, trials in results.items()}
    report = Findings(
        f"From the SFT and reward models of {settings.of}, each method trains at equal compute, counted in passes over tokens "
        f"(forward 1, forward and backward 3): {settings.compute:g} times that of the run's own PPO. Best-of-n trains nothing "
        f"and pays {settings.best_of} times at every answer. Judges and held-out prompts met no training."
    )
    for name, rate in rates.items():
        lower = rate.mean if rate.low is None else rate.low
        report.claims.append(
            Claim.at_least(f"{name} beats SFT by the judges' reward model (lower end of the interval)", lower, 0.5)
        )
    curve = followed["curve"]
    chosen = next(point for point in curve if point["step"] == followed["chosen_step"])
    last = curve[-1]
    report.claims += [
        Claim.at_least(
            "PPO with hardly a penalty: what its reward gains by going on after the chosen checkpoint",
            last["reward"] - chosen["reward"],
            0.0,
        ),
        Claim.at_most("… and what the judge gains by it", last["gold"] - chosen["gold"], 0.0),
    ]
    report.tables += [
        _comparison(results),
        *_ranking(ranking),
        _ends({"chosen by the selection model": chosen, "last": last}),
    ]
    report.plots += [
        Plot(
            "A reward that is followed too far",
            "√KL to the SFT policy (nats)",
            "mean score",
            {label: [(_root(point), point[name]) for point in curve] for name, label in REWARDS.items()},
            "Scores are deviations above the SFT policy's answers. Dotted: the checkpoint that the selection model chose.",
            mark=_root(chosen),
        ),
        Plot(
            "Selection reward on the way, first seed",
            "√KL to the SFT policy (nats)",
            "selection reward",
            {
                name: [(_root(point), point["selection_reward"]) for point in trials[0]["curve"]]
                for name, trials in results.items()
                if "curve" in trials[0]
            },
        ),
    ]
    report.figures = {
        "win_rate": {name: {"mean": rate.mean, "low": rate.low, "high": rate.high} for name, rate in rates.items()},
        "ranking": {judge: [each.metrics() for each in strengths] for judge, strengths in ranking.items()},
        "overoptimisation": {"chosen": dict(chosen), "last": dict(last)},
    }
    return report


def _comparison(results: Mapping[str, Results]) -> Table:
    rows: list[Sequence[str | float | int | None]] = []
    judges = list(next(iter(results.values()))[0]["win_rate"])  # no lexicon judges dialogues, nor what it has taught
    for name, trials in results.items():
        spreads = [_over(trials, lambda one, judge=judge: one["win_rate"][judge]) for judge in judges]
        measures = [
            _over(trials, lambda one, key=key: one[key]).mean
            for key in ("selection_reward", "kl", "distinct_2_ratio", "length_ratio")
        ]
        trained = "processor_seconds" in trials[0]
        seconds = _over(trials, lambda one: one["processor_seconds"]).mean if trained else None
        rows.append([name, *(str(spread) for spread in spreads), *measures, seconds])
    return Table(
        "Methods beside each other",
        [
            "method",
            *(f"win rate, {JUDGES.get(judge, judge)}" for judge in judges),
            "selection reward",
            "KL (nats)",
            "distinct-2 ratio",
            "length ratio",
            "processor seconds",
        ],
        rows,
        "Win rates over SFT: mean over seeds with its 95% interval (Student's t); the rest are means over seeds. The KL of "
        "best-of-n is the bound log n − (n − 1)/n. Seconds are of training, without measuring.",
    )


def _ranking(ranking: Mapping[str, Sequence[Strength]]) -> list[Table]:
    """The strongest first by the first judge; no table where no trial has scores."""
    if not ranking:
        return []
    rows = []
    for by_judge in sorted(zip(*ranking.values(), strict=True), key=lambda one: -one[0].strength):
        chance = f"{by_judge[0].chance:.3f}"
        rows.append([by_judge[0].policy, *(str(strength) for strength in by_judge), chance])
    first = next(iter(ranking))
    return [
        Table(
            "All of them ranked (Bradley–Terry)",
            [
                "method",
                *(f"strength, {JUDGES.get(judge, judge)}" for judge in ranking),
                f"chance against SFT, {JUDGES.get(first, first)}",
            ],
            rows,
            "Each answer was compared with every other to the same opening, of all seeds. Strengths are nats of odds against "
            "SFT, which has 0, with 95% intervals that draw openings anew; seeds stay as they are (their spread is above).",
        )
    ]


def _ends(points: Mapping[str, Mapping[str, float]]) -> Table:
    return Table(
        "PPO with a weak penalty: two of its checkpoints",
        ["checkpoint", "step", "√KL", *REWARDS.values()],
        [
            [name, int(point["step"]), _root(point), *(point[reward] for reward in REWARDS)]
            for name, point in points.items()
        ],
    )


def _over(trials: Results, value: Any) -> Spread:
    return over_seeds([value(one) for one in trials])


def _root(point: Mapping[str, float]) -> float:
    """A KL measured on samples may be just below 0."""
    return math.sqrt(max(0.0, point["kl"]))
