"""Two processes train as one: the same weights, whatever the micro-batches each of them gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def run(what: str, optimiser: str, result: Path, ranks: int) -> list[dict]:
    """What each of `ranks` processes ended with."""
    base = os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    base.pop("RANK", None)
    command = [sys.executable, str(HERE / "two_processes.py"), what, optimiser, str(result)]
    places = [{"RANK": str(rank), "WORLD_SIZE": str(ranks)} for rank in range(ranks)] if ranks > 1 else [{}]
    processes = [
        subprocess.Popen(command, env=base | place, stderr=subprocess.PIPE, text=True) for place in places
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return [json.loads(Path(f"{result}.{rank}.json").read_text()) for rank in range(ranks)]


@pytest.mark.parametrize(("what", "optimiser"), [("causal", "sgd"), ("ppo", "adamw")])
def test_two_processes_end_with_the_weights_of_one(what, optimiser, tmp_path):
    (alone,) = run(what, optimiser, tmp_path / "alone", ranks=1)
    both = run(what, optimiser, tmp_path / "both", ranks=2)
    assert both[0]["weights"] == both[1]["weights"]
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(
            torch.tensor(both[0]["weights"][name]), torch.tensor(weight), atol=2e-6, rtol=1e-5, msg=name
        )
    for single, double in zip(alone["metrics"], both[0]["metrics"], strict=True):
        assert double == pytest.approx(single, rel=1e-5)
