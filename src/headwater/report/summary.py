"""The numbers of a run in one JSON file, gathered from the manifests of its stages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Manifest = Mapping[str, Any]
"""What a finished stage wrote down: {stage, settings, seed, parents, metrics, seconds, peak_memory_mb, …}."""

PER_JUDGE = ("win_rate", "win_rate_ci", "ties", "length_controlled_win_rate", "length_controlled_win_rate_ci")
"""What the evaluation measures, {judge: value}."""

SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "corpus": ("corpus", ("documents_in", "documents_kept", "kept_by_source", "dropped", "quarantined")),
    "tokenizer": ("tokenizer", ("vocabulary", "bytes_per_token", "tokens_train", "tokens_heldout")),
    "pretrain": ("pretrain", ("parameters", "tokens", "tokens_per_second", "bits_per_byte")),
    "sft": ("sft", ("examples", "heldout_bits_per_byte_before", "heldout_bits_per_byte")),
    "feedback": (
        "feedback",
        ("labelled", "judgements", "sentences", "rankings", "krippendorff_alpha", "krippendorff_alpha_ci"),
    ),
    "reward": (
        "reward",
        (
            "accuracy_source",
            "accuracy",
            "accuracy_ci",
            "accuracy_all",
            "bag_of_words",
            "length_baseline",
            "majority_baseline",
            "rater_ceiling",
            "length_correlation",
            "ece",
            "gain",
            "bias",
            "spread_heldout",
            "spread_sft",
        ),
    ),
    "ppo": ("ppo", ("kl", "reward_before", "reward_after", "chosen_step", "warnings")),
    "evaluation": (
        "evaluate",
        (
            "prompts",
            *PER_JUDGE,
            "kl",
            "distinct_2_ratio",
            "length_ratio",
        ),
    ),
}
"""{section of the summary: (stage that measures it, keys that are always there)}."""

JUDGES = ("reward_model", "bag_of_words", "lexicon")
"""The judges of the evaluation, none of which PPO saw."""

_TOO_LONG = {"samples"}
"""Metrics that are texts, for the page rather than for a table."""


def summarise(manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    """{stage: manifest} → the content of `summary.json`; JSON-able, and the same whenever it is asked again.

    Every key of `SECTIONS` is present; what was not measured, or is not a finite number, is null. Times are the
    manifests' own (`seconds`, over all attempts of a stage), so nothing that happens after a stage finished can change
    them.
    """
    seconds = {stage: round(_number(manifest.get("seconds")), 2) for stage, manifest in manifests.items()}
    memory = [_number(manifest.get("peak_memory_mb")) for manifest in manifests.values()]
    sections = {section: _section(manifests.get(stage, {}), keys) for section, (stage, keys) in SECTIONS.items()}
    for name in PER_JUDGE:
        measured = sections["evaluation"][name] or {}
        sections["evaluation"][name] = {**dict.fromkeys(JUDGES), **measured}
    return {
        "seconds_total": round(sum(seconds.values()), 2),
        "seconds": seconds,
        "peak_memory_mb": round(max(memory, default=0.0), 1),
        **sections,
    }


def _section(manifest: Manifest, keys: tuple[str, ...]) -> dict[str, Any]:
    metrics = {key: value for key, value in (manifest.get("metrics") or {}).items() if key not in _TOO_LONG}
    measured: dict[str, Any] = finite({**dict.fromkeys(keys), **metrics})
    return measured


def finite(value: Any) -> Any:
    """`value` with every number that JSON cannot hold (NaN, ±∞) replaced by None, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def _number(value: Any) -> float:
    """A finite number, or 0 for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
