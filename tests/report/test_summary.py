from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from synthetic_run import METRICS, SECONDS

from headwater.report.material import Material
from headwater.report.summary import finite, summarise

PROMISED = [
    "seconds_total",
    "seconds",
    "peak_memory_mb",
    "corpus.documents_in",
    "corpus.documents_kept",
    "corpus.kept_by_source",
    "pretrain.parameters",
    "pretrain.tokens",
    "pretrain.tokens_per_second",
    "pretrain.bits_per_byte",
    "reward.accuracy",
    "reward.accuracy_all",
    "reward.accuracy_ci",
    "reward.bag_of_words",
    "reward.length_baseline",
    "reward.majority_baseline",
    "reward.rater_ceiling",
    "ppo.kl",
    "ppo.reward_before",
    "ppo.reward_after",
    "evaluation.prompts",
    "evaluation.distinct_2_ratio",
    "evaluation.length_ratio",
    "evaluation.win_rate.reward_model",
    "evaluation.win_rate.bag_of_words",
    "evaluation.win_rate.lexicon",
    "evaluation.win_rate_ci.reward_model",
    "evaluation.win_rate_ci.bag_of_words",
    "evaluation.win_rate_ci.lexicon",
    "evaluation.ties.lexicon",
    "evaluation.length_controlled_win_rate.reward_model",
    "evaluation.length_controlled_win_rate_ci.lexicon",
]


def at(summary: Any, key: str) -> Any:
    for part in key.split("."):
        summary = summary[part]
    return summary


def test_every_promised_key_is_there_and_measured(material: Material) -> None:
    summary = summarise(material.manifests)
    assert [key for key in PROMISED if at(summary, key) is None] == []
    assert at(summary, "evaluation.win_rate.lexicon") == METRICS["evaluate"]["win_rate"]["lexicon"]
    assert at(summary, "pretrain.bits_per_byte") == METRICS["pretrain"]["bits_per_byte"]
    assert at(summary, "corpus.kept_by_source") == METRICS["corpus"]["kept_by_source"]


def test_every_promised_key_is_there_without_any_stage() -> None:
    summary = summarise({})
    for key in PROMISED:
        at(summary, key)
    assert summary["seconds_total"] == 0
    assert summary["evaluation"]["win_rate"] == {"reward_model": None, "bag_of_words": None, "lexicon": None}


def test_seconds_add_up_and_memory_is_the_largest(material: Material) -> None:
    summary = summarise(material.manifests)
    assert summary["seconds"] == SECONDS
    assert math.isclose(summary["seconds_total"], sum(SECONDS.values()), abs_tol=0.01)
    assert summary["peak_memory_mb"] == 400 + 150 * (len(SECONDS) - 1)


def test_asking_again_changes_nothing(material: Material) -> None:
    assert summarise(material.manifests) == summarise(json.loads(json.dumps(dict(material.manifests))))


def test_texts_stay_out(material: Material) -> None:
    assert "samples" not in summarise(material.manifests)["pretrain"]


def test_what_json_cannot_hold_becomes_null() -> None:
    summary = summarise({"ppo": {"metrics": {"kl": math.nan, "curve": [1.0, math.inf]}, "seconds": math.nan}})
    assert summary["ppo"]["kl"] is None
    assert summary["ppo"]["curve"] == [1.0, None]
    assert summary["seconds_total"] == 0
    json.dumps(summary, allow_nan=False)


@given(
    st.recursive(st.none() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_finite_is_always_json(value: Any) -> None:
    json.dumps(finite(value), allow_nan=False)
