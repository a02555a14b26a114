"""Which checkpoint of the policy is kept: judged on openings of its own, by a reward model that PPO never maximised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwater.evaluation.text_metrics import repeated_share
from headwater.models.generate import Sampling, generate
from headwater.models.model import Model
from headwater.progress import say
from headwater.rlhf.episodes import (
    answer_seeds,
    ended,
    kl_of_answers,
    log_probabilities_and_entropy_of,
    log_probabilities_of,
    response_mask,
)
from headwater.rlhf.rollouts import Rollouts
from headwater.rlhf.scoring import Reward
from headwater.rlhf.settings import PpoSettings

if TYPE_CHECKING:
    from headwater.rlhf.monitors import Monitors

LENGTH_RANGE = (0.8, 1.2)
"""A checkpoint is chosen only while its answers are about as long as the SFT policy's: shares of their mean length."""


@dataclass(frozen=True)
class Yardstick:
    """What a policy is measured by: fixed prompts and seeds, the reference, rewards by name."""

    prompts: Sequence[Sequence[int]]
    sampling: Sampling
    seed: int
    reference: Model
    rewards: Mapping[str, Reward]
    missing_stop_reward: float

    def frozen(self, dtype: torch.dtype) -> Yardstick:
        """The same in this number format: that of a policy in training, so that their KL is 0 at the start."""
        rewards = {name: reward.frozen(dtype) for name, reward in self.rewards.items()}
        reference = self.reference if self.reference.dtype == dtype else self.reference.frozen(dtype)
        return replace(self, reference=reference, rewards=rewards)

    def measure(self, policy: Model) -> dict[str, float]:
        """Mean scores, KL to the reference (nats per answer), entropy (nats per token), length in tokens, and the shares
        of ended answers and of repeated 3-grams.

        An answer without stop token has `missing_stop_reward` instead of its scores.
        """
        answers = generate(policy, self.prompts, self.sampling, answer_seeds(self.seed, len(self.prompts)))
        mask = response_mask(answers)
        own, entropy = log_probabilities_and_entropy_of(policy, answers, self.sampling.temperature)
        theirs = log_probabilities_of(self.reference, answers, self.sampling.temperature)
        whole = ended(answers)
        scores = {
            name: torch.where(whole, reward(answers), torch.tensor(self.missing_stop_reward))
            for name, reward in self.rewards.items()
        }
        return {name: float(values.mean()) for name, values in scores.items()} | {
            "kl": float(kl_of_answers(own, theirs, mask).mean()),
            "entropy": float(entropy.sum() / mask.sum()),
            "length": float(mask.sum(dim=1).mean()),
            "ended": float(whole.float().mean()),
            "repetition": repeated_share([answer.tokens for answer in answers], 3),
        }


class BestPolicy:
    """Keeps the weights with the highest selection score among those within the limits on KL and length.

    weights: the policy's fp32 weights by name, which training changes in place; those at the start have `score`, and stay
    where nothing better comes.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        score: float,
        kl_limit: float,
        typical_length: float,
        length_range: tuple[float, float],
    ) -> None:
        self.training, self.kl_limit = weights, kl_limit
        self.shortest, self.longest = (factor * typical_length for factor in length_range)
        self.score, self.step = score, 0
        self.weights = self._copy()

    def offer(self, step: int, *, score: float, kl: float, length: float) -> bool:
        """Keeps the policy's present weights if they are the best so far; says whether it did."""
        if not (kl <= self.kl_limit and self.shortest <= length <= self.longest and score > self.score):
            return False
        self.score, self.step, self.weights = score, step, self._copy()
        return True

    def _copy(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self.training.items()}

    def restore(self, policy: Model) -> None:
        """Puts the kept weights into the policy."""
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                if name in self.weights:
                    parameter.copy_(self.weights[name])

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "step": self.step, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.score, self.step, self.weights = state["score"], state["step"], dict(state["weights"])


class CheckpointSelection:
    """Measures the policy on the selection prompts every so many iterations, and keeps the best: the engine's hook."""

    def __init__(
        self,
        settings: PpoSettings,
        policy: Model,
        source: Rollouts,
        yardstick: Yardstick,
        best: BestPolicy,
        monitors: Monitors,
    ) -> None:
        self.settings, self.policy, self.source, self.yardstick, self.best = settings, policy, source, yardstick, best
        self.monitors = monitors

    def __call__(self, step: int, metrics: dict[str, float]) -> dict[str, Any]:  # noqa: ARG002
        if not self.source.at_boundary():
            return {}
        line: dict[str, Any] = dict(self.source.measured)
        iteration = self.source.iteration
        if iteration % self.settings.evaluate_every == 0 or iteration == self.settings.steps:
            found = self.yardstick.measure(self.policy)
            self.best.offer(iteration, score=found["selection_reward"], kl=found["kl"], length=found["length"])
            line |= {f"heldout_{name}": value for name, value in found.items()}
            for warning in self.monitors.observe(iteration, found):
                say(f"ppo: {warning}")
        return line
