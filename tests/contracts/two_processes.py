"""Trains a few updates as one of several processes, and writes what came out: run by test_two_processes.py."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from headwater.models.sampling import Sampling
from headwater.objectives.causal import CausalLM
from headwater.objectives.policy import Policy
from headwater.rlhf import rollouts
from headwater.rlhf.actors import Actors
from headwater.rlhf.settings import PpoSettings
from headwater.training.batch import split_by_tokens
from headwater.training.engine import Engine
from objectives import CASES
from tiny import GivenUpdates, learner, tiny_model

WHAT = ("causal", "ppo", "masked", "denoising", "classification")


def causal() -> tuple[Engine, list[str]]:
    """Micro-batches whose numbers of tokens differ, an odd number of them."""
    generator = torch.Generator().manual_seed(0)
    updates = []
    for _ in range(3):
        lengths = torch.randint(3, 30, (7,), generator=generator).tolist()
        rows = [CausalLM().prepare(torch.randint(0, 60, (n,), generator=generator).tolist()) for n in lengths]
        updates.append(split_by_tokens(rows, 40))
    return Engine({"model": learner(tiny_model())}, GivenUpdates(updates), CausalLM()), ["loss"]


def of_case(name: str) -> tuple[Engine, list[str]]:
    """A registered objective on a batch in three parts."""
    case = CASES[name]
    objective = case.objective()
    updates = [case.updates(case.groups(objective), 3)] * 3
    learners = {key: learner(module) for key, module in case.modules().items()}
    return Engine(learners, GivenUpdates(updates), objective), [case.measure]


def ppo() -> tuple[Engine, list[str]]:
    """The critic warms up alone, then both learn."""
    policy = tiny_model()
    given = PpoSettings(
        steps=3, episodes=6, epochs=1, minibatches=2, max_new_tokens=4, critic_warmup=1, update_kl_limit=10.0
    )
    critic, reference = tiny_model("critic"), copy.deepcopy(policy)
    scorer = lambda answers: torch.tensor([float(sum(answer.ids) % 5) for answer in answers])  # noqa: E731
    rollouts.BUDGET = 12  # several micro-batches per update
    actors, sampling = Actors(policy, critic, reference, scorer), Sampling(4, stop_tokens=tuple(range(20)))
    source = rollouts.Rollouts(actors, [[1, 2], [3, 4, 5]], given, sampling, seed=1)
    learners = {"policy": learner(policy, epsilon=1e-5), "critic": learner(critic, epsilon=1e-5)}
    return Engine(learners, source, Policy(given)), ["value_loss"]


def train(what: str) -> dict[str, Any]:
    """The weights and metrics that a training ends with."""
    engine, names = {"causal": causal, "ppo": ppo}[what]() if what in ("causal", "ppo") else of_case(what)
    if what != "ppo":  # SGD steps in proportion to gradients: a wrong scale cannot hide as it would behind Adam
        for one in engine.learners.values():
            sgd = torch.optim.SGD(one.masters.values(), lr=0.1)
            sgd.param_groups[0]["peak"] = 0.1
            one.optimisers = [sgd]
            one.settings = one.settings.model_copy(update={"clip": 1e9})
    lines: list[dict[str, float]] = []
    engine.after_step = lambda _, metrics: lines.append({name: metrics[name] for name in names}) or {}
    engine.fit()
    weights = {f"{m}/{n}": p.tolist() for m, module in engine.modules.items() for n, p in module.named_parameters()}
    return {"weights": weights, "metrics": lines}


def main(rank: int, size: int, result: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{result}.meeting", rank=rank, world_size=size)
    found = {what: train(what) for what in WHAT}
    Path(f"{result}.{rank}.json").write_text(json.dumps(found))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
