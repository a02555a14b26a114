"""What the loop has done for it: `headwater run` for the first policy, `headwater round` for those after it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from headwater.catalogue import find_run
from headwater.endings import INTERRUPTED, REFUSED
from headwater.feedback.collecting import shares_without_order
from headwater.feedback.store.store import Store
from headwater.loop.cycle import Judged
from headwater.models.weights import WEIGHTS
from headwater.recipe import Recipe, load_recipe
from headwater.rlhf.asking import tasks_of
from headwater.rlhf.policies import PolicyOrigin
from headwater.rounds import name_of
from headwater.runs import Run

LOG_FILE = "loop.log"
"""In the folder of the recipe's run: what the trainings said."""

NOT_YET = Judged(tasks=0, judged=0, ready=False)
NOBODY_ASKED = Judged(tasks=0, judged=0, ready=True, asks=False)


class RoundRunner:
    """The rounds of a recipe, each a run below `root`.

    overrides: settings instead of the recipe's, as `headwater run` takes them; later rounds have them from the run before.
    """

    def __init__(self, path: Path, overrides: Sequence[str], recipe: Recipe, root: Path) -> None:
        self.path, self.overrides, self.recipe, self.root = path, list(overrides), recipe, root
        self.log = root / recipe.run / LOG_FILE
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def next_run(self, accepted: str | None) -> str:
        if accepted is None:
            return self.recipe.run
        return name_of(accepted, self._number(accepted) + 1)

    def policy(self, accepted: str | None) -> PolicyOrigin:
        """The policy of `accepted`, or the SFT model that the first round starts from."""
        run, stage = (self.recipe.run, "sft") if accepted is None else (accepted, "ppo")
        return PolicyOrigin(Run(self.root, run).stage(stage), run, stage)

    def judged(self, accepted: str | None) -> Judged:
        store, policy = self.recipe.feedback.store, self.policy(accepted)
        weights = policy.model / WEIGHTS
        if store is None or self.recipe.feedback.annotator != "people":
            return NOBODY_ASKED
        if not weights.is_file():
            return NOT_YET
        with Store(store) as opened:
            tasks = tasks_of(opened, _digest(policy, weights.stat().st_mtime_ns))
            number = 1 if accepted is None else self._number(accepted) + 1
            return Judged(len(tasks), sum(task.judged for task in tasks), not shares_without_order(opened, number))

    def train(self, accepted: str | None) -> str | None:
        was_asked = bool(self.judged(accepted).tasks)
        arguments = ["run", str(self.path), *self.overrides] if accepted is None else ["round", accepted]
        code = self._headwater([*arguments, "--runs", str(self.root)])
        waits = code == REFUSED and not was_asked and self.judged(accepted).tasks
        return None if code == 0 or waits else why_it_failed(code, self.log)

    def is_trained(self, run: str) -> bool:
        return Run(self.root, run).is_finished("ppo")

    def _number(self, run: str) -> int:
        return load_recipe(find_run(run, self.root).folder / "recipe.yaml").round.number

    def _headwater(self, arguments: Sequence[str]) -> int:
        """Runs a command of this very headwater; what it says goes to the log. Returns its exit code."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w", encoding="utf-8") as log:
            with self._lock:
                if self._stopped:
                    return INTERRUPTED
                command = [sys.executable, "-m", "headwater", *arguments]
                self._process = process = subprocess.Popen(command, stdout=log, stderr=log)
            return process.wait()

    def stop(self) -> None:
        """Asks a training to save where it is and to end, and returns when it has; none begins any more."""
        with self._lock:
            self._stopped, process = True, self._process
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait()


@lru_cache(maxsize=16)
def _digest(policy: PolicyOrigin, _written: int) -> str:
    """Of weights that were written then: half a gigabyte is not read anew for each question."""
    return policy.digest


def why_it_failed(code: int, log: Path) -> str:
    """A plain sentence: that of a command that refused, or where to read of a mistake that is not the user's."""
    said = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if code == REFUSED and said:
        return said[-1]
    how = f"was ended by signal {-code}" if code < 0 else "failed at a mistake of its own"
    last = f", which ends with: {said[-1]}" if said else ""
    return f"Asking the policy, or training the next one, {how}: {log} holds what it said{last}"
