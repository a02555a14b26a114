"""Reinforcement learning as a source of batches: generate, score, advantages, then epochs of fresh permutations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from headwater.models.answer import Answer
from headwater.models.generate import generate
from headwater.models.sampling import Sampling
from headwater.objectives.policy import episode_row
from headwater.rlhf.actors import Actors
from headwater.rlhf.algorithm import (
    KLController,
    LengthController,
    explained_variance,
    kl_penalised_rewards,
    whiten,
)
from headwater.rlhf.episodes import (
    Episodes,
    ended,
    log_probabilities_of,
    prompts_in_turn,
    response_mask,
    scored,
    values_of,
)
from headwater.rlhf.estimators import ESTIMATORS
from headwater.rlhf.sampler_check import check_sampler, sampler_tolerance
from headwater.rlhf.settings import PpoSettings
from headwater.training.batch import Batch, Row, split_by_tokens
from headwater.training.source import permutation

BUDGET = 768
"""Tokens of a micro-batch, padding included."""


class Rollouts:
    """Episodes of the policy, as a source for the engine.

    An iteration: prompts → answers → scores → per-token rewards → advantages → `epochs` × `minibatches` updates, each
    pass over a fresh permutation. Prompts, sampling and permutations are functions of seed and iteration.
    typical_length: response tokens of an SFT answer, which `length_control` holds; without it, of no matter.
    """

    def __init__(
        self,
        actors: Actors,
        prompts: Sequence[Sequence[int]],
        settings: PpoSettings,
        sampling: Sampling,
        *,
        seed: int,
        typical_length: float = 1.0,
        precision: str = "fp32",
    ) -> None:
        self.estimator = ESTIMATORS[settings.estimator]
        self.actors, self.prompts, self.settings, self.sampling, self.seed = actors, prompts, settings, sampling, seed
        self.tolerance = sampler_tolerance(precision, actors.policy.config.layers)
        horizon = settings.horizon or max(1, settings.steps * settings.episodes // 10)
        self.controller = KLController(settings.beta, settings.target_kl, horizon, settings.adaptive)
        self.length = LengthController(typical_length, settings.length_control)
        self.iteration = 0
        self.pending: list[list[Batch]] = []
        self.sampler_difference = 0.0
        """Largest |Δ log p| of the last rollout."""
        self.measured: dict[str, float] = {}
        """What the last rollout and its updates were like."""
        self._update_metrics: dict[str, list[float]] = defaultdict(list)

    def take(self) -> list[Batch] | None:
        if not self.pending:
            if self.iteration >= self.settings.steps:
                return None
            self.iteration += 1
            self._update_metrics.clear()
            self.pending = self._updates(self.collect())
        return self.pending.pop(0)

    def collect(self) -> Episodes:
        """Generates and scores one iteration's answers."""
        policy, critic = self.actors.policy, self.actors.critic
        answers = generate(policy, self._next_prompts(), self.sampling, self._seeds(), slots=self.settings.episodes)
        temperature = self.sampling.temperature
        mask = response_mask(answers)
        episodes = Episodes(
            answers=answers,
            scores=self.score(answers),
            mask=mask,
            log_probabilities=log_probabilities_of(policy, answers, temperature),
            reference=log_probabilities_of(self.actors.reference, answers, temperature),
            values=torch.zeros_like(mask) if critic is None else values_of(critic, answers),
        )
        self.sampler_difference = check_sampler(answers, episodes.log_probabilities, self.tolerance)
        return episodes

    def score(self, answers: Sequence[Answer]) -> Tensor:
        """[answers] normalised scores."""
        return scored(self.actors.scorer, answers, self.settings.missing_stop_reward)

    def _updates(self, episodes: Episodes) -> list[list[Batch]]:
        """Advantages and returns, then the updates of all epochs."""
        settings, mask = self.settings, episodes.mask
        # An answer without stop token gets no bonus: it would be paid for not ending.
        scores = episodes.scores + self.length.bonus(episodes.lengths) * ended(episodes.answers)
        beta = 0.0 if self.estimator.kl_in_loss else self.controller.beta
        rewards = kl_penalised_rewards(scores, episodes.log_probabilities, episodes.reference, mask, beta)
        if settings.whiten_rewards:
            rewards = whiten(rewards, mask, keep_mean=True)
        advantages = self.estimator.advantages(rewards, episodes.values, mask, settings)
        returns = advantages + episodes.values * mask
        self._measure(episodes, rewards, returns)
        if self.estimator.whitened:
            advantages = whiten(advantages, mask)
        rows = self._rows(episodes, advantages, returns)
        if not self.critic_only:  # the policy stays where it is then, and its KL of 0 says nothing of β
            self.controller.update(float(episodes.kl.mean()), len(episodes.answers), self._target_ramp())
        self.length.update(float(episodes.lengths.mean()))
        updates = []
        for epoch in range(settings.epochs):
            order = permutation(self.seed + 7919 * self.iteration, epoch, len(rows)).tolist()
            for part in range(settings.minibatches):
                chosen = [rows[index] for index in order[part :: settings.minibatches]]
                if chosen:
                    updates.append(split_by_tokens(chosen, BUDGET, self.actors.policy.shares_beginnings))
        return updates

    @property
    def critic_only(self) -> bool:
        """Whether the critic alone is trained in this iteration."""
        return self.actors.critic is not None and self.iteration <= self.settings.critic_warmup

    def _target_ramp(self) -> float:
        """Share of the target KL that holds in this iteration."""
        length = self.settings.target_ramp * self.settings.steps
        return min(1.0, self.iteration / length) if length else 1.0

    def _rows(self, episodes: Episodes, advantages: Tensor, returns: Tensor) -> list[Row]:
        per_token = {"old_log_probabilities": episodes.log_probabilities, "advantages": advantages}
        if self.actors.critic is not None:
            per_token |= {"old_values": episodes.values, "returns": returns}
        if self.estimator.kl_in_loss:
            per_token["reference"] = episodes.reference
        rows = []
        for index, answer in enumerate(episodes.answers):
            row = episode_row(answer, index, self.actors.policy.answer_start)
            row.per_row |= {"critic_only": int(self.critic_only), "beta": self.controller.beta}
            places = row.per_token["mask"].bool()
            for name, values in per_token.items():
                row.per_token[name] = torch.zeros(len(row.ids)).masked_scatter(
                    places, values[index, : len(answer.tokens)]
                )
            rows.append(row)
        return rows

    def _measure(self, episodes: Episodes, rewards: Tensor, returns: Tensor) -> None:
        self.measured = {
            "iteration": self.iteration,
            "reward": float(episodes.scores.mean()),
            "reward_total": float(rewards.sum(dim=1).mean()),
            "kl": float(episodes.kl.mean()),
            "beta": self.controller.beta,
            "length_weight": self.length.weight,
            "length": float(episodes.lengths.mean()),
            "sampler_difference": self.sampler_difference,
            "ended": float(ended(episodes.answers).float().mean()),
        }
        if self.actors.critic is not None:
            self.measured["value_explained_variance"] = explained_variance(episodes.values, returns, episodes.mask)

    def _next_prompts(self) -> list[Sequence[int]]:
        """Each prompt as often as a group has answers, side by side."""
        count = self.settings.episodes // self.settings.group
        chosen = prompts_in_turn(self.prompts, self.seed, (self.iteration - 1) * count, count)
        return [prompt for prompt in chosen for _ in range(self.settings.group)]

    def _seeds(self) -> list[int]:
        first = self.iteration * self.settings.episodes
        return [
            (self.seed * 1_000_003 + first + index) * 2_654_435_761 % 2**63 for index in range(self.settings.episodes)
        ]

    def progress(self) -> float:
        """By iterations, so that an iteration whose epochs end early does not change the schedule."""
        return max(0, self.iteration - (1 if self.pending else 0)) / self.settings.steps

    def at_boundary(self) -> bool:
        return not self.pending

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Ends the iteration's epochs early where the policy has moved too far in one update."""
        for name, value in metrics.items():
            self._update_metrics[name].append(value)
        if metrics.get("approx_kl", 0.0) > self.settings.update_kl_limit:
            self.pending = []
        if not self.pending:
            self.measured |= {name: sum(all_) / len(all_) for name, all_ in self._update_metrics.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "iteration": self.iteration,
            "controller": self.controller.state_dict(),
            "length": self.length.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.iteration, self.pending = state["iteration"], []
        self.controller.load_state_dict(state["controller"])
        self.length.load_state_dict(state["length"])
