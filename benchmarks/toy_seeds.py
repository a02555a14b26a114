"""PPO, RLOO, GRPO and DPO on toys whose answers can all be counted, so that the optimum is known: ten seeds each.

Under a reward r less β·KL to the reference, the best policy is π_ref·exp(r/β)/Z. A toy is a small model that is the
reference, and random rewards of every answer: of one token (a bandit), or of up to three, which a decoder or an
encoder-decoder gives. DPO learns from pairs that are
drawn from the Bradley–Terry model of the same rewards. The table tells, over the seeds, how far each method is from the optimum (total
variation) before and after, what it has of the gain in E[r] − β·KL that the optimum has, and how many seeds improve. GRPO
has another optimum (docs/rlhf.md), and stays away from this one.

With --steered, instead: PPO's β starts five times too large, right, or five times too small, and is steered towards the KL that
the optimum has. The table tells the exact KL at the end, as a share of that target.

    python benchmarks/toy_seeds.py --seeds 10 --json toys.json
    python benchmarks/toy_seeds.py --seeds 10 --steered --json steered.json
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headwater.models.config import Form, TransformerConfig
from headwater.models.generate import Answer, Sampling, generate
from headwater.models.model import Model
from headwater.objectives.direct_preference import DirectPreference
from headwater.objectives.policy import Policy
from headwater.rlhf.actors import Actors
from headwater.rlhf.episodes import log_probabilities_of
from headwater.rlhf.estimators import ESTIMATORS
from headwater.rlhf.preference_pairs import Pair, pair_groups
from headwater.rlhf.rollouts import Rollouts
from headwater.rlhf.settings import PpoSettings
from headwater.training.engine import Engine
from headwater.training.learner import Learner
from headwater.training.settings import OptimiserSettings, ScheduleSettings
from headwater.training.source import GroupedExamples
from measuring import show, write_json

BETA = 0.5
MISSING = -1.0
"""Reward of an answer that does not end."""
LINEAR = ScheduleSettings(name="linear")
WRONG = {"÷5": 0.2, "right": 1.0, "×5": 5.0}
"""What β is multiplied with at the start where it is steered."""
NEAR = 0.3
"""Largest deviation from the target KL, as a share of it, that counts as near."""
RATE = 1e-3
"""Thrice as much drives likely but bad answers out altogether before their worth is known, and they never come back."""


@dataclass(frozen=True)
class Toy:
    """Answers of up to `longest` tokens; the last `stops` of the vocabulary end one. The last token is the prompt, and that
    with which an encoder-decoder's answers begin, too: no answer goes on after it, so no two places have the same history."""

    vocabulary: int
    stops: int
    longest: int
    form: Form = "decoder"

    @property
    def prompt(self) -> list[int]:
        return [self.vocabulary - 1]

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        return tuple(range(self.vocabulary - self.stops, self.vocabulary))

    def answers(self, begun: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
        """Every answer that begins so."""
        if begun and (begun[-1] in self.stop_tokens or len(begun) == self.longest):
            return [begun]
        return [answer for token in range(self.vocabulary) for answer in self.answers((*begun, token))]


TOYS = {
    "bandit": Toy(vocabulary=8, stops=8, longest=1),
    "sequences": Toy(vocabulary=5, stops=2, longest=3),
    "encoder-decoder": Toy(vocabulary=5, stops=2, longest=3, form="encoder-decoder"),
}


@dataclass
class Problem:
    """A toy with a reference and rewards that follow from the seed."""

    toy: Toy
    seed: int
    answers: list[tuple[int, ...]] = field(init=False)
    rewards: Tensor = field(init=False)
    reference: Model = field(init=False)

    def __post_init__(self) -> None:
        self.answers = self.toy.answers()
        drawn = 2 * torch.rand(len(self.answers), generator=torch.Generator().manual_seed(self.seed)) - 1
        ended = torch.tensor([answer[-1] in self.toy.stop_tokens for answer in self.answers])
        self.rewards = torch.where(ended, drawn, torch.tensor(MISSING))
        self.reference = small_model(self.toy, "language-model", self.seed)
        with torch.no_grad():
            self.reference.backbone.embedding.weight.mul_(10)  # far from uniform predictions
        self.reference.requires_grad_(False)

    def score(self, answers: Sequence[Answer]) -> Tensor:
        known = dict(zip(self.answers, self.rewards.tolist(), strict=True))
        return torch.tensor([known[tuple(answer.tokens)] for answer in answers])

    def distribution(self, model: Model) -> Tensor:
        """Probability of every answer."""
        every = [Answer(self.toy.prompt, list(answer)) for answer in self.answers]
        return log_probabilities_of(model, every, temperature=1.0).sum(dim=1).exp()

    def optimum(self) -> Tensor:
        """π_ref·exp(r/β)/Z."""
        tilted = self.distribution(self.reference) * (self.rewards / BETA).exp()
        return tilted / tilted.sum()

    def worth(self, shares: Tensor) -> float:
        """E[r] − β·KL."""
        return float((shares * self.rewards).sum()) - BETA * self.kl(shares)

    def kl(self, shares: Tensor) -> float:
        """To the reference, in nats."""
        return float((shares * (shares / self.distribution(self.reference)).log()).sum())


def small_model(toy: Toy, kind: Any, seed: int) -> Model:
    sizes: dict[str, Any] = {"layers": 2, "d_model": 32, "heads": 4, "key_value_heads": 4, "head_dim": 8}
    sizes |= {"d_feedforward": 64, "context": 16}
    if toy.form == "encoder-decoder":
        sizes |= {"form": toy.form, "decoder_layers": 2, "decoder_start": toy.prompt[0]}
    return Model(TransformerConfig(vocabulary=toy.vocabulary, **sizes), kind).initialise(seed)


def distance(left: Tensor, right: Tensor) -> float:
    """Total variation."""
    return float((left - right).abs().sum() / 2)


def policy_gradient(estimator: str, problem: Problem, steps: int = 100, **changes: Any) -> Model:
    """PPO, RLOO or GRPO; changes: settings of `ppo`."""
    toy, policy = problem.toy, copy.deepcopy(problem.reference).requires_grad_(True)
    critic = small_model(toy, "critic", problem.seed) if ESTIMATORS[estimator].critic else None
    settings = PpoSettings(
        estimator=estimator,  # type: ignore[arg-type]
        group=1 if critic else 16,
        steps=steps,
        episodes=128,
        epochs=1,
        minibatches=4,
        max_new_tokens=toy.longest,
        missing_stop_reward=MISSING,
        update_kl_limit=10.0,
        **({"beta": BETA, "adaptive": False} | changes),
    )
    source = Rollouts(
        Actors(policy, critic, problem.reference, problem.score),
        [toy.prompt],
        settings,
        Sampling(toy.longest, stop_tokens=toy.stop_tokens),
        seed=problem.seed,
    )
    modules = {"policy": policy} | ({"critic": critic} if critic else {})
    Engine({name: learner(module) for name, module in modules.items()}, source, Policy(settings)).fit()
    return policy


def direct_preference(problem: Problem, pairs: int = 6000, epochs: int = 2) -> Model:
    """DPO on pairs of the reference's answers, each ordered with the probability σ(r_a − r_b)."""
    toy, policy = problem.toy, copy.deepcopy(problem.reference).requires_grad_(True)
    sampling = Sampling(toy.longest, stop_tokens=toy.stop_tokens)
    seeds = [problem.seed * 1_000_003 + index for index in range(2 * pairs)]
    answers = generate(problem.reference, [toy.prompt] * (2 * pairs), sampling, seeds, slots=512)
    scores = problem.score(answers).view(-1, 2)
    drawn = torch.rand(pairs, generator=torch.Generator().manual_seed(problem.seed))
    first_wins = (drawn < torch.sigmoid(scores[:, 0] - scores[:, 1])).tolist()
    ranked = [
        Pair(first, second) if wins else Pair(second, first)
        for first, second, wins in zip(answers[::2], answers[1::2], first_wins, strict=True)
    ]
    objective = DirectPreference(BETA, start=problem.reference.answer_start)
    groups = pair_groups(ranked, problem.reference, objective)
    source = GroupedExamples(groups, seed=problem.seed, epochs=epochs, groups_per_update=64)
    Engine({"policy": learner(policy)}, source, objective).fit()
    return policy


def learner(model: Model) -> Learner:
    return Learner(model, OptimiserSettings(learning_rate=RATE, epsilon=1e-5), LINEAR)


METHODS: dict[str, Callable[[Problem], Model]] = {
    "ppo": lambda problem: policy_gradient("gae", problem),
    "rloo": lambda problem: policy_gradient("rloo", problem),
    "grpo": lambda problem: policy_gradient("grpo", problem),
    "dpo": direct_preference,
}


def solve(problem: Problem, method: str) -> dict[str, float]:
    """Distances to the optimum before and after, and the share of its gain that is reached: 1 is all of it."""
    start, goal = problem.distribution(problem.reference), problem.optimum()
    found = problem.distribution(METHODS[method](problem))
    possible = problem.worth(goal) - problem.worth(start)
    return {
        "before": distance(start, goal),
        "after": distance(found, goal),
        "gain": (problem.worth(found) - problem.worth(start)) / possible,
    }


def steer(problem: Problem, wrong: float, steps: int = 100) -> float:
    """The exact KL that PPO ends at, over its target, the KL of the optimum; its β starts at `wrong` times the right one."""
    target = problem.kl(problem.optimum())
    policy = policy_gradient("gae", problem, steps, beta=BETA * wrong, adaptive=True, target_kl=target)
    return problem.kl(problem.distribution(policy)) / target


def steered_line(toy: str, start: str, found: Sequence[float]) -> str:
    """A row of the table of steered runs."""
    near = sum(abs(one - 1) <= NEAR for one in found)
    middle, least, largest = statistics.median(found), min(found), max(found)
    return f"| {toy} | {start} | {middle:.2f} | {least:.2f} to {largest:.2f} | {near} of {len(found)} |"


def line(toy: str, method: str, found: Sequence[dict[str, float]]) -> str:
    """A row of the table."""
    medians = [statistics.median(one[name] for one in found) for name in ("before", "after", "gain")]
    nearer = sum(one["after"] < one["before"] for one in found)
    better = sum(one["gain"] > 0 for one in found)
    cells = [
        toy,
        method,
        *(f"{value:.3f}" for value in medians),
        f"{nearer} of {len(found)}",
        f"{better} of {len(found)}",
    ]
    return "| " + " | ".join(cells) + " |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="how many")
    parser.add_argument("--toys", nargs="+", choices=list(TOYS), default=list(TOYS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--steered", action="store_true", help="instead: PPO with a wrong β that is steered")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)
    write_json(given.json, steered_table(given) if given.steered else methods_table(given))


def steered_table(given: argparse.Namespace) -> dict[str, list[float]]:
    results = {}
    print(f"| toy | β at the start | KL / target | least to largest | within {NEAR:.0%} |\n|---|---|---|---|---|")
    for toy in given.toys:
        for start, wrong in WRONG.items():
            found = [steer(Problem(TOYS[toy], seed), wrong) for seed in range(1, given.seeds + 1)]
            results[f"{toy}, {start}"] = found
            print(steered_line(toy, start, found), flush=True)
            show(f"{toy}, β {start}: {given.seeds} seeds")
    return results


def methods_table(given: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    results: dict[str, list[dict[str, float]]] = {}
    print(
        "| toy | method | distance before | after | share of the gain | nearer | better |\n|---|---|---|---|---|---|---|"
    )
    for toy in given.toys:
        for method in given.methods:
            found = [solve(Problem(TOYS[toy], seed), method) for seed in range(1, given.seeds + 1)]
            results[f"{toy}, {method}"] = found
            print(line(toy, method, found), flush=True)
            show(f"{toy}, {method}: {given.seeds} seeds")
    return results


if __name__ == "__main__":
    main()
