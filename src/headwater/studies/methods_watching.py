"""A policy in training, measured at even distances; in the end it has its best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headwater.models.model import Model
from headwater.rlhf.selection import BestPolicy, Yardstick
from headwater.studies.methods_basis import Basis
from headwater.studies.methods_training import Training
from headwater.training import checkpoint
from headwater.training.engine import Engine
from headwater.training.source import Source


class Watching:
    """Measures a policy in training at even distances, offers it to `best`, and counts processor seconds: the engine's hook."""

    def __init__(self, policy: Model, source: Source, yardstick: Yardstick, best: BestPolicy, times: int) -> None:
        self.policy, self.source, self.yardstick, self.best, self.times = policy, source, yardstick, best, times
        self.curve: list[dict[str, float]] = []
        self.due = 1
        self.seconds = 0.0
        """Of the policy's training, without measuring."""
        self.since = time.process_time()

    def __call__(self, step: int, _metrics: dict[str, float]) -> dict[str, Any]:
        progress = self.source.progress()
        if not self.source.at_boundary() or progress * self.times < self.due - 1e-9:
            return {}
        self.pause()
        self.due = math.floor(progress * self.times + 1e-9) + 1
        found = self.yardstick.measure(self.policy)
        self.best.offer(step, score=found["selection_reward"], kl=found["kl"], length=found["length"])
        self.curve.append({"step": step} | found)
        self.since = time.process_time()
        return {f"heldout_{name}": value for name, value in found.items()}

    def pause(self) -> None:
        """Adds what was used since the last measurement."""
        now = time.process_time()
        self.seconds, self.since = self.seconds + now - self.since, now

    def state_dict(self) -> dict[str, Any]:
        self.pause()
        return {"curve": list(self.curve), "due": self.due, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.curve, self.due, self.seconds = list(state["curve"]), state["due"], state["seconds"]
        self.since = time.process_time()


def follow(
    basis: Basis,
    policy: Model,
    make: Callable[[], Training],
    folder: Path,
    times: int,
    kl_limit: float,
    length_range: tuple[float, float],
) -> Watching:
    """Trains the policy, which has its best weights in the end. After Ctrl-C the same call goes on from `folder`."""
    before = basis.yardstick.measure(policy)
    began = time.process_time()
    training = make()
    (trained,) = (one for one in training.learners.values() if one.module is policy)
    best = BestPolicy(trained.masters, before["selection_reward"], kl_limit, before["length"], length_range)
    watching = Watching(policy, training.source, basis.yardstick, best, times)
    watching.since = began
    watching.curve.append({"step": 0} | before)
    engine = Engine(
        training.learners,
        training.source,
        training.objective,
        folder=folder,
        label=folder.name,
        after_step=watching,
        stateful={"best": best, "watching": watching},
    )
    engine.resume()
    engine.fit()
    watching.pause()
    for learner in training.learners.values():
        learner.release()
    best.restore(policy)
    checkpoint.drop(folder)
    return watching
