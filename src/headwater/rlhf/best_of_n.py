"""Several answers to each prompt, of which the reward picks: at decoding, or to learn from, round after round."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from headwater.errors import UserError
from headwater.models.generate import Answer, Sampling, generate
from headwater.models.model import Model
from headwater.objectives.sequence import SequenceToSequence
from headwater.objectives.supervised import Span, Supervised
from headwater.rlhf.episodes import prompts_in_turn, scored
from headwater.rlhf.scoring import Scorer
from headwater.training.batch import Batch, Row
from headwater.training.source import Examples


def kl_bound(n: int) -> float:
    """log n − (n − 1)/n, in nats: the KL of best-of-n to its policy is at most so much.

    It is that where every answer is improbable and no two have one reward; where answers recur, the n drawn are not n
    different ones, and it is less (Beirami et al., 2024).
    """
    return math.log(n) - (n - 1) / n


@dataclass(frozen=True)
class Candidates:
    """n answers to each prompt, and their normalised scores, [prompts, n]."""

    answers: list[list[Answer]]
    scores: Tensor

    def best(self) -> list[Answer]:
        """The answer with the highest score, per prompt."""
        return self._at(self.scores.argmax(dim=1))

    def worst(self) -> list[Answer]:
        """The answer with the lowest score, per prompt."""
        return self._at(self.scores.argmin(dim=1))

    def _at(self, places: Tensor) -> list[Answer]:
        return [answers[place] for answers, place in zip(self.answers, places.tolist(), strict=True)]


@dataclass(frozen=True)
class ScoredPolicy:
    """A policy whose answers are scored as they come; one without stop token gets `missing_stop_reward` instead."""

    policy: Model
    scorer: Scorer
    sampling: Sampling
    missing_stop_reward: float

    def candidates(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], n: int, label: str = "") -> Candidates:
        """n answers to each prompt, scored. seeds: one per prompt; with n = 1 the answers are those of `generate`."""
        repeated = [prompt for prompt in prompts for _ in range(n)]
        own_seeds = [(seed + number * 2_654_435_761) % 2**63 for seed in seeds for number in range(n)]
        answers = generate(self.policy, repeated, self.sampling, own_seeds, label=label)
        scores = scored(self.scorer, answers, self.missing_stop_reward).view(len(prompts), n)
        return Candidates([answers[first : first + n] for first in range(0, len(answers), n)], scores)


@dataclass(frozen=True)
class ExpertIterationPlan:
    """How much is answered and learnt, and in how many rounds."""

    rounds: int
    prompts: int
    """Prompts per round."""
    n: int
    """Answers to each of them, of which the best is learnt."""
    epochs: int
    """Passes over a round's best answers."""
    rows_per_update: int


class ExpertIteration:
    """Rounds of the best of n answers that the policy gives by then, to be learnt: a source for `Supervised`.

    A round: prompts → n answers each → the best → `epochs` passes over them (expert iteration, Anthony et al., 2017;
    rejection sampling of Touvron et al., 2023). Answers without stop token are not learnt. All is a function
    of the seed and the round, and checkpoints lie between rounds.
    """

    def __init__(
        self, scored: ScoredPolicy, prompts: Sequence[Sequence[int]], plan: ExpertIterationPlan, seed: int
    ) -> None:
        self.scored, self.prompts, self.plan, self.seed = scored, prompts, plan, seed
        self.round = 0
        self.pending: list[list[Batch]] = []
        self.measured: dict[str, float] = {}
        """Mean score of all answers of the last round, and of the best ones."""

    def take(self) -> list[Batch] | None:
        if not self.pending:
            if self.round >= self.plan.rounds:
                return None
            self.round += 1
            self.pending = self._updates(self.collect())
        return self.pending.pop(0)

    def collect(self) -> Candidates:
        """The round's answers."""
        count, n = self.plan.prompts, self.plan.n
        prompts = prompts_in_turn(self.prompts, self.seed, (self.round - 1) * count, count)
        seeds = [(self.seed * 1_000_003 + self.round * count + index) * n for index in range(count)]
        return self.scored.candidates(prompts, seeds, n)

    def _updates(self, found: Candidates) -> list[list[Batch]]:
        best = found.scores.max(dim=1).values
        self.measured = {"round": self.round, "reward": float(found.scores.mean()), "reward_best": float(best.mean())}
        start = self.scored.policy.answer_start
        rows = [[supervised_row(answer, start)] for answer in found.best() if answer.ended]
        if not rows:
            raise UserError(
                "No answer of the policy has a stop token, so there is none to learn from: allow longer answers with "
                "ppo.max_new_tokens, or train the SFT model longer."
            )
        round_seed = self.seed + 7919 * self.round
        passes = Examples(rows, seed=round_seed, epochs=self.plan.epochs, groups_per_update=self.plan.rows_per_update)
        return list(iter(passes.take, None))

    def progress(self) -> float:
        """By rounds, so that the learning rate is one number within a round."""
        return max(0, self.round - (1 if self.pending else 0)) / self.plan.rounds

    def at_boundary(self) -> bool:
        return not self.pending

    def observe(self, metrics: Mapping[str, float]) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {"round": self.round}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.round, self.pending = state["round"], []


def supervised_row(answer: Answer, start: int | None = None) -> Row:
    """An answer to be learnt as people's own are; start: with which an encoder-decoder's answers begin."""
    if start is not None:
        return SequenceToSequence(start).pair(answer.prompt, answer.tokens)
    return Supervised().prepare_dialogue([Span(tuple(answer.prompt), False), Span(tuple(answer.tokens), True)])
