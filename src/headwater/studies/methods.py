"""Ways to make a policy better by a reward, from one SFT model and one reward model, at equal compute.

PPO, RLOO, GRPO, direct preference optimisation, rejection sampling; and best-of-n, which trains nothing. And what becomes of
a reward that is followed too far: PPO with a weak KL penalty, its reward beside that of a judge that it never saw.

Compute is counted in passes over an episode's tokens: a forward pass is one (2 FLOPs per weight and token), a forward with a
backward pass three. All networks have one size. Generating an answer is a forward pass over it, and so is scoring it.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from headwater.models.layout import save_model
from headwater.models.model import Model
from headwater.objectives.direct_preference import DirectPreference
from headwater.objectives.policy import Policy
from headwater.objectives.preference import Rankings
from headwater.objectives.supervised import Supervised
from headwater.progress import say
from headwater.recipe import PpoSettings
from headwater.rlhf.best_of_n import ExpertIteration, candidates, kl_bound
from headwater.rlhf.episodes import prompts_in_turn
from headwater.rlhf.estimators import ESTIMATORS
from headwater.rlhf.preference_pairs import best_and_worst, pair_groups
from headwater.rlhf.rollouts import Rollouts
from headwater.rlhf.selection import BestPolicy, Yardstick
from headwater.settings import validate_as
from headwater.stages.evaluate import kl_of
from headwater.stages.ppo import LENGTH_RANGE, critic_for, learners_of
from headwater.studies.findings import Findings
from headwater.studies.methods_basis import Basis
from headwater.studies.methods_report import BEST_OF_N, findings
from headwater.studies.methods_settings import GroupSettings, Settings
from headwater.studies.study import Measure, Study
from headwater.training.engine import Engine, Objective
from headwater.training.learner import Learner
from headwater.training.settings import OptimiserSettings, ScheduleSettings
from headwater.training.source import Source

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


def run(study: Study[Settings]) -> Findings:
    """Trains every method with every seed, and PPO once more with hardly any penalty, towards a reward that knows little."""
    settings = study.settings
    basis = Basis.of(settings.of, study.folder.parent, study.folder)
    for estimator, own in (("rloo", settings.rloo), ("grpo", settings.grpo)):
        grouped_settings(estimator, own, basis)  # what does not fit is said before anything is trained
    if basis.ppo.ptx is not None:
        say(
            f"The run {settings.of} mixes texts of pretraining into PPO (ppo.ptx); here every method has its episodes alone."
        )
    seeds = range(study.seed, study.seed + settings.seeds)
    results = {
        name: [study.trial(f"{name}-{seed}", _trained(basis, settings, method, seed)) for seed in seeds]
        for name, method in METHODS.items()
    }
    results[BEST_OF_N] = [study.trial(f"{BEST_OF_N}-{seed}", _decoded(basis, settings, seed)) for seed in seeds]
    followed = study.trial("overoptimisation", _overoptimised(basis, settings, study.seed))
    return findings(settings, results, followed)


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
        policy,
        critic,
        basis.reference,
        basis.reward,
        basis.prompts,
        ppo,
        stop_tokens=basis.sampling.stop_tokens,
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
    found = candidates(
        basis.reference,
        basis.reward,
        prompts,
        basis.sampling,
        seeds,
        own.answers,
        basis.ppo.missing_stop_reward,
        label="answers of the SFT model",
    )
    objective = DirectPreference(own.beta, own.label_smoothing, basis.ppo.temperature)
    groups = pair_groups(best_and_worst(found), basis.reference, objective)
    source = Rankings(groups, seed=seed, epochs=own.epochs, groups_per_update=own.batch_pairs)
    return Training(_alone(policy, own.optimiser), source, objective)


def _rejection(basis: Basis, settings: Settings, policy: Model, seed: int) -> Training:
    own = settings.rejection
    passes = own.answers * 2 * FORWARD + own.epochs * TRAINED
    source = ExpertIteration(
        policy,
        basis.reward,
        basis.prompts,
        basis.sampling,
        n=own.answers,
        rounds=own.rounds,
        prompts_per_round=max(1, round(budget(basis, settings) / passes / own.rounds)),
        epochs=own.epochs,
        rows_per_update=own.batch_examples,
        missing_stop_reward=basis.ppo.missing_stop_reward,
        seed=seed,
    )
    return Training(_alone(policy, own.optimiser, name="model"), source, Supervised())


def _alone(policy: Model, optimiser: OptimiserSettings, name: str = "policy") -> dict[str, Learner]:
    return {name: Learner(policy, optimiser, ScheduleSettings(name="linear"))}


METHODS: dict[str, Method] = {"ppo": _ppo, "rloo": _rloo, "grpo": _grpo, "dpo": _dpo, "rejection": _rejection}


class Watching:
    """Measures a policy in training at even distances, offers it to `best`, and counts processor seconds: the engine's hook."""

    def __init__(self, policy: Model, source: Source, yardstick: Yardstick, best: BestPolicy, times: int) -> None:
        self.policy, self.source, self.yardstick, self.best, self.times = policy, source, yardstick, best, times
        self.curve: list[dict[str, float]] = []
        self.due = 1
        self.seconds = 0.0
        """Of the policy's training, without measuring."""
        self.since = time.process_time()

    def __call__(self, step: int, _metrics: dict[str, float]) -> dict[str, Any]:
        progress = self.source.progress()
        if not self.source.at_boundary() or progress * self.times < self.due - 1e-9:
            return {}
        self.pause()
        self.due = math.floor(progress * self.times + 1e-9) + 1
        found = self.yardstick.measure(self.policy)
        self.best.offer(step, score=found["selection_reward"], kl=found["kl"], length=found["length"])
        self.curve.append({"step": step} | found)
        self.since = time.process_time()
        return {f"heldout_{name}": value for name, value in found.items()}

    def pause(self) -> None:
        """Adds what was used since the last measurement."""
        now = time.process_time()
        self.seconds, self.since = self.seconds + now - self.since, now

    def state_dict(self) -> dict[str, Any]:
        self.pause()
        return {"curve": list(self.curve), "due": self.due, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.curve, self.due, self.seconds = list(state["curve"]), state["due"], state["seconds"]
        self.since = time.process_time()


def follow(
    basis: Basis,
    policy: Model,
    make: Callable[[], Training],
    folder: Path,
    times: int,
    kl_limit: float,
    length_range: tuple[float, float],
) -> Watching:
    """Trains the policy, which has its best weights in the end. After Ctrl-C the same call goes on from `folder`."""
    before = basis.yardstick.measure(policy)
    began = time.process_time()
    training = make()
    (trained,) = (one for one in training.learners.values() if one.module is policy)
    best = BestPolicy(trained.masters, before["selection_reward"], kl_limit, before["length"], length_range)
    watching = Watching(policy, training.source, basis.yardstick, best, times)
    watching.since = began
    watching.curve.append({"step": 0} | before)
    engine = Engine(
        training.learners,
        training.source,
        training.objective,
        folder=folder,
        label=folder.name,
        after_step=watching,
        stateful={"best": best, "watching": watching},
    )
    engine.resume()
    engine.fit()
    watching.pause()
    for learner in training.learners.values():
        learner.release()
    best.restore(policy)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return watching


def _trained(basis: Basis, settings: Settings, method: Method, seed: int) -> Measure:
    def measure(folder: Path) -> dict[str, Any]:
        policy = basis.new_policy()
        make = partial(method, basis, settings, policy, seed)
        watching = follow(basis, policy, make, folder, settings.measurements, basis.ppo.kl_limit, LENGTH_RANGE)
        save_model(policy, folder / "model", pad=basis.tokenizer.pad, eos=basis.tokenizer.end_of_turn)
        basis.tokenizer.save(folder / "model", policy.config.context)
        answers = basis.answers_of(policy)
        policies = {"before": basis.reference, "after": policy}
        return basis.measure(answers) | {
            "kl": kl_of(policies, answers, basis.ppo.temperature),
            "chosen_step": watching.best.step,
            "processor_seconds": watching.seconds,
            "curve": watching.curve,
        }

    return measure


def _decoded(basis: Basis, settings: Settings, seed: int) -> Measure:
    def measure(_folder: Path) -> dict[str, Any]:
        prompts = [opening.ids for opening in basis.given]
        found = candidates(
            basis.reference,
            basis.reward,
            prompts,
            basis.sampling,
            [(seed * 1_000_003 + index) * settings.best_of for index in range(len(prompts))],
            settings.best_of,
            basis.ppo.missing_stop_reward,
            label="answers of the SFT model",
        )
        return basis.measure(found.best()) | {"kl": kl_bound(settings.best_of)}

    return measure


def _overoptimised(basis: Basis, settings: Settings, seed: int) -> Measure:
    own = settings.overoptimisation
    steps = max(1, round(own.length * basis.ppo.steps))
    ppo = changed(basis.ppo, {"beta": own.beta, "adaptive": False, "steps": steps})

    def measure(folder: Path) -> dict[str, Any]:
        weak = basis
        if own.rankings is not None:
            weak = replace(basis, followed=basis.reward_of_few(own.rankings, folder / "reward", seed))
        policy = weak.new_policy()
        make = partial(policy_gradient, weak, ppo, policy, seed)
        # Chosen by the selection model alone: what is asked is whether it sees the fall.
        watching = follow(weak, policy, make, folder, own.measurements, math.inf, (0.0, math.inf))
        return {"curve": watching.curve, "chosen_step": watching.best.step}

    return measure
