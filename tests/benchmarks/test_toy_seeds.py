"""Each method on toys whose answers can be counted: it must come to the policy that is known to be the best."""

import math

import pytest
import torch

import toy_seeds
from toy_seeds import BETA, METHODS, TOYS, Problem, distance, policy_gradient, solve, steer


def test_the_answers_of_a_toy_are_all_there_are_and_each_ends_once():
    assert TOYS["bandit"].answers() == [(token,) for token in range(8)]
    answers = TOYS["sequences"].answers()
    assert len(set(answers)) == len(answers) == 2 + 3 * 2 + 9 * 5
    assert float(
        Problem(TOYS["sequences"], 1).distribution(Problem(TOYS["sequences"], 1).reference).sum()
    ) == pytest.approx(1, abs=1e-5)


def test_the_optimum_is_worth_more_than_any_policy_near_it():
    """Its worth is β·log Z (Korbak et al., 2022)."""
    problem = Problem(TOYS["sequences"], 2)
    start, goal = problem.distribution(problem.reference), problem.optimum()
    constant = float((start * (problem.rewards / BETA).exp()).sum())
    assert problem.worth(goal) == pytest.approx(BETA * math.log(constant), abs=1e-4)
    noise = torch.rand(20, len(goal), generator=torch.Generator().manual_seed(0))
    assert all(problem.worth(mixed / mixed.sum()) < problem.worth(goal) for mixed in goal * (0.5 + noise))


@pytest.mark.parametrize("toy", TOYS)
@pytest.mark.parametrize("method", ["ppo", "rloo", "dpo"])
def test_the_optimum_is_approached(toy, method):
    found = solve(Problem(TOYS[toy], 3), method)
    assert found["before"] > 0.2
    assert found["after"] < found["before"] / 2
    assert found["gain"] > 0.85


@pytest.mark.parametrize("toy", ["bandit", "sequences"])
def test_grpo_earns_more_reward(toy):
    """Its rewards are divided by their deviation, so the same β lets it go further than the optimum."""
    problem = Problem(TOYS[toy], 3)
    found = problem.distribution(policy_gradient("grpo", problem))
    start, goal = (
        (problem.distribution(problem.reference) * problem.rewards).sum(),
        (problem.optimum() * problem.rewards).sum(),
    )
    assert (found * problem.rewards).sum() > start + 0.7 * (goal - start)


def test_grpo_stops_where_its_own_terms_balance():
    """On a bandit the gradient of E[(r − mean)/deviation] − β·KL(π_ref‖π) by the logits is 0 where
    π = β·π_ref / (β + (mean − r)/deviation): the k3 term as a loss pulls by the other direction of the KL."""
    problem = Problem(TOYS["bandit"], 3)
    found = problem.distribution(policy_gradient("grpo", problem, steps=60))
    reference = problem.distribution(problem.reference)
    own = found.clone()
    for _ in range(2000):
        mean = (own * problem.rewards).sum()
        deviation = ((own * (problem.rewards - mean) ** 2).sum()).sqrt()
        gradient = own * (problem.rewards - mean) / deviation + BETA * (reference - own)
        own = (own.log() + 0.05 * gradient).softmax(dim=0)
    assert distance(found, own) < 0.06
    assert distance(own, problem.optimum()) > 2 * distance(found, own)


def test_the_table_counts_the_seeds_that_improve():
    found = [{"before": 0.4, "after": 0.1, "gain": 0.9}, {"before": 0.4, "after": 0.5, "gain": -0.1}]
    assert toy_seeds.line("bandit", "ppo", found) == "| bandit | ppo | 0.400 | 0.300 | 0.400 | 1 of 2 | 1 of 2 |"
    assert set(METHODS) == {"ppo", "rloo", "grpo", "dpo"}


def test_where_beta_is_steered_the_kl_at_the_end_is_told_as_a_share_of_the_target():
    assert 0 < steer(Problem(TOYS["bandit"], 3), 5.0, steps=5) < 0.5  # it has hardly begun
    assert toy_seeds.steered_line("bandit", "×5", [0.9, 1.2, 1.4]) == "| bandit | ×5 | 1.20 | 0.90 to 1.40 | 2 of 3 |"
