"""Early stopping: training ends when the held-out figure has long not been better, and the best weights are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from headwater.progress import say
from headwater.training.learner import Learner


class EarlyStopping:
    """Watches one held-out figure (lower is better) whenever it is measured; keeps the learner's best weights.

    patience: measurements in a row without a new best after which `over` is true. A copy of the weights in fp32 is held,
    and is part of the checkpoint, so that a resumed training stops at the same step with the same weights.
    """

    def __init__(self, metric: str, patience: int, learner: Learner) -> None:
        self.metric, self.patience, self.learner = metric, patience, learner
        self.best = float("inf")
        self.best_step = 0
        self.waited = 0
        """Measurements since the best one."""
        self.best_weights: dict[str, Tensor] | None = None

    @property
    def over(self) -> bool:
        return self.waited >= self.patience

    def observe(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Hears what was measured after a step; most steps do not measure the figure. A NaN is never a new best."""
        if self.metric not in metrics:
            return
        if metrics[self.metric] < self.best:
            self.best, self.best_step, self.waited = metrics[self.metric], step, 0
            self.best_weights = {
                name: weight.detach().clone() for name, weight in self.learner.released_weights().items()
            }
            return
        self.waited += 1
        if self.over:
            say(f"No better {self.metric} than {self.best:.4f} since step {self.best_step}: training ends here.")

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "best_step": self.best_step,
            "waited": self.waited,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_step, self.waited = state["best"], state["best_step"], state["waited"]
        self.best_weights = state["best_weights"]
