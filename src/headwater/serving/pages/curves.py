"""The curves of a run: which there are, and what a growing metrics.jsonl says of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.report.plots import number

_AT_ONCE = 4_000_000
"""Bytes of a file that are read for one request."""


@dataclass(frozen=True)
class Chart:
    """A chart: its words are `runs.chart_NAME`; each line is a key of metrics.jsonl.

    faint: the first line is noisy, and is drawn with its running mean.
    """

    name: str
    lines: tuple[str, ...]
    faint: bool = False


CHARTS: dict[str, tuple[Chart, ...]] = {
    "pretrain": (Chart("loss", ("loss",), faint=True), Chart("bits", ("bits_per_byte",))),
    "sft": (Chart("loss", ("loss",), faint=True),),
    "reward": (Chart("loss", ("loss",), faint=True), Chart("accuracy", ("accuracy",), faint=True)),
    "ppo": (
        Chart("reward", ("reward", "heldout_reward")),
        Chart("kl", ("kl", "heldout_kl")),
        Chart("length", ("length", "heldout_length")),
        Chart("ended", ("ended", "heldout_ended")),
        Chart("entropy", ("entropy",)),
        Chart("explained", ("value_explained_variance",)),
    ),
}
"""{stage: its charts}."""


def read_from(path: Path, after: int, stage: str) -> dict[str, Any]:
    """The whole lines from byte `after` on: {"rows", "next", "again"}.

    rows   {"step", and the keys of the stage's charts}; PPO's by iteration
    next   where to go on from
    again  the file is shorter than it was (a resumed stage drops lines): what was read before no longer counts
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            again = size < after
            file.seek(0 if again else after)
            content = file.read(_AT_ONCE)
    except OSError:
        return {"rows": [], "next": 0, "again": after > 0}
    whole = content[: content.rfind(b"\n") + 1]
    keys = {key for chart in CHARTS[stage] for key in chart.lines}
    rows = [row for line in whole.split(b"\n") if (row := _row(line, keys, stage)) is not None]
    return {"rows": rows, "next": (0 if again else after) + len(whole), "again": again}


def _row(line: bytes, keys: set[str], stage: str) -> dict[str, float] | None:
    """The finite numbers of a line that are drawn; None where there are none."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    step = number(content.get("iteration" if stage == "ppo" else "step")) if isinstance(content, dict) else None
    if step is None:
        return None
    found = {key: value for key in keys if (value := number(content.get(key))) is not None}
    return {"step": step, **found} if found else None
