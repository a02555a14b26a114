from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from synthetic_run import METRICS, write_run

from headwater.report.material import (
    Material,
    answer_parts,
    by_iteration,
    by_step,
    calibration_bins,
    evenly,
    gather,
    licences,
    per_reason,
    read_json,
    read_lines,
)


def test_a_whole_run_is_read(material: Material) -> None:
    assert list(material.manifests) == list(METRICS)
    assert len(material.series["pretrain"]) == 400
    assert material.series["pretrain"][-1]["tokens"] == 1_600_000
    assert "bits_per_byte" in material.series["pretrain"][-1], "the evaluation's line is merged into its step's"
    assert len(material.calibration) == 10
    assert len(material.answers) == 40
    assert [row["documents"] for row in material.licences] == [9, 5, 1]
    assert material.licences[0]["licence"] == "CC BY-SA 4.0"


def test_missing_files_are_empty(tmp_path: Path) -> None:
    folders = write_run(tmp_path / "run", ["corpus", "reward", "evaluate"], expected=False)
    for folder in folders.values():
        for file in folder.iterdir():
            file.unlink()
    material = gather("run", folders, tmp_path / "no-curve.json")
    assert not any([material.dropped, material.licences, material.calibration, material.answers, material.expected])
    assert material.metrics("corpus") == {}


def test_damaged_parquet_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "documents.parquet"
    path.write_bytes(b"PAR1 not really")
    assert licences(path) == []


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n[2]\n\xff\xfe\n{"step": 3}\n{"step": 4, "lo')
    assert read_lines(path) == [{"step": 1}, {"step": 3}]


@given(content=st.binary(max_size=300))
def test_no_content_is_an_error(content: bytes, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(content)
    assert all(isinstance(row, dict) for row in read_lines(path))
    read_json(path, None)


def test_a_step_logged_again_after_a_resume_counts_once() -> None:
    rows = [{"step": 2, "loss": 1.0, "kl": 5}, {"step": 1, "loss": 3.0}, {"step": 2, "loss": 1.5}, {"loss": 9.0}]
    assert by_step(rows) == [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 1.5, "kl": 5}]


def test_ppo_is_shown_by_iteration() -> None:
    rows = [{"step": 8, "entropy": 9.0}, {"step": 16, "iteration": 1, "entropy": 3.0}, {"step": 24, "entropy": 9.0}]
    assert by_iteration(rows) == [{"step": 1, "iteration": 1, "entropy": 3.0}]
    assert by_iteration(rows[:1]) == rows[:1], "without iterations every row counts"


def test_an_opening_is_not_shown_twice() -> None:
    row = answer_parts({"prompt": "I was", "before": "I was here.", "after": " not", "before_ended": True})
    assert row == {"prompt": "I was", "before": " here.", "after": " not", "before_ended": True}
    assert answer_parts({})["after"] == ""


def test_calibration_may_be_a_list_or_an_object() -> None:
    bins = [{"predicted": 0.1, "observed": 0.2}]
    assert calibration_bins(bins) == calibration_bins({"bins": bins, "error": 0.1}) == bins
    assert calibration_bins({"bins": [{"predicted": 1}, 3]}) == []
    assert calibration_bins(None) == []


@given(st.integers(0, 60), st.integers(0, 60))
def test_evenly_takes_so_many_different_rows_in_order(available: int, wanted: int) -> None:
    rows = [{"index": index} for index in range(available)]
    taken = [row["index"] for row in evenly(rows, wanted)]
    assert len(taken) == min(available, wanted)
    assert taken == sorted(set(taken))


def test_evenly_reaches_over_all() -> None:
    assert [row["index"] for row in evenly([{"index": i} for i in range(100)], 4)] == [0, 25, 50, 75]


def test_examples_are_limited_per_reason() -> None:
    rows = [{"reason": "a", "n": n} for n in range(5)] + [{"reason": "b", "n": 0}, {"n": 1}]
    assert {reason: len(found) for reason, found in per_reason(rows, 2).items()} == {"a": 2, "b": 1, "unknown": 1}


def test_json_that_is_none_gives_the_default(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{")
    assert read_json(path, 7) == 7
    path.write_text(json.dumps([1]))
    assert read_json(path, 7) == [1]
