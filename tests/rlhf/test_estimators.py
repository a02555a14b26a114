"""What RLOO and GRPO make of a group's rewards."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch
from pydantic import ValidationError

from headwater.models.sampling import Sampling
from headwater.objectives.policy import Policy, k3
from headwater.rlhf.actors import Actors
from headwater.rlhf.algorithm import group_normalised, leave_one_out
from headwater.rlhf.estimators import ESTIMATORS
from headwater.rlhf.rollouts import Rollouts
from headwater.rlhf.settings import PpoSettings
from headwater.training.engine import Engine
from tiny import learner, lively_model, weights_of

PROMPTS = [[1, 2], [5], [9, 8, 6, 4], [10, 2, 2]]


def rollouts(estimator, **changes):
    given = PpoSettings(
        **(
            {"estimator": estimator, "group": 3, "steps": 3, "episodes": 6, "max_new_tokens": 8, "adaptive": False}
            | changes
        )
    )
    policy = lively_model(vocabulary=14)
    reference = lively_model(seed=2, vocabulary=14)
    scorer = lambda answers: torch.tensor([float(sum(answer.ids) % 7) for answer in answers])  # noqa: E731
    sampling = Sampling(given.max_new_tokens, stop_tokens=(3, 7))
    return Rollouts(Actors(policy, None, reference, scorer), PROMPTS, given, sampling, seed=2)


def advantages_of(source):
    """{episode: (its advantage, its row's values)}, of the first pass."""
    episodes = source.collect()
    found = {}
    for update in source._updates(episodes)[: source.settings.minibatches]:
        for batch in update:
            for row, index in enumerate(batch.per_row["episode"].tolist()):
                own = batch.per_token["advantages"][row][batch.per_token["mask"][row].bool()]
                assert torch.all(own == own[0])
                found[index] = float(own[0])
    return episodes, torch.tensor([found[index] for index in range(len(found))])


def test_each_estimator_can_be_chosen():
    assert set(get_args(PpoSettings.model_fields["estimator"].annotation)) == set(ESTIMATORS)


def test_leave_one_out_is_the_reward_less_the_mean_of_the_others():
    rewards = torch.randn(12, generator=torch.Generator().manual_seed(0))
    found = leave_one_out(rewards, 4)
    for index in range(12):
        others = [j for j in range(index // 4 * 4, index // 4 * 4 + 4) if j != index]
        assert float(found[index]) == pytest.approx(float(rewards[index] - rewards[others].mean()), abs=1e-6)


def test_group_normalised_is_the_standard_score_within_the_group():
    rewards = torch.tensor([1.0, 2.0, 3.0, 5.0, 5.0, 5.0])
    found = group_normalised(rewards, 3)
    assert found.tolist() == pytest.approx([-1, 0, 1, 0, 0, 0], abs=1e-3)


def test_the_answers_of_a_group_have_one_prompt_and_differ():
    source = rollouts("rloo", episodes=12)
    source.iteration = 1
    answers = source.collect().answers
    for first in range(0, 12, 3):
        assert len({tuple(answer.prompt) for answer in answers[first : first + 3]}) == 1
    assert sorted({tuple(answer.prompt) for answer in answers}) == sorted(map(tuple, PROMPTS))
    assert len({tuple(answer.tokens) for answer in answers}) > 4


def test_rloo_compares_scores_less_the_kl_of_the_whole_answer():
    source = rollouts("rloo", beta=0.3)
    source.iteration = 1
    episodes, found = advantages_of(source)
    expected = leave_one_out(episodes.scores - 0.3 * episodes.kl, 3)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_grpo_compares_scores_alone_and_takes_the_kl_into_the_loss():
    source = rollouts("grpo", beta=0.3)
    source.iteration = 1
    episodes, found = advantages_of(source)
    torch.testing.assert_close(found, group_normalised(episodes.scores, 3), atol=1e-4, rtol=1e-4)
    objective = Policy(source.settings)
    batches = [batch for update in source._updates(episodes)[: source.settings.minibatches] for batch in update]
    total = sum(float(objective.loss({"policy": source.actors.policy}, b)["kl_loss"].sum.detach()) for b in batches)
    estimates = k3(episodes.log_probabilities, episodes.reference) * episodes.mask
    assert total == pytest.approx(0.3 * float(estimates.sum()), rel=1e-3)


@pytest.mark.parametrize("estimator", ["rloo", "grpo"])
def test_without_a_critic_the_policy_learns_from_the_first_iteration_on(estimator):
    source = rollouts(estimator, critic_warmup=2, steps=1)
    before = weights_of(source.actors.policy)
    lines = []
    engine = Engine(
        {"policy": learner(source.actors.policy)},
        source,
        Policy(source.settings),
        after_step=lambda _, metrics: lines.append(copy.copy(metrics)) or {},
    )
    engine.fit()
    assert any(not torch.equal(before[name], weight) for name, weight in weights_of(source.actors.policy).items())
    assert "value_loss" not in lines[0]
    assert ("kl_loss" in lines[0]) == (estimator == "grpo")
    assert "value_explained_variance" not in source.measured


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": "rloo"}, "set `group` to 2 or more"),
        ({"estimator": "grpo", "group": 5}, "multiple of `group`"),
        ({"estimator": "rloo", "group": 4, "whiten_rewards": True}, "whiten_rewards"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        PpoSettings(**changes)
