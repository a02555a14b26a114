"""Checks that a run's summary.json has every figure that a reader may rely on, as a number where it must be one."""

import json
import sys
from typing import Any

NUMBERS = [
    *("seconds_total", "peak_memory_mb", "corpus.documents_in", "corpus.documents_kept"),
    *(f"pretrain.{key}" for key in ("parameters", "tokens", "tokens_per_second", "bits_per_byte")),
    *(f"reward.{key}" for key in ("accuracy", "accuracy_all", "bag_of_words", "length_baseline", "rater_ceiling")),
    *("ppo.kl", "ppo.reward_before", "ppo.reward_after", "evaluation.prompts"),
    *(f"evaluation.win_rate.{judge}" for judge in ("reward_model", "bag_of_words", "lexicon")),
    *("evaluation.distinct_2_ratio", "evaluation.length_ratio"),
]
INTERVALS = [
    "reward.accuracy_ci",
    *(f"evaluation.win_rate_ci.{judge}" for judge in ("reward_model", "bag_of_words", "lexicon")),
]
TABLES = ["seconds", "corpus.kept_by_source"]


def at(summary: Any, name: str) -> Any:
    for key in name.split("."):
        summary = summary.get(key) if isinstance(summary, dict) else None
    return summary


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def missing(summary: Any) -> list[str]:
    found = [name for name in NUMBERS if not is_number(at(summary, name))]
    for name in INTERVALS:
        value = at(summary, name)
        if not (isinstance(value, list) and len(value) == 2 and all(map(is_number, value)) and value[0] <= value[1]):
            found.append(name)
    for name in TABLES:
        value = at(summary, name)
        if not (isinstance(value, dict) and value and all(map(is_number, value.values()))):
            found.append(name)
    return found


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        if names := missing(json.load(file)):
            sys.exit(f"{sys.argv[1]} lacks: {', '.join(names)}")
