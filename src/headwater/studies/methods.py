"""Ways to make a policy better by a reward, from one SFT model and one reward model, at equal compute.

PPO, RLOO, GRPO, direct preference optimisation, rejection sampling; and best-of-n, which trains nothing. And what becomes of
a reward that is followed too far: PPO with a weak KL penalty, its reward beside that of a judge that it never saw.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from headwater.models.layout import save_with_tokenizer
from headwater.progress import say
from headwater.rlhf.best_of_n import kl_bound
from headwater.rlhf.episodes import mean_kl
from headwater.rlhf.selection import LENGTH_RANGE
from headwater.studies.findings import Findings
from headwater.studies.methods_basis import Basis
from headwater.studies.methods_report import BEST_OF_N, findings
from headwater.studies.methods_settings import Settings
from headwater.studies.methods_training import METHODS, Method, changed, grouped_settings, policy_gradient
from headwater.studies.methods_watching import follow
from headwater.studies.study import Measure, Study


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


def _trained(basis: Basis, settings: Settings, method: Method, seed: int) -> Measure:
    def measure(folder: Path) -> dict[str, Any]:
        policy = basis.new_policy()
        make = partial(method, basis, settings, policy, seed)
        watching = follow(basis, policy, make, folder, settings.measurements, basis.ppo.kl_limit, LENGTH_RANGE)
        save_with_tokenizer(policy, basis.tokenizer, folder / "model", end=basis.tokenizer.end_of_turn)
        answers = basis.answers_of(policy)
        return basis.measure(answers) | {
            "kl": mean_kl(policy, basis.reference, answers, basis.ppo.temperature),
            "chosen_step": watching.best.step,
            "processor_seconds": watching.seconds,
            "curve": watching.curve,
        }

    return measure


def _decoded(basis: Basis, settings: Settings, seed: int) -> Measure:
    def measure(_folder: Path) -> dict[str, Any]:
        prompts = [opening.ids for opening in basis.given]
        seeds = [(seed * 1_000_003 + index) * settings.best_of for index in range(len(prompts))]
        sft = basis.scored_policy(basis.reference)
        found = sft.candidates(prompts, seeds, settings.best_of, label="answers of the SFT model")
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
