"""The benchmark of packing, on dialogues made here."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

import pytest

import packing_speed
from dialogues import comparisons, lines, spoken
from headwater.errors import UserError

TINY = {
    "layers": 1, "width": 16, "heads": 1, "context": 96, "vocabulary": 300, "examples": 6, "updates": 2, "rounds": 1,
    "precision": "fp32", "threads": 1,
}  # fmt: skip


def test_the_chosen_dialogues_of_comparisons_are_learnt(tmp_path: Path) -> None:
    records = [
        {"chosen": spoken("Hello", "Good"), "rejected": spoken("Hello", "Bad")},
        {"chosen": spoken("Hi", "Yes?", "Tell me", "Fine"), "rejected": spoken("Hi", "Yes?", "Tell me", "No")},
    ]
    found = packing_speed.dialogues_of(lines(tmp_path / "hh.jsonl", records))
    assert [[turn.content for turn in turns] for turns in found] == [
        ["Hello", "Good"],
        ["Hi", "Yes?", "Tell me", "Fine"],
    ]


def test_ratios_are_of_what_packing_spares() -> None:
    tokens, seconds = {"real": 90, "apart": 120, "packed": 100}, {"apart": 3.0, "packed": 2.0}
    expected = {"ratio_tokens": 1.2, "ratio_to_apart": 1.5}
    assert packing_speed.result_of(tokens, seconds) == pytest.approx(expected)


def test_a_whole_measurement(tmp_path: Path) -> None:
    result = packing_speed.measure(Namespace(file=lines(tmp_path / "hh.jsonl", comparisons()), **TINY))
    assert result["tokens"]["real"] <= result["tokens"]["packed"] < 2 * result["tokens"]["real"]
    assert set(result["seconds_per_update"]) == {"apart", "packed"}


def test_too_few_dialogues_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lower --updates"):
        packing_speed.measure(Namespace(file=lines(tmp_path / "hh.jsonl", comparisons()), **TINY | {"updates": 99}))


def test_packing_spares_tokens_of_published_dialogues() -> None:
    folder = Path(os.environ.get("HEADWATER_DATA", "data")) / "hh-rlhf"
    files = sorted(folder.glob("*.jsonl.gz")) if folder.is_dir() else []
    if not files:
        pytest.skip(f"{folder} is not there: set HEADWATER_DATA to the folder that holds hh-rlhf")
    tokens = packing_speed.measure(Namespace(file=files[0], **TINY | {"context": 512, "examples": 32}))["tokens"]
    assert tokens["real"] <= tokens["packed"] < 0.95 * tokens["apart"]
