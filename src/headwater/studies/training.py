"""What studies share: train this model on that source for so many steps, and measure how long a step takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headwater.models.model import Model
from headwater.training import checkpoint
from headwater.training.averaging import Average
from headwater.training.batch import Batch
from headwater.training.engine import Engine, Objective
from headwater.training.learner import Learner
from headwater.training.log import read_metrics
from headwater.training.settings import OptimiserSettings, ScheduleSettings
from headwater.training.source import Counted

Make = Callable[[int], list[Batch]]
"""Step, from 0 → the micro-batches of its update; a function of the step alone."""
AfterStep = Callable[[int, dict[str, float]], dict[str, Any]]


class Generated(Counted):
    """Updates that are made when they are asked for, so that the step is all the source's state."""

    def __init__(self, make: Make, steps: int) -> None:
        super().__init__(steps)
        self.make = make

    def take(self) -> list[Batch] | None:
        if self.step >= self.steps:
            return None
        self.step += 1
        return self.make(self.step - 1)


def train(
    model: Model,
    objective: Objective,
    make: Make,
    steps: int,
    folder: Path,
    optimiser: OptimiserSettings,
    schedule: ScheduleSettings,
    precision: str = "fp32",
    average: Average | None = None,
    after_step: AfterStep | None = None,
) -> list[dict[str, Any]]:
    """Trains `model` in place → the lines of its metrics, one per step. With an `average` its weights are those in the end.

    after_step: called with (step, metrics); what it returns is added to the step's line.
    After Ctrl-C the same call goes on from the checkpoint in `folder`.
    """
    learner = Learner(model, optimiser, schedule, precision, average)
    source = Generated(make, steps)
    engine = Engine({"model": learner}, source, objective, folder=folder, label=folder.name, after_step=after_step)
    engine.resume()
    engine.fit()
    learner.release()
    checkpoint.drop(folder)
    return read_metrics(folder / "metrics.jsonl")


def seconds_per_step(
    model: Model, objective: Objective, make: Make, optimiser: OptimiserSettings, steps: int = 6
) -> float:
    """Time of a training step; the model is changed. The fastest of several: noise of the machine only slows down."""
    engine = Engine({"model": Learner(model, optimiser, ScheduleSettings())}, Generated(make, steps), objective)
    return fastest(lambda step: engine.train_step(make(step)), steps)


def fastest(work: Callable[[int], object], times: int) -> float:
    """Seconds of the fastest of `times` calls `work(0)`, `work(1)` …, after one that does not count."""
    work(0)
    durations = []
    for index in range(times):
        began = time.perf_counter()
        work(index)
        durations.append(time.perf_counter() - began)
    return min(durations)
