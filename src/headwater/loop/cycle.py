"""The closed loop: a policy is served, people judge its answers, these make the next policy, and a person accepts it or not.

    serve the accepted policy → its answers are judged → enough of them? reward model and PPO → offered beside the old one
    → accepted (its answers are asked for next) or declined (more judgements first); an accepted one can be rolled back

runs/NAME/loop.json holds where the loop stands, so it goes on after a stop. Training is a process of its own, `headwater run`
for the first policy and `headwater round` for those after it: it may take all cores, be stopped, or fail, and the server goes on.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from headwater.errors import UserError
from headwater.storage import write_atomically

STATE = "loop.json"
"""In the folder of the recipe's run."""

Phase = Literal["asking", "waiting", "training", "offered", "failed", "finished"]
"""asking: the policy answers what is to be judged; waiting: for judgements; offered: for a decision; failed: for whoever mends
it; finished: all tasks are judged, and the policy that came of it was declined."""


@dataclass(frozen=True)
class State:
    """accepted: runs whose policies were accepted, the newest last; none: the SFT model is served. learnt: {run: judged tasks
    when it was trained last}. declined: runs whose present policy nobody wants."""

    accepted: tuple[str, ...] = ()
    offered: str | None = None
    declined: tuple[str, ...] = ()
    learnt: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> State:
        """The state in a file; where there is none, that of a loop that begins. Raises UserError where it is damaged."""
        if not path.is_file():
            return cls()
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(tuple(found["accepted"]), found["offered"], tuple(found["declined"]), dict(found["learnt"]))
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{path} is damaged: remove it, and the loop begins anew with the policies that there are."
            ) from None

    def write(self, path: Path) -> None:
        write_atomically(path, json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n")


@dataclass(frozen=True)
class Judged:
    """Tasks that show a policy's answers, and how many of them somebody has judged; `ready`: whether a reward model could be
    trained on them, which takes an order in each share; `asks`: whether people are asked at all."""

    tasks: int
    judged: int
    ready: bool
    asks: bool = True


class Runner(Protocol):
    """What the loop has done for it (`rounds.RoundRunner`; tests have their own)."""

    def next_run(self, accepted: str | None) -> str:
        """The run that would follow the policy of `accepted`, or of the SFT model."""

    def judged(self, accepted: str | None) -> Judged:
        """What people have said of that policy's answers so far."""

    def train(self, accepted: str | None) -> str | None:
        """Asks the policy, or trains the next one: goes as far as judgements allow. None, or a sentence of what went wrong."""

    def is_trained(self, run: str) -> bool:
        """Whether this run has a finished policy."""


@dataclass(frozen=True)
class Status:
    """Where the loop stands, for the page."""

    phase: Phase
    accepted: str | None
    offered: str | None
    judged: int
    wanted: int
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Loop:
    """One loop. `advance` is called again and again by one thread; decisions come from others.

    judgements: tasks that must be judged, since the last training, before the next.
    """

    def __init__(self, path: Path, runner: Runner, judgements: int) -> None:
        self.path, self.runner, self.judgements = path, runner, judgements
        self.state = State.read(path)
        self._lock = threading.RLock()
        self._doing: Phase | None = None
        self._problem: str | None = None

    @property
    def accepted(self) -> str | None:
        """The run whose policy is served; None: the SFT model."""
        return self.state.accepted[-1] if self.state.accepted else None

    def advance(self) -> None:
        """One step: asks, trains, or offers; returns at once where people are waited for."""
        with self._lock:
            if self.state.offered or self._problem:
                return
            accepted = self.accepted
            run, found = self.runner.next_run(accepted), self.runner.judged(accepted)
            may_train = self._enough(run, found) if found.tasks else run not in self.state.declined
            if not may_train:
                return
            self._doing = "asking" if found.asks and not found.tasks else "training"
        try:
            problem = self.runner.train(accepted)
        finally:
            with self._lock:
                self._doing = None
        with self._lock:
            self._problem = problem
            if problem or accepted != self.accepted or (not found.tasks and not self.runner.is_trained(run)):
                return
            self._keep(
                offered=run,
                learnt=self.state.learnt | {run: found.judged},
                declined=tuple(name for name in self.state.declined if name != run),
            )

    def _enough(self, run: str, found: Judged) -> bool:
        """Whether there is so much more to learn from than at the last training; of the last tasks, any."""
        new = found.judged - self.state.learnt.get(run, 0)
        return found.ready and new > 0 and (new >= self.judgements or found.judged == found.tasks)

    def accept(self) -> None:
        """The offered policy is served from now on. Raises UserError where none is offered."""
        with self._lock:
            self._keep(accepted=(*self.state.accepted, self._offer()), offered=None)

    def decline(self) -> None:
        """The old policy stays; further judgements of its answers make another. Raises UserError where none is offered."""
        with self._lock:
            self._keep(declined=(*self.state.declined, self._offer()), offered=None)

    def roll_back(self) -> None:
        """Serves the policy before the accepted one again. Raises UserError where there is none, or while a new one is trained."""
        with self._lock:
            if not self.state.accepted:
                raise UserError("The first policy is served: there is none before it to go back to.")
            if self._doing:
                raise UserError("A new policy is being made from the accepted one: wait until it is offered.")
            *before, last = self.state.accepted
            self._problem = None
            self._keep(accepted=tuple(before), offered=None, declined=(*self.state.declined, last))

    def fail(self, problem: str) -> None:
        """Stands still, with this sentence on the page, until somebody says that it is mended."""
        with self._lock:
            self._problem = problem

    def retry(self) -> None:
        """Goes on after a problem was mended."""
        with self._lock:
            self._problem = None

    def status(self) -> Status:
        """Where the loop stands."""
        with self._lock:
            accepted = self.accepted
            run, found = self.runner.next_run(accepted), self.runner.judged(accepted)
            learnt = self.state.learnt.get(run, 0)
            phase: Phase = "waiting"
            if self._doing:
                phase = self._doing
            elif self._problem:
                phase = "failed"
            elif self.state.offered:
                phase = "offered"
            elif found.judged == found.tasks == learnt and run in self.state.declined:
                phase = "finished"
            return Status(
                phase,
                accepted,
                self.state.offered,
                found.judged - learnt,
                min(self.judgements, max(0, found.tasks - learnt)),
                self._problem,
            )

    def _offer(self) -> str:
        if self.state.offered is None:
            raise UserError("No new policy is offered: judge more answers, and one will be.")
        return self.state.offered

    def _keep(self, **changes: Any) -> None:
        changed = replace(self.state, **changes)
        changed.write(self.path)
        self.state = changed
