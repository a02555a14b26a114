"""Two processes train as one: the same weights, whatever the micro-batches each of them gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from two_processes import WHAT, train

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each of two processes ended with."""
    result = tmp_path_factory.mktemp("two") / "found"
    # All of this process's path, so that they run the code that is tested and not another one that is installed.
    places = os.pathsep.join(filter(None, [str(HERE.parent), *sys.path]))
    environment = os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "two_processes.py"), str(rank), "2", str(result)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return [json.loads(Path(f"{result}.{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("what", WHAT)
def test_two_processes_end_with_the_weights_of_one(both, what):
    one, other = (found[what] for found in both)
    alone = train(what)
    assert one["weights"] == other["weights"]
    for name, weight in alone["weights"].items():
        found = torch.tensor(one["weights"][name])
        torch.testing.assert_close(found, torch.tensor(weight), atol=2e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    for single, double in zip(alone["metrics"], one["metrics"], strict=True):
        assert double == pytest.approx(single, rel=1e-5)
