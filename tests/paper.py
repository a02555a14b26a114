"""Rounds for the loop that are done at once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from headwater.loop.cycle import Judged
from headwater.rounds import name_of


@dataclass
class Paper:
    """Policies that are only names; tasks are drawn for one when it is first asked."""

    asks: bool = True
    first: str = "own"
    problem: str | None = None
    tasks: dict[str | None, int] = field(default_factory=dict)
    said: dict[str | None, int] = field(default_factory=dict)
    trained: list[str] = field(default_factory=list)
    ready: bool = True

    def next_run(self, accepted: str | None) -> str:
        return self.first if accepted is None else name_of(accepted, self._number(accepted) + 1)

    def judged(self, accepted: str | None) -> Judged:
        return Judged(self.tasks.get(accepted, 0), self.said.get(accepted, 0), self.ready, self.asks)

    def train(self, accepted: str | None) -> str | None:
        if self.problem:
            return self.problem
        if self.asks and accepted not in self.tasks:
            self.tasks[accepted] = 10
        else:
            self.trained.append(self.next_run(accepted))
        return None

    def is_trained(self, run: str) -> bool:
        return run in self.trained

    @staticmethod
    def _number(run: str) -> int:
        found = re.search(r"-round-(\d+)$", run)
        return int(found[1]) if found else 1
