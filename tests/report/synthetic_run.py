"""A run folder with made-up numbers and texts, so that the report can be tested without training anything."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HOSTILE = "<script>alert('x')</script> & \"quoted\" </style><img src=x onerror=alert(1)> $\\frac{a}{b}$ \u202eback\x07"

METRICS: dict[str, dict[str, Any]] = {
    "samples": {"files": 5},
    "corpus": {
        "documents_in": 17190,
        "documents_kept": 15876,
        "kept_by_source": {"wikipedia-leads": 9012, "film-reviews": 5102, "shop-reviews": 1762},
        "dropped": {
            "exact_duplicate": 512,
            "near_duplicate": 344,
            "too_few_words": 290,
            "not_a_kept_language": 101,
            HOSTILE: 67,
        },
        "quarantined": 3,
    },
    "tokenizer": {
        "vocabulary": 4096,
        "bytes_per_token": {"wikipedia-leads": 3.71, "film-reviews": 3.32, "zh": 2.1},
        "tokens_train": 1630211,
        "tokens_heldout": 50120,
    },
    "pretrain": {
        "parameters": 4212345,
        "tokens": 1600000,
        "tokens_per_second": 9034.2,
        "bits_per_byte": 1.7312,
        "samples": ["The river is"],
    },
    "sft": {"examples": 6731, "heldout_bits_per_byte_before": 2.412, "heldout_bits_per_byte": 1.961},
    "feedback": {
        "judgements": 214680,
        "sentences": 14312,
        "rankings": 3402,
        "krippendorff_alpha": 0.671,
        "krippendorff_alpha_ci": [0.664, 0.679],
    },
    "reward": {
        "accuracy": 0.853,
        "accuracy_ci": [0.838, 0.868],
        "accuracy_all": 0.741,
        "bag_of_words": 0.845,
        "length_baseline": 0.521,
        "majority_baseline": 0.5,
        "rater_ceiling": 0.991,
        "length_correlation": -0.04,
        "ece": 0.031,
        "gain": 0.91,
        "bias": -0.2,
    },
    "ppo": {"kl": 6.4, "reward_before": 0.01, "reward_after": 1.62, "chosen_step": 50},
    "evaluate": {
        "prompts": 600,
        "win_rate": {"reward_model": 0.912, "bag_of_words": 0.861, "lexicon": 0.704},
        "win_rate_ci": {"reward_model": [0.889, 0.934], "bag_of_words": [0.833, 0.888], "lexicon": [0.671, 0.738]},
        "ties": {"reward_model": 0.0, "bag_of_words": 0.018, "lexicon": 0.137},
        "length_controlled_win_rate": {"reward_model": 0.904, "bag_of_words": 0.855, "lexicon": 0.692},
        "length_controlled_win_rate_ci": {
            "reward_model": [0.88, 0.927],
            "bag_of_words": [0.826, 0.884],
            "lexicon": [0.655, 0.729],
        },
        "kl": 6.41,
        "distinct_2_ratio": 0.87,
        "distinct_2_before": 0.641,
        "distinct_2_after": 0.558,
        "length_ratio": 0.93,
        "length_before": 21.4,
        "length_after": 19.9,
        "ended_before": 0.941,
        "ended_after": 0.978,
        "bits_per_byte_before": 1.912,
        "bits_per_byte_after": 2.04,
        "calibration_error_before": 0.021,
        "calibration_error_after": 0.034,
        "perplexity_before": 61.4,
        "perplexity_after": 55.2,
    },
}

SECONDS = {
    "samples": 6.2,
    "corpus": 21.9,
    "tokenizer": 9.4,
    "pretrain": 301.0,
    "sft": 31.2,
    "feedback": 12.5,
    "reward": 62.5,
    "ppo": 181.7,
    "evaluate": 33.1,
}


def write_run(folder: Path, stages: Iterable[str] = tuple(METRICS), expected: bool = True) -> dict[str, Path]:
    """Writes the stages into `folder`; returns {stage: folder}."""
    folders = {stage: folder / stage for stage in stages}
    earlier: dict[str, str] = {}
    for number, (stage, place) in enumerate(folders.items()):
        place.mkdir(parents=True)
        content_hash = hashlib.sha256(stage.encode()).hexdigest()
        manifest = {
            "stage": stage,
            "settings": {"target_kl": 6.0, "adaptive": True, "note": HOSTILE} if stage == "ppo" else {"seed": None},
            "seed": 1,
            "code_version": "0.1.0",
            "parents": dict(list(earlier.items())[-2:]),
            "checksums": {},
            "content_hash": content_hash,
            "metrics": METRICS[stage],
            "seconds": SECONDS[stage],
            "peak_memory_mb": 400.0 + 150 * number,
            "attempts": 2 if stage == "ppo" else 1,
            "finished": f"2026-05-01T10:{number:02d}:00+00:00",
            "machine": {"system": "Linux", "cores": 2, "memory_mb": 8123, "python": "3.11.2", "torch": "2.13.0"},
        }
        earlier[stage] = content_hash
        (place / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    _write_series(folders)
    if "corpus" in folders:
        _write_corpus(folders["corpus"])
    if "reward" in folders:
        bins = [
            {"low": i / 10, "high": (i + 1) / 10, "count": 100, "predicted": i / 10 + 0.05, "observed": 0.1 + 0.08 * i}
            for i in range(10)
        ]
        (folders["reward"] / "calibration.json").write_text(
            json.dumps({"bins": bins, "error": 0.031}), encoding="utf-8"
        )
    if "evaluate" in folders:
        _write_lines(folders["evaluate"] / "answers.jsonl", _answers())
    if expected:
        curve = [{"step": step, "bits_per_byte": 1.7 + 2.2 * math.exp(-step / 90)} for step in range(50, 401, 50)]
        (folder / "expected.json").write_text(json.dumps(curve), encoding="utf-8")
    return folders


def _write_series(folders: dict[str, Path]) -> None:
    noise = random.Random(7)
    pretrain = []
    for step in range(1, 401):
        row: dict[str, Any] = {
            "step": step,
            "tokens": step * 4000,
            "loss": 3.9 + 4 * math.exp(-step / 70) + noise.gauss(0, 0.08),
        }
        pretrain.append(row)
        if step % 50 == 0:  # on a line of its own, as a hook may write it
            pretrain.append(
                {
                    "step": step,
                    "bits_per_byte": 1.73 + 2.1 * math.exp(-step / 85),
                    "sample": f"The river is a river of {HOSTILE if step == 400 else 'the river and the'}.",
                }
            )
    sft = [{"step": step, "loss": 3.4 + math.exp(-step / 20) + noise.gauss(0, 0.05)} for step in range(1, 120)]
    ppo = []
    for step in range(1, 61):
        progress = 1 - math.exp(-step / 20)
        row = {
            "step": 16 * step,
            "iteration": step,
            "reward": 1.7 * progress + noise.gauss(0, 0.08),
            "reward_total": progress,
            "kl": 6.4 * progress + noise.gauss(0, 0.2),
            "beta": 0.1 + 0.02 * math.sin(step / 9),
            "entropy": 3.6 - 0.7 * progress,
            "length": 21 - 1.6 * progress + noise.gauss(0, 0.5),
            "ended": 0.94 + 0.03 * progress,
            "clip_fraction": 0.02 + noise.random() * 0.01,
            "approx_kl": 0.004,
            "value_explained_variance": 0.7 * progress,
        }
        if step % 10 == 0:
            row |= {
                "heldout_reward": 1.65 * progress,
                "heldout_selection_reward": 1.4 * progress - 0.15 * max(0, step - 50) / 10,
                "heldout_kl": 6.4 * progress,
                "heldout_length": 20.0,
                "heldout_ended": 0.96,
            }
        ppo += [{"step": 16 * step - 8, "entropy": 99.0}, row]
    for stage, rows in {"pretrain": pretrain, "sft": sft, "ppo": ppo}.items():
        if stage in folders:
            _write_lines(folders[stage] / "metrics.jsonl", rows)


def _write_corpus(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sources = ["wikipedia-leads"] * 9 + ["film-reviews"] * 5 + [HOSTILE]
    table = pa.table(
        {"id": [str(i) for i in range(15)], "source": sources, "licence": ["CC BY-SA 4.0"] * 9 + ["MIT"] * 6}
    )
    pq.write_table(table, folder / "documents.parquet")
    dropped = [
        {"reason": reason, "note": "", "id": f"{reason}-{i}", "source": "film-reviews", "text": text}
        for reason in ("exact_duplicate", "too_few_words", "not_a_kept_language")
        for i, text in enumerate(
            [
                "Bad.",
                "A film about a man who walks a very long way for no reason at all.",
                HOSTILE,
                "not shown: the fourth",
            ]
        )
    ]
    _write_lines(folder / "dropped.jsonl", dropped)


def _answers() -> list[dict[str, Any]]:
    prompts = ["The acting is", "I was", "A slow", "这部电影", "With its", "Nothing in this"]
    rows = []
    for i in range(40):
        prompt = prompts[i % len(prompts)]
        before = HOSTILE if i == 0 else f" a bit of a mess and it never knows what it wants to be, number {i}."
        after = f" a warm and funny piece of work that you will remember, number {i}."
        endings = {"before_ended": i % 4 != 0, "after_ended": True}
        rows.append({"prompt": prompt, "before": prompt + before, "after": prompt + after, **endings})
    return rows


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
