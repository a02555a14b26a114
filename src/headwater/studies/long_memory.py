"""Memory and time of one training step on a long row, measured in a process of its own.

A process's peak is of its whole life, so a step is measured where nothing else has been done:
`python -m headwater.studies.long_memory`, a job as JSON on the standard input, figures as JSON on the standard output.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

from headwater.errors import UserError
from headwater.models.config import TransformerConfig
from headwater.models.model import Model
from headwater.models.transformer import Stack
from headwater.objectives.causal import CausalLM
from headwater.studies.training import Generated
from headwater.training.batch import Batch, Row, collate
from headwater.training.engine import Engine
from headwater.training.learner import Learner
from headwater.training.machine import keep_freed_memory
from headwater.training.settings import OptimiserSettings, ScheduleSettings

_WARM_UP = 32
"""Tokens of a first step, after which gradients, optimiser and threads have their memory."""
FIGURES = ("before_mb", "peak_mb", "seconds", "processor_seconds")
KILLED = -9
"""What a process returns that the system killed, which it does when memory is out."""


def measure_step(
    config: TransformerConfig, length: int, precision: str, checkpointing: bool, threads: int, keep_freed: bool = True
) -> dict[str, Any]:
    """One step, forward, backward and AdamW, of a row of `length` tokens in a new process.

    keep_freed: the process keeps freed memory for its next requests, as it does in training; blocks of many sizes then fit
    into each other worse the longer the row is, and 16,384 tokens need a quarter more.

    Gives `parameters`; `before_mb`, resident memory when weights, gradients and moments are there; `peak_mb`, the largest
    resident memory; `seconds`, and `processor_seconds`, which other programs disturb less. 1 MB is 10⁶ bytes. All but the
    parameters are None where the system killed the process. Raises UserError where it failed otherwise.
    """
    job = {
        "config": asdict(config),
        "length": length,
        "precision": precision,
        "checkpointing": checkpointing,
        "threads": threads,
        "keep_freed": keep_freed,
    }
    result = subprocess.run(
        [sys.executable, "-m", "headwater.studies.long_memory"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode == KILLED:
        with torch.device("meta"):
            parameters = Model(config).parameter_count()
        return {"parameters": parameters} | dict.fromkeys(FIGURES)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"A training step of {length:,} tokens failed in its process: {last}")
    return json.loads(result.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def step(
    config: TransformerConfig, length: int, precision: str, checkpointing: bool, threads: int, keep_freed: bool = True
) -> dict[str, Any]:
    """What `measure_step` measures, in this process."""
    torch.set_num_threads(threads)
    if keep_freed:
        keep_freed_memory()
    model = Model(config).initialise(1)
    cast(Stack, model.backbone).checkpointing = checkpointing
    learner = Learner(model, OptimiserSettings(), ScheduleSettings(), precision)
    engine = Engine({"model": learner}, Generated(lambda _: [], 0), CausalLM())
    engine.train_step([_batch(config.vocabulary, min(_WARM_UP, length))])
    before, batch = resident_mb(), _batch(config.vocabulary, length)
    began, busy = time.perf_counter(), time.process_time()
    engine.train_step([batch])
    return {
        "parameters": model.parameter_count(),
        "before_mb": before,
        "peak_mb": peak_mb(),
        "seconds": time.perf_counter() - began,
        "processor_seconds": time.process_time() - busy,
    }


def _batch(vocabulary: int, length: int) -> Batch:
    ids = torch.randint(vocabulary, (length + 1,), generator=torch.Generator().manual_seed(length))
    return collate([Row(ids[:-1], {"targets": ids[1:].clone()})])


def resident_mb() -> float:
    """Resident memory of this process now, in MB (10⁶ bytes)."""
    import psutil

    return float(psutil.Process().memory_info().rss / 1e6)


def peak_mb() -> float:
    """The largest resident memory that this process had, in MB (10⁶ bytes).

    On Linux `ru_maxrss` of a new process begins with what its parent had; VmHWM is its own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    """A job from the standard input, its figures to the standard output."""
    job = json.load(sys.stdin)
    config = TransformerConfig(**job.pop("config"))
    print(json.dumps(step(config, **job)))


if __name__ == "__main__":
    main()
