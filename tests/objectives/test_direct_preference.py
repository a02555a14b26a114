"""Direct preference optimisation: its loss beside independent ones, and what a policy learns from pairs."""

from __future__ import annotations

import copy

import pytest
import torch

from headwater.models.generate import Answer
from headwater.objectives.direct_preference import DirectPreference, direct_preference_loss
from headwater.rlhf.best_of_n import Candidates
from headwater.rlhf.preference_pairs import Pair, best_and_worst, pair_groups
from headwater.training.batch import collate
from headwater.training.engine import Engine
from headwater.training.source import GroupedExamples
from tiny import learner, lively_model

PAIRS = [
    Pair(Answer([1, 2], [5, 6, 3]), Answer([1, 2], [7, 3])),
    Pair(Answer([4], [8, 9, 10, 3]), Answer([4], [11, 3])),
    Pair(Answer([5, 5, 6], [3]), Answer([5, 5, 6], [12, 13, 3])),
]


def log_probability(model, answer, temperature=1.0):
    """Of a whole answer, token by token."""
    ids = torch.tensor([answer.prompt + answer.tokens])
    table = (model(ids)[0] / temperature).log_softmax(-1)
    first = len(answer.prompt) - 1
    return sum(table[first + place, token] for place, token in enumerate(answer.tokens))


@pytest.mark.parametrize(("beta", "smoothing"), [(0.1, 0.0), (0.7, 0.2)])
def test_the_loss_of_a_batch_is_the_cross_entropy_of_the_implicit_reward_s_order(beta, smoothing):
    """DPO is a logistic regression on β·(Δ log π − Δ log π_ref) whose target is 1 − ε."""
    policy, reference = lively_model(seed=1, vocabulary=14), lively_model(seed=2, vocabulary=14)
    objective = DirectPreference(beta, smoothing, temperature=0.8)
    groups = pair_groups(PAIRS, reference, objective)
    batch = collate([row for group in (groups[2], groups[0], groups[1]) for row in group])
    terms = objective.loss({"policy": policy}, batch)
    with torch.no_grad():
        logits = torch.stack(
            [
                beta
                * (
                    log_probability(policy, pair.chosen, 0.8)
                    - log_probability(policy, pair.rejected, 0.8)
                    - log_probability(reference, pair.chosen, 0.8)
                    + log_probability(reference, pair.rejected, 0.8)
                )
                for pair in PAIRS
            ]
        )
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, torch.full((3,), 1 - smoothing), reduction="sum"
    )
    assert float(terms["loss"].sum.detach()) == pytest.approx(float(expected), rel=1e-4)
    assert float(terms["accuracy"].sum) == int((logits > 0).sum())
    assert float(terms["margin"].sum) == pytest.approx(float(logits.sum()), rel=1e-3, abs=1e-4)
    assert objective.counts(batch)["loss"] == 3


def test_the_rows_of_a_pair_may_stand_anywhere_in_the_batch():
    policy, objective = lively_model(vocabulary=14), DirectPreference(0.5)
    rows = [row for group in pair_groups(PAIRS, lively_model(seed=2, vocabulary=14), objective) for row in group]
    together = objective.loss({"policy": policy}, collate(rows))["loss"].sum
    shuffled = objective.loss({"policy": policy}, collate([rows[i] for i in (3, 0, 5, 2, 4, 1)]))["loss"].sum
    assert float(together.detach()) == pytest.approx(float(shuffled.detach()), rel=1e-5)


def test_at_the_reference_the_loss_is_log_2_and_no_pair_is_right():
    policy = lively_model(vocabulary=14)
    objective = DirectPreference(0.3)
    batch = collate([row for group in pair_groups(PAIRS, policy, objective) for row in group])
    terms = objective.loss({"policy": policy}, batch)
    assert float(terms["loss"].sum.detach()) / 3 == pytest.approx(0.693147, abs=1e-4)
    assert float(direct_preference_loss(torch.zeros(1), torch.zeros(1), 0.3, 0.1)) == pytest.approx(0.693147, abs=1e-5)


def test_training_prefers_the_chosen_answers_and_leaves_the_reference_alone():
    policy = lively_model(vocabulary=14)
    reference = copy.deepcopy(policy).requires_grad_(False)
    objective = DirectPreference(0.5)
    source = GroupedExamples(pair_groups(PAIRS, reference, objective), seed=1, epochs=30, groups_per_update=2)
    metrics = []
    hook = lambda _, line: metrics.append(line) or {}  # noqa: E731
    Engine({"policy": learner(policy, learning_rate=2e-3)}, source, objective, after_step=hook).fit()
    assert metrics[-1]["accuracy"] == 1
    assert metrics[-1]["margin"] > 1
    assert metrics[-1]["loss"] < 0.4


def test_a_pair_is_the_best_and_the_worst_and_needs_two_scores():
    answers = [[Answer([1], [token, 3]) for token in (5, 6, 7)] for _ in range(2)]
    found = Candidates(answers, torch.tensor([[0.2, 1.0, -1.0], [0.5, 0.5, 0.5]]))
    (pair,) = best_and_worst(found)
    assert (pair.chosen.tokens, pair.rejected.tokens) == ([6, 3], [7, 3])
