"""Reinforcement learning as a source of batches: generate, score, advantages, then epochs of fresh permutations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headwater.errors import UserError
from headwater.models.generate import Answer, Sampling, generate
from headwater.models.model import Model
from headwater.objectives.policy import response_log_probabilities, response_values
from headwater.recipe import PpoSettings
from headwater.rlhf.algorithm import (
    KLController,
    LengthController,
    explained_variance,
    kl_penalised_rewards,
    whiten,
)
from headwater.rlhf.estimators import ESTIMATORS
from headwater.rlhf.scoring import Scorer
from headwater.training.batch import Batch, Row, split_by_tokens
from headwater.training.source import permutation


@dataclass(frozen=True)
class Tolerance:
    """Mean and largest |Δ log p| between sampler and training path; beyond it, something is wrong with one of them."""

    mean: float
    largest: float


SAMPLER_TOLERANCE = {"fp32": Tolerance(3e-5, 5e-4), "bf16": Tolerance(0.02, 0.25)}
"""For two layers, by measurement (docs/lab.md): sums in another order differ by so much and no more."""


def sampler_tolerance(precision: str, layers: int) -> Tolerance:
    """Of a model with so many layers: roundings that do not know of each other add up like the root of their number."""
    base, growth = SAMPLER_TOLERANCE[precision], max(1.0, layers / 2) ** 0.5
    return Tolerance(base.mean * growth, base.largest * growth)


@dataclass
class Episodes:
    """Answers with what was computed of them, per response token: [episodes, time], and their mask."""

    answers: list[Answer]
    scores: Tensor
    mask: Tensor
    log_probabilities: Tensor
    reference: Tensor
    values: Tensor
    """0 where there is no critic."""

    @property
    def kl(self) -> Tensor:
        """Σ(log π − log π_ref) of each answer, in nats: [episodes]."""
        return ((self.log_probabilities - self.reference) * self.mask).sum(dim=1)

    @property
    def lengths(self) -> Tensor:
        """Response tokens of each answer, [episodes]."""
        return self.mask.sum(dim=1)


def episode_row(answer: Answer, index: int, start: int | None = None) -> Row:
    """An answer → the row that predicts its tokens: `mask` marks the positions, `targets` holds the tokens.

    It continues its prompt; or, where `start` is the token with which an encoder-decoder's answers begin (`Model.answer_start`),
    the prompt is the row's source.
    """
    begin = answer.prompt if start is None else [start]
    ids = torch.tensor(begin + answer.tokens)
    mask = torch.zeros(len(ids) - 1)
    mask[len(begin) - 1 :] = 1
    source = None if start is None else torch.tensor(answer.prompt)
    return Row(ids[:-1], {"targets": ids[1:].clone(), "mask": mask}, {"episode": index}, source)


@torch.no_grad()
def log_probabilities_of(model: Model, answers: Sequence[Answer], temperature: float, budget: int = 1024) -> Tensor:
    """log π of every response token by the training path: [answers, longest response], 0 past the end."""
    return _per_token(
        model, answers, budget, lambda batch: (response_log_probabilities(model, batch, temperature)[0],)
    )[0]


@torch.no_grad()
def log_probabilities_and_entropy_of(
    model: Model, answers: Sequence[Answer], temperature: float, budget: int = 1024
) -> tuple[Tensor, Tensor]:
    """`log_probabilities_of`, and the entropy of the next token before each response token, in nats: of like shape."""

    def compute(batch: Batch) -> tuple[Tensor, Tensor]:
        chosen, entropy = response_log_probabilities(model, batch, temperature, entropy=True)
        assert entropy is not None
        return chosen, entropy

    chosen, entropy = _per_token(model, answers, budget, compute)
    return chosen, entropy


@torch.no_grad()
def values_of(critic: Model, answers: Sequence[Answer], budget: int = 1024) -> Tensor:
    """The critic's value before each response token: [answers, longest response]."""
    return _per_token(critic, answers, budget, lambda batch: (response_values(critic, batch),))[0]


def _per_token(
    model: Model, answers: Sequence[Answer], budget: int, compute: Callable[[Batch], Sequence[Tensor]]
) -> list[Tensor]:
    """What `compute` gives of each response token, [tokens] in the order of a batch's rows, as [answers, longest response]."""
    mask = response_mask(answers).bool()
    order: list[int] = []
    parts: list[Sequence[Tensor]] = []
    rows = [episode_row(answer, index, model.answer_start) for index, answer in enumerate(answers)]
    for batch in split_by_tokens(rows, budget, model.shares_beginnings):
        parts.append(compute(batch))
        order += batch.per_row["episode"].tolist()
    results = []
    for column in zip(*parts, strict=True):
        found = torch.zeros(mask.shape)
        found[order] = torch.zeros(mask.shape).masked_scatter(mask[order], torch.cat(column).float())
        results.append(found)
    return results


def response_mask(answers: Sequence[Answer]) -> Tensor:
    """1 for every response token: [answers, longest response]."""
    lengths = torch.tensor([len(answer.tokens) for answer in answers])
    return (torch.arange(int(lengths.max())) < lengths[:, None]).float()


def ended(answers: Sequence[Answer]) -> Tensor:
    """Whether each answer has its stop token: [answers]."""
    return torch.tensor([answer.ended for answer in answers])


def prompts_in_turn(prompts: Sequence[Sequence[int]], seed: int, first: int, count: int) -> list[Sequence[int]]:
    """`count` prompts from place `first` of an endless row in which all prompts come once before any comes again."""
    chosen = []
    for place in range(first, first + count):
        epoch, offset = divmod(place, len(prompts))
        chosen.append(prompts[int(permutation(seed, epoch, len(prompts))[offset])])
    return chosen


def scored(scorer: Scorer, answers: Sequence[Answer], missing_stop_reward: float) -> Tensor:
    """Normalised scores; an answer without stop token gets `missing_stop_reward` instead: [answers].

    Raises UserError where a score is not finite.
    """
    scores = scorer([answer.prompt + answer.tokens for answer in answers]).clone()
    if not bool(torch.isfinite(scores).all()):
        raise UserError("The reward gave a score that is not a finite number: check the reward model or endpoint.")
    return torch.where(ended(answers), scores, torch.tensor(missing_stop_reward))


class Rollouts:
    """Episodes of the policy, as a source for the engine.

    An iteration: prompts → answers → scores → per-token rewards → advantages → `epochs` × `minibatches` updates, each
    pass over a fresh permutation. Prompts, sampling and permutations are functions of seed and iteration.
    critic: None where the estimator of the advantages needs none.
    typical_length: response tokens of an SFT answer, which `length_control` holds; without it, of no matter.
    """

    def __init__(
        self,
        policy: Model,
        critic: Model | None,
        reference: Model,
        scorer: Scorer,
        prompts: Sequence[Sequence[int]],
        settings: PpoSettings,
        *,
        stop_tokens: tuple[int, ...],
        seed: int,
        typical_length: float = 1.0,
        budget: int = 768,
        precision: str = "fp32",
    ) -> None:
        if critic is not None and critic.answer_start != policy.answer_start:
            raise ValueError("policy and critic read the same rows: both are decoders, or both encoder-decoders")
        self.estimator = ESTIMATORS[settings.estimator]
        self.policy, self.critic, self.reference, self.scorer = policy, critic, reference, scorer
        self.prompts, self.settings, self.seed, self.budget = prompts, settings, seed, budget
        self.sampling = Sampling(settings.max_new_tokens, settings.temperature, stop_tokens=stop_tokens)
        self.tolerance = sampler_tolerance(precision, policy.config.layers)
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
        answers = generate(
            self.policy, self._next_prompts(), self.sampling, self._seeds(), slots=self.settings.episodes
        )
        temperature = self.settings.temperature
        mask = response_mask(answers)
        episodes = Episodes(
            answers=answers,
            scores=self.score(answers),
            mask=mask,
            log_probabilities=log_probabilities_of(self.policy, answers, temperature),
            reference=log_probabilities_of(self.reference, answers, temperature),
            values=torch.zeros_like(mask) if self.critic is None else values_of(self.critic, answers),
        )
        self._check_sampler(episodes)
        return episodes

    def score(self, answers: Sequence[Answer]) -> Tensor:
        """[answers] normalised scores."""
        return scored(self.scorer, answers, self.settings.missing_stop_reward)

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
        self.controller.update(float(episodes.kl.mean()), len(episodes.answers), self._target_ramp())
        self.length.update(float(episodes.lengths.mean()))
        updates = []
        for epoch in range(settings.epochs):
            order = permutation(self.seed + 7919 * self.iteration, epoch, len(rows)).tolist()
            for part in range(settings.minibatches):
                chosen = [rows[index] for index in order[part :: settings.minibatches]]
                if chosen:
                    updates.append(split_by_tokens(chosen, self.budget, self.policy.shares_beginnings))
        return updates

    @property
    def critic_only(self) -> bool:
        """Whether the critic alone is trained in this iteration."""
        return self.critic is not None and self.iteration <= self.settings.critic_warmup

    def _target_ramp(self) -> float:
        """Share of the target KL that holds in this iteration."""
        length = self.settings.target_ramp * self.settings.steps
        return min(1.0, self.iteration / length) if length else 1.0

    def _rows(self, episodes: Episodes, advantages: Tensor, returns: Tensor) -> list[Row]:
        per_token = {"old_log_probabilities": episodes.log_probabilities, "advantages": advantages}
        if self.critic is not None:
            per_token |= {"old_values": episodes.values, "returns": returns}
        if self.estimator.kl_in_loss:
            per_token["reference"] = episodes.reference
        rows = []
        for index, answer in enumerate(episodes.answers):
            row = episode_row(answer, index, self.policy.answer_start)
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
        if self.critic is not None:
            self.measured["value_explained_variance"] = explained_variance(episodes.values, returns, episodes.mask)

    def _check_sampler(self, episodes: Episodes) -> None:
        """The sampler and the training path must agree on what the policy is."""
        sampled = [torch.tensor(answer.log_probabilities) for answer in episodes.answers]
        trained = [row[: len(said)] for row, said in zip(episodes.log_probabilities, sampled, strict=True)]
        difference = (torch.cat(trained) - torch.cat(sampled)).abs()
        mean, largest = float(difference.mean()), float(difference.max())
        self.sampler_difference = largest
        if not (mean <= self.tolerance.mean and largest <= self.tolerance.largest):
            raise UserError(
                f"The sampler's log-probabilities differ from those of the training path by {mean:.2g} on average and "
                f"{largest:.2g} at most ({self.tolerance.mean:.2g} and {self.tolerance.largest:.2g} are allowed): use "
                "ppo.precision=fp32."
            )

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
