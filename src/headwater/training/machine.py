"""What was chosen for this machine: threads and precision. Chosen once per stage, recorded, and kept on resume."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from headwater.cores import let_a_single_thread_move, usable_cores
from headwater.recipe import Precision
from headwater.storage import write_atomically
from headwater.training.precision import choose_precision


def prepare(folder: Path, threads: int | None, wanted: Precision = "fp32") -> str:
    """Sets the threads and returns the precision; a stage that goes on finds what it chose before in machine.json.

    Thread count and precision change the last bits of sums, so a resume must not choose anew.
    """
    path = folder / "machine.json"
    if path.exists():
        chosen = json.loads(path.read_text(encoding="utf-8"))
    else:
        chosen = {"threads": threads or usable_cores(), "precision": choose_precision(wanted)}
        write_atomically(path, json.dumps(chosen) + "\n")
    torch.set_num_threads(chosen["threads"])
    if chosen["threads"] == 1:
        let_a_single_thread_move()
    return str(chosen["precision"])
