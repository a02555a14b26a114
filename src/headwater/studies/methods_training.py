"""What the study `methods` trains: each method as a source and an objective, within one budget of compute.

Compute is counted in passes over an episode's tokens: a forward pass is one (2 FLOPs per weight and token), a forward with a
backward pass three. All networks have one size. Generating an answer is a forward pass over it, and so is scoring it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headwater.models.model import Model
from headwater.objectives.direct_preference import DirectPreference
from headwater.objectives.policy import Policy
from headwater.objectives.supervised import Supervised
from headwater.rlhf.actors import Actors, critic_for, learners_of
from headwater.rlhf.best_of_n import ExpertIteration, ExpertIterationPlan
from headwater.rlhf.episodes import prompts_in_turn
from headwater.rlhf.estimators import ESTIMATORS
from headwater.rlhf.preference_pairs import best_and_worst, pair_groups
from headwater.rlhf.rollouts import Rollouts
from headwater.rlhf.settings import PpoSettings
from headwater.settings import validate_as
from headwater.studies.methods_basis import Basis
from headwater.studies.methods_settings import GroupSettings, Settings
from headwater.training.engine import Objective
from headwater.training.learner import Learner
from headwater.training.settings import OptimiserSettings, ScheduleSettings
from headwater.training.source import GroupedExamples, Source

FORWARD, TRAINED = 1, 3
"""Passes over a token's worth of weights: forward, and forward with backward."""


@dataclass(frozen=True)
class Training:
    """What the engine is given: a method is its source and its objective."""

    learners: dict[str, Learner]
    source: Source
    objective: Objective


Method = Callable[[Basis, Settings, Model, int], Training]
"""(basis, settings, the policy to train, seed) → its training."""


def passes_per_episode(ppo: PpoSettings) -> int:
    """Generated, scored, read by policy and reference, and valued by a critic; then trained on in every epoch."""
    critic = int(ESTIMATORS[ppo.estimator].critic)
    return (4 + critic) * FORWARD + ppo.epochs * (1 + critic) * TRAINED


def budget(basis: Basis, settings: Settings) -> float:
    """Passes over an episode that each training may make."""
    return settings.compute * basis.ppo.steps * basis.ppo.episodes * passes_per_episode(basis.ppo)


def changed(ppo: PpoSettings, changes: Mapping[str, Any]) -> PpoSettings:
    """The run's own settings but for these. Raises UserError where they do not fit each other."""
    return validate_as(PpoSettings, ppo.model_dump() | dict(changes), "The run's ppo settings, changed for this study")


def within_budget(basis: Basis, settings: Settings, ppo: PpoSettings) -> PpoSettings:
    """These settings with as many iterations as the compute allows."""
    per_iteration = ppo.episodes * passes_per_episode(ppo)
    return changed(ppo, {"steps": max(1, round(budget(basis, settings) / per_iteration))})


def policy_gradient(basis: Basis, ppo: PpoSettings, policy: Model, seed: int) -> Training:
    """PPO, RLOO or GRPO, as its settings say."""
    critic = critic_for(ppo, basis.reward.model, seed)
    source = Rollouts(
        Actors(policy, critic, basis.reference, basis.reward),
        basis.prompts,
        ppo,
        basis.sampling,
        seed=seed,
        typical_length=basis.stage.metrics_of("reward")["sft_length"],
    )
    return Training(learners_of(ppo, policy, critic, "fp32"), source, Policy(ppo))


def _ppo(basis: Basis, settings: Settings, policy: Model, seed: int) -> Training:
    return policy_gradient(basis, within_budget(basis, settings, basis.ppo), policy, seed)


def grouped_settings(estimator: str, own: GroupSettings, basis: Basis) -> PpoSettings:
    """The run's settings for an estimator that compares answers to one prompt. Raises UserError where they do not fit."""
    rate = own.learning_rate or basis.ppo.policy_optimiser.learning_rate
    changes = {
        "estimator": estimator,
        "group": own.group,
        "epochs": own.epochs,
        "whiten_rewards": False,
        "policy_optimiser": basis.ppo.policy_optimiser.model_dump() | {"learning_rate": rate},
    }
    return changed(basis.ppo, changes)


def _rloo(basis: Basis, settings: Settings, policy: Model, seed: int) -> Training:
    ppo = grouped_settings("rloo", settings.rloo, basis)
    return policy_gradient(basis, within_budget(basis, settings, ppo), policy, seed)


def _grpo(basis: Basis, settings: Settings, policy: Model, seed: int) -> Training:
    ppo = grouped_settings("grpo", settings.grpo, basis)
    return policy_gradient(basis, within_budget(basis, settings, ppo), policy, seed)


def _dpo(basis: Basis, settings: Settings, policy: Model, seed: int) -> Training:
    own = settings.dpo
    # Per prompt: answers generated and scored, two of them read by the reference and trained on.
    passes = own.answers * 2 * FORWARD + 2 * (FORWARD + own.epochs * TRAINED)
    count = max(1, round(budget(basis, settings) / passes))
    prompts = prompts_in_turn(basis.prompts, seed, 0, count)
    seeds = [(seed * 1_000_003 + index) * own.answers for index in range(count)]
    found = basis.scored_policy(basis.reference).candidates(
        prompts, seeds, own.answers, label="answers of the SFT model"
    )
    objective = DirectPreference(own.beta, own.label_smoothing, basis.ppo.temperature)
    groups = pair_groups(best_and_worst(found), basis.reference, objective)
    source = GroupedExamples(groups, seed=seed, epochs=own.epochs, groups_per_update=own.batch_pairs)
    return Training(_alone(policy, own.optimiser), source, objective)


def _rejection(basis: Basis, settings: Settings, policy: Model, seed: int) -> Training:
    own = settings.rejection
    passes = own.answers * 2 * FORWARD + own.epochs * TRAINED
    plan = ExpertIterationPlan(
        rounds=own.rounds,
        prompts=max(1, round(budget(basis, settings) / passes / own.rounds)),
        n=own.answers,
        epochs=own.epochs,
        rows_per_update=own.batch_examples,
    )
    source = ExpertIteration(basis.scored_policy(policy), basis.prompts, plan, seed)
    return Training(_alone(policy, own.optimiser, name="model"), source, Supervised())


def _alone(policy: Model, optimiser: OptimiserSettings, name: str = "policy") -> dict[str, Learner]:
    return {name: Learner(policy, optimiser, ScheduleSettings(name="linear"))}


METHODS: dict[str, Method] = {"ppo": _ppo, "rloo": _rloo, "grpo": _grpo, "dpo": _dpo, "rejection": _rejection}
