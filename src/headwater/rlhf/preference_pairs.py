"""Pairs of answers for direct preference optimisation, and the reference's log-probabilities of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headwater.errors import UserError
from headwater.models.generate import Answer
from headwater.models.model import Model
from headwater.objectives.direct_preference import DirectPreference
from headwater.rlhf.best_of_n import Candidates
from headwater.rlhf.episodes import log_probabilities_of
from headwater.training.batch import Row


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt."""

    chosen: Answer
    rejected: Answer


def best_and_worst(found: Candidates) -> list[Pair]:
    """The best and the worst answer to each prompt; prompts whose answers all have one score are left out."""
    differ = (found.scores.max(dim=1).values > found.scores.min(dim=1).values).tolist()
    ranked = zip(found.best(), found.worst(), differ, strict=True)
    return [Pair(best, worst) for best, worst, differs in ranked if differs]


def pair_groups(pairs: Sequence[Pair], reference: Model, objective: DirectPreference) -> list[list[Row]]:
    """Groups for a source that keeps them whole (`GroupedExamples`). The reference reads each answer here, once.

    Raises UserError where there is no pair.
    """
    if not pairs:
        raise UserError(
            "No two answers to one prompt have different scores: check the reward model, or draw more answers."
        )
    answers = [answer for pair in pairs for answer in (pair.chosen, pair.rejected)]
    said = log_probabilities_of(reference, answers, objective.temperature).sum(dim=1).view(-1, 2).tolist()
    return [
        objective.prepare(pair.chosen.prompt, pair.chosen.tokens, pair.rejected.tokens, (chosen, rejected), number)
        for number, (pair, (chosen, rejected)) in enumerate(zip(pairs, said, strict=True))
    ]
