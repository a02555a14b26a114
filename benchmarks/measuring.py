"""What the speed benchmarks share: ways of doing one thing, taken in turns, and a file with what came out.

Speeds of one machine differ by a fifth from minute to minute. So the ways take turns (A B A B …), and medians of the
same minutes are compared; no figure of another run, or of another machine, is.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def take_turns(ways: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of each way in each round: {way: [rounds]}. `warm_up` rounds before are done but not timed."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-warm_up, rounds):
        for name, way in ways.items():
            gc.collect()
            began = time.perf_counter()
            way()
            took = time.perf_counter() - began
            if number >= 0:
                seconds[name].append(took)
        show(f"warm-up {number + warm_up + 1} of {warm_up}" if number < 0 else f"round {number + 1} of {rounds}")
    return seconds


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each way."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def show(text: str) -> None:
    """News goes to standard error: standard output holds the result."""
    print(text, file=sys.stderr, flush=True)


def write_json(path: Path | None, result: Mapping[str, Any]) -> None:
    """Writes the result with what it was measured on, where a file is wanted."""
    if path is None:
        return
    from headwater.manifest import code_version, machine, plain

    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**plain(result), "machine": machine(), "code_version": code_version()}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
