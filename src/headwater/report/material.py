"""What the report is made of: reads the finished stages of a run. Whatever is missing is empty, never an error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""One line of a JSON Lines file."""

_LONGEST_LINE = 1_000_000
"""Characters; a longer line is not one of ours and is passed over."""


@dataclass(frozen=True)
class Material:
    """Everything that the page shows, already read. `series` holds metrics.jsonl per stage, one row per step."""

    run: str
    manifests: Mapping[str, Row] = field(default_factory=dict)
    series: Mapping[str, list[Row]] = field(default_factory=dict)
    expected: list[Row] = field(default_factory=list)
    dropped: list[Row] = field(default_factory=list)
    licences: list[Row] = field(default_factory=list)
    calibration: list[Row] = field(default_factory=list)
    answers: list[Row] = field(default_factory=list)

    def metrics(self, stage: str) -> Row:
        """The metrics of a stage; empty where it has not run."""
        metrics = self.manifests.get(stage, {}).get("metrics")
        return metrics if isinstance(metrics, dict) else {}

    def settings(self, stage: str) -> Row:
        """The resolved settings of a stage; empty where it has not run."""
        settings = self.manifests.get(stage, {}).get("settings")
        return settings if isinstance(settings, dict) else {}


def gather(run: str, folders: Mapping[str, Path], expected_curve: Path | None = None) -> Material:
    """Reads {stage: its finished folder}. `expected_curve`: a JSON list of {"step", "bits_per_byte"}."""
    manifests = {stage: read_json(folder / "manifest.json", {}) for stage, folder in folders.items()}
    return Material(
        run=run,
        manifests={stage: manifest for stage, manifest in manifests.items() if isinstance(manifest, dict)},
        series={stage: by_step(read_lines(folder / "metrics.jsonl")) for stage, folder in folders.items()},
        expected=_rows(read_json(expected_curve, [])) if expected_curve else [],
        dropped=read_lines(folders["corpus"] / "dropped.jsonl") if "corpus" in folders else [],
        licences=licences(folders["corpus"] / "documents.parquet") if "corpus" in folders else [],
        calibration=calibration_bins(read_json(folders["reward"] / "calibration.json", []))
        if "reward" in folders
        else [],
        answers=read_lines(folders["evaluate"] / "answers.jsonl") if "evaluate" in folders else [],
    )


def read_json(path: Path, otherwise: Any) -> Any:
    """The content of a JSON file, or `otherwise` where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return otherwise


def read_lines(path: Path) -> list[Row]:
    """The objects of a JSON Lines file; a line that does not parse (the last of a killed writer) is passed over."""
    rows: list[Row] = []
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if len(line) > _LONGEST_LINE:
                    continue
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict):
                    rows.append(row)
    except OSError:
        return []
    return rows


def by_step(rows: Iterable[Row]) -> list[Row]:
    """One row per step, in order: what was logged of one step on several lines, or again after a resume, is merged."""
    merged: dict[int, Row] = {}
    for row in rows:
        step = row.get("step")
        if isinstance(step, int):
            merged.setdefault(step, {}).update(row)
    return [merged[step] for step in sorted(merged)]


def by_iteration(rows: Iterable[Row]) -> list[Row]:
    """Rows of PPO as one per iteration, numbered by it, without those of single updates between two rollouts."""
    rows = list(rows)
    iterations = [{**row, "step": row["iteration"]} for row in rows if "iteration" in row]
    return by_step(iterations) if iterations else rows


def answer_parts(row: Row) -> Row:
    """The row with `before` and `after` as what follows the opening, which they may repeat."""
    prompt = str(row.get("prompt", ""))
    return {**row, **{key: str(row.get(key, "")).removeprefix(prompt) for key in ("before", "after")}}


def calibration_bins(content: Any) -> list[Row]:
    """Bins {"predicted", "observed", "count"} from a list of them or from {"bins": […]}."""
    bins = content.get("bins", []) if isinstance(content, dict) else content
    return [row for row in _rows(bins) if "predicted" in row and "observed" in row]


def licences(documents: Path) -> list[Row]:
    """[{"source", "licence", "documents"}] of the kept documents, counted, the largest first."""
    if not documents.is_file():
        return []
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(documents, columns=["source", "licence"])
    except (OSError, pa.ArrowException):
        return []
    counted = table.group_by(["source", "licence"]).aggregate([([], "count_all")]).to_pylist()
    rows = [{"source": row["source"], "licence": row["licence"], "documents": row["count_all"]} for row in counted]
    return sorted(rows, key=lambda row: (-row["documents"], str(row["source"])))


def evenly(rows: list[Row], number: int) -> list[Row]:
    """`number` rows spread evenly over all of them, so that nobody chose them."""
    if number <= 0 or not rows:
        return []
    if number >= len(rows):
        return list(rows)
    return [rows[index * len(rows) // number] for index in range(number)]


def per_reason(dropped: Iterable[Row], number: int = 3) -> dict[str, list[Row]]:
    """{reason: its first `number` examples}."""
    examples: dict[str, list[Row]] = {}
    for row in dropped:
        group = examples.setdefault(str(row.get("reason", "unknown")), [])
        if len(group) < number:
            group.append(row)
    return examples


def _rows(content: Any) -> list[Row]:
    return [row for row in content if isinstance(row, dict)] if isinstance(content, list) else []
