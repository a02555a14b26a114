"""Which checkpoint of the policy is kept: judged on openings of its own, by a reward model that PPO never maximised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from headwater.models.generate import Sampling, generate
from headwater.models.model import Model
from headwater.rlhf.rollouts import ended, log_probabilities_of, response_mask
from headwater.rlhf.scoring import Scorer


def evaluate_policy(
    policy: Model,
    reference: Model,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    seed: int,
    scorers: dict[str, Scorer],
    missing_stop_reward: float,
) -> dict[str, float]:
    """Mean scores, KL to the reference (nats per answer), length and share of ended answers on fixed prompts and seeds.

    An answer without stop token has `missing_stop_reward` instead of its scores.
    """
    answers = generate(policy, prompts, sampling, seeds=[seed * 1_000_003 + index for index in range(len(prompts))])
    mask = response_mask(answers)
    own = log_probabilities_of(policy, answers, sampling.temperature)
    theirs = log_probabilities_of(reference, answers, sampling.temperature)
    dialogues = [answer.prompt + answer.tokens for answer in answers]
    whole = ended(answers)
    scores = {
        name: torch.where(whole, scorer(dialogues), torch.tensor(missing_stop_reward))
        for name, scorer in scorers.items()
    }
    return {name: float(values.mean()) for name, values in scores.items()} | {
        "kl": float(((own - theirs) * mask).sum(dim=1).mean()),
        "length": float(mask.sum(dim=1).mean()),
        "ended": float(whole.float().mean()),
    }


class BestPolicy:
    """Keeps the weights with the highest selection score among those within the limits on KL and length."""

    def __init__(
        self, policy: Model, kl_limit: float, typical_length: float, length_range: tuple[float, float]
    ) -> None:
        self.policy, self.kl_limit = policy, kl_limit
        self.shortest, self.longest = (factor * typical_length for factor in length_range)
        self.score = float("-inf")
        self.step = 0
        self.weights: dict[str, Tensor] = {}
        self.offer(0, score=float("-inf"), kl=0.0, length=typical_length)

    def offer(self, step: int, *, score: float, kl: float, length: float) -> bool:
        """Keeps the policy's present weights if they are the best so far; says whether it did."""
        allowed = kl <= self.kl_limit and self.shortest <= length <= self.longest
        if self.weights and not (allowed and score > self.score):
            return False
        self.score, self.step = score, step
        self.weights = {name: parameter.detach().clone().float() for name, parameter in self.policy.named_parameters()}
        return True

    def restore(self) -> None:
        """Puts the kept weights back into the policy."""
        with torch.no_grad():
            for name, parameter in self.policy.named_parameters():
                parameter.copy_(self.weights[name])

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "step": self.step, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.score, self.step, self.weights = state["score"], state["step"], dict(state["weights"])
