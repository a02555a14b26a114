"""The one training loop. Pretraining, fine-tuning, reward models and PPO all go through it.

It trains a named set of modules (one, or policy and critic). Losses come as sums and counts: every term is divided by
its own count over all micro-batches and ranks, so accumulation and data parallelism are exact by construction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from headwater.errors import Interrupted, UserError
from headwater.progress import Progress, say
from headwater.training import checkpoint
from headwater.training.batch import Batch
from headwater.training.early_stopping import EarlyStopping
from headwater.training.learner import Learner
from headwater.training.log import MetricsLog
from headwater.training.schedule import rate
from headwater.training.source import Source
from headwater.training.stop import StopSignal
from headwater.training.world import World

BAD_UPDATES_IN_A_ROW = 3
REWINDS = 3


@dataclass
class Term:
    """One part of a loss: its sum over a batch, and its weight. Its count is told by `Objective.counts`.

    weight 0 makes it a measurement, whose sum needs no gradient.
    """

    sum: Tensor
    weight: float = 1.0


class Objective(Protocol):
    """What is learnt."""

    def counts(self, batch: Batch) -> dict[str, float]:
        """How many items each term sums over: known before the forward pass."""

    def loss(self, modules: Mapping[str, Any], batch: Batch) -> dict[str, Term]:
        """The terms of one micro-batch. modules: those of the learners; most objectives ask for `Model`s."""


class Engine:
    """Trains `learners` on `source` for `objective`; writes metrics and checkpoints into `folder`.

    after_step: called with (step, metrics) after each update; what it returns is added to the step's line of metrics.
    stateful: further things with `state_dict` that a resume must find as they were.
    early_stopping: watches the metrics, those of `after_step` included, and may end the training before the source does.
    """

    def __init__(
        self,
        learners: Mapping[str, Learner],
        source: Source,
        objective: Objective,
        *,
        folder: Path | None = None,
        checkpoint_every: int = 0,
        label: str = "training",
        after_step: Callable[[int, dict[str, float]], dict[str, Any]] | None = None,
        stateful: Mapping[str, Any] | None = None,
        early_stopping: EarlyStopping | None = None,
        tensorboard: bool = False,
    ) -> None:
        self.learners, self.source, self.objective = learners, source, objective
        self.modules = {name: learner.module for name, learner in learners.items()}
        self.folder, self.checkpoint_every, self.label = folder, checkpoint_every, label
        self.after_step = after_step
        self.stateful = dict(stateful or {})
        self.early_stopping = early_stopping
        if early_stopping:
            self.stateful["early_stopping"] = early_stopping
        self.world = World()
        self.step = 0
        self.progress = 0.0
        """Share of the work that was done before the running update."""
        self.saved = 0
        """Step of the last checkpoint."""
        self.bad_updates = 0
        self.rewinds = 0
        self.log = MetricsLog(folder, tensorboard) if folder else None

    def fit(self) -> None:
        """Trains until the source ends or early stopping does. Raises Interrupted after a signal, with the work saved."""
        with StopSignal() as stop, Progress(self.label, 1000, done=self._permille()) as bar:
            while not (self.early_stopping and self.early_stopping.over):
                self.progress = self.source.progress()
                batches = self.source.take()
                if batches is None:
                    break
                metrics = self.train_step(batches)
                bar.advance(self._permille() - bar.done, note=_note(metrics))
                # Not amid bad updates: there would be nothing to go back to.
                due = 0 < self.checkpoint_every <= self.step - self.saved and not self.bad_updates
                if not self.source.at_boundary():
                    continue
                if stop.asked:
                    stop.take_time()
                if due or stop.asked:
                    self.save()
                if stop.asked:
                    raise Interrupted

    def train_step(self, batches: Sequence[Batch]) -> dict[str, float]:
        """One update from its micro-batches → the step's metrics (means over the update)."""
        began = time.perf_counter()
        counts = self._counts(batches)
        sums: dict[str, float] = dict.fromkeys(counts, 0.0)
        for batch in self.world.share(batches):
            terms = self.objective.loss(self.modules, batch)
            loss = sum((t.weight / counts[name] * t.sum for name, t in terms.items() if t.weight), torch.zeros(()))
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            for learner in self.learners.values():
                learner.collect_gradients()
            for name, term in terms.items():
                sums[name] += float(term.sum.detach())
        metrics = {name: total / counts[name] for name, total in self.world.sum(sums).items()}
        metrics |= self.update()
        self.step += 1
        seconds = time.perf_counter() - began
        metrics["tokens_per_second"] = sum(batch.tokens for batch in batches) / seconds
        self.source.observe(metrics)
        more = self.after_step(self.step, metrics) if self.after_step else {}
        if self.early_stopping:
            self.early_stopping.observe(self.step, metrics | more)
        if self.log and self.world.rank == 0 and self.source.at_boundary():
            self.log.write(self.step, metrics | more)
        return metrics

    def _counts(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Items per term over the whole update; batches are made for the world, so every rank knows them all."""
        totals: dict[str, float] = {}
        for batch in batches:
            for name, count in self.objective.counts(batch).items():
                totals[name] = totals.get(name, 0.0) + count
        return {name: max(count, 1.0) for name, count in totals.items()}

    def update(self) -> dict[str, float]:
        """Moves every module; one non-finite gradient skips them all."""
        norms = {}
        for name, learner in self.learners.items():
            self.world.sum_gradients(learner.masters.values())
            norm = learner.gradient_norm()
            if norm is not None:
                norms[name] = norm
        metrics = {_named("gradient_norm", name, self.learners): float(norm) for name, norm in norms.items()}
        if all(bool(torch.isfinite(norm)) for norm in norms.values()):
            self.bad_updates = 0
            for name, norm in norms.items():
                self.learners[name].update(norm, self.progress)
        else:
            self._skip()
        for learner in self.learners.values():
            learner.clear()
        some = next(iter(self.learners.values()))
        return metrics | {"learning_rate": some.settings.learning_rate * rate(some.schedule, self.progress)}

    def _skip(self) -> None:
        """A bad update is left out; several in a row go back to the last checkpoint's weights and on with new batches."""
        self.bad_updates += 1
        say(f"{self.label}, step {self.step + 1}: a gradient is not finite; this update is skipped.")
        if self.bad_updates < BAD_UPDATES_IN_A_ROW:
            return
        self.bad_updates, self.rewinds = 0, self.rewinds + 1
        found = checkpoint.load_newest(self._checkpoints()) if self.folder else None
        if found is None or self.rewinds > REWINDS:
            raise UserError(
                f"{self.label}: the gradients are not finite any more at step {self.step + 1}, and going back did not "
                "help: use a smaller learning rate."
            )
        for name, learner in self.learners.items():
            learner.load_state_dict(found[1]["learners"][name])
        say(f"{self.label}: back to the weights of step {found[0]}; the batches since then are left out.")

    def save(self) -> None:
        """A checkpoint of everything that changes."""
        if self.folder and self.world.rank == 0:
            checkpoint.save(self._checkpoints(), self.step, self.state_dict())
        self.saved = self.step

    def resume(self) -> bool:
        """Goes back to the newest whole checkpoint, if there is one; says whether it did."""
        found = checkpoint.load_newest(self._checkpoints()) if self.folder else None
        if found is None:
            if self.log:
                self.log.keep_until(0)
            return False
        step, state = found
        self.load_state_dict(state)
        if self.log:
            self.log.keep_until(step)
        say(f"{self.label}: going on from step {step}.")
        return True

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "bad_updates": self.bad_updates,
            "rewinds": self.rewinds,
            "learners": {name: learner.state_dict() for name, learner in self.learners.items()},
            "source": self.source.state_dict(),
            "stateful": {name: item.state_dict() for name, item in self.stateful.items()},
            "random": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.bad_updates, self.rewinds = state["step"], state["bad_updates"], state["rewinds"]
        self.saved = self.step
        for name, learner in self.learners.items():
            learner.load_state_dict(state["learners"][name])
        self.source.load_state_dict(state["source"])
        for name, item in self.stateful.items():
            item.load_state_dict(state["stateful"][name])
        torch.set_rng_state(state["random"])

    def _checkpoints(self) -> Path:
        assert self.folder is not None
        return self.folder / checkpoint.FOLDER

    def _permille(self) -> int:
        return int(1000 * self.source.progress())


def _named(metric: str, learner: str, learners: Mapping[str, Learner]) -> str:
    """A metric of one module: plain where there is only one."""
    return metric if len(learners) == 1 else f"{learner}_{metric}"


def _note(metrics: Mapping[str, float]) -> str:
    shown = ("loss", "reward", "kl", "bits_per_byte")
    return "  ".join(f"{name} {metrics[name]:.3f}" for name in shown if name in metrics)
