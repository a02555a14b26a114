"""PPO on a toy whose answers can be counted: it must reach π_ref·exp(r/β)/Z, the known optimum of reward less β·KL."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from tiny import learner, lively_model, tiny_model, weights_of

from headwater.models.generate import Answer
from headwater.objectives.policy import Policy
from headwater.recipe import PpoSettings, ScheduleSettings
from headwater.rlhf.rollouts import Rollouts, log_probabilities_of
from headwater.training.engine import Engine

VOCABULARY = 6
PROMPT = [1]
STOP = (3, 4, 5)
"""Answers: a stop token, or one other token and any token after it; the latter may lack a stop token."""
BETA = 0.5
MISSING = -1.0

ANSWERS = [
    [first, *rest]
    for first in range(VOCABULARY)
    for rest in ([[]] if first in STOP else [[second] for second in range(VOCABULARY)])
]
REWARDS = {
    tuple(answer): float(torch.randn((), generator=torch.Generator().manual_seed(hash(tuple(answer)) % 1000)))
    for answer in ANSWERS
}


def score(dialogues):
    return torch.tensor([REWARDS[tuple(ids[len(PROMPT) :])] for ids in dialogues])


def distribution(model):
    """Probability of every possible answer."""
    answers = [Answer(PROMPT, answer) for answer in ANSWERS]
    return log_probabilities_of(model, answers, temperature=1.0).sum(dim=1).exp()


def optimum(reference):
    rewards = torch.tensor([REWARDS[tuple(a)] if a[-1] in STOP else MISSING for a in ANSWERS])
    tilted = distribution(reference) * (rewards / BETA).exp()
    return tilted / tilted.sum()


def distance(left, right):
    """Total variation."""
    return float((left - right).abs().sum() / 2)


def settings(**changes):
    values = {
        "steps": 60,
        "episodes": 128,
        "epochs": 2,
        "minibatches": 2,
        "max_new_tokens": 2,
        "missing_stop_reward": MISSING,
        "beta": BETA,
        "adaptive": False,
        "critic_warmup": 2,
        "update_kl_limit": 10.0,
        "schedule": ScheduleSettings(name="linear"),
    }
    return PpoSettings(**(values | changes))


def start(given, folder=None, scorer=score, checkpoint_every=0, seed=3, after_step=None):
    """Policy, critic and reference, and the engine that trains them."""
    policy = lively_model(seed=seed, vocabulary=VOCABULARY, factor=10.0)
    reference = copy.deepcopy(policy).requires_grad_(False)
    critic = tiny_model("critic", seed=seed, vocabulary=VOCABULARY)
    source = Rollouts(policy, critic, reference, scorer, [PROMPT], given, stop_tokens=STOP, seed=5)
    engine = Engine(
        {"policy": learner(policy, learning_rate=3e-3, epsilon=1e-5, schedule=given.schedule),
         "critic": learner(critic, learning_rate=3e-3, epsilon=1e-5, schedule=given.schedule)},
        source,
        Policy(given),
        folder=folder,
        checkpoint_every=checkpoint_every,
        after_step=after_step,
    )
    return policy, reference, engine


def test_ppo_reaches_the_reference_tilted_by_the_reward():
    policy, reference, engine = start(settings())
    goal = optimum(reference)
    before = distance(distribution(policy), goal)
    assert before > 0.4, "the toy must have something to learn"
    assert float(distribution(policy).sum()) == pytest.approx(1, abs=1e-5)
    engine.fit()
    after = distance(distribution(policy), goal)
    assert after < 0.08
    assert after < before / 5


def test_ppo_with_a_larger_beta_stays_nearer_to_the_reference():
    kl = {}
    for beta in (0.3, 3.0):
        policy, reference, engine = start(settings(beta=beta, steps=15))
        engine.fit()
        own = distribution(policy)
        kl[beta] = float((own * (own.log() - distribution(reference).log())).sum())
    assert kl[3.0] < kl[0.3] / 3


def test_before_the_first_update_the_ratio_is_1_and_the_kl_0():
    lines = []
    given = settings(steps=1, critic_warmup=0, epochs=1, minibatches=1)
    _, _, engine = start(given, after_step=lambda step, metrics: lines.append(dict(metrics)) or {})
    episodes = []
    collect = engine.source.collect
    engine.source.collect = lambda: episodes.append(collect()) or episodes[-1]
    engine.fit()
    assert lines[0]["clip_fraction"] == 0
    assert lines[0]["approx_kl"] < 1e-8
    assert float(episodes[0].kl.abs().max()) < 1e-5
    assert engine.source.measured["kl"] == pytest.approx(0, abs=1e-5)
    # With ratio 1 the loss is −mean A, and whitened advantages have mean 0.
    assert lines[0]["policy_loss"] == pytest.approx(0, abs=1e-5)


def test_the_critic_alone_learns_while_it_warms_up():
    given = settings(steps=2, critic_warmup=1, epochs=1, minibatches=2)
    policy, _, engine = start(given)
    critic = engine.modules["critic"]
    first = weights_of(policy), weights_of(critic)
    for _ in range(2):
        metrics = engine.train_step(engine.source.take())
        assert "policy_loss" not in metrics
    assert all(torch.equal(first[0][name], weight) for name, weight in weights_of(policy).items())
    assert any(not torch.equal(first[1][name], weight) for name, weight in weights_of(critic).items())
    assert "policy_loss" in engine.train_step(engine.source.take())
    assert any(not torch.equal(first[0][name], weight) for name, weight in weights_of(policy).items())


def test_the_reference_never_moves():
    _, reference, engine = start(settings(steps=2, critic_warmup=0))
    before = weights_of(reference)
    engine.fit()
    assert all(torch.equal(before[name], weight) for name, weight in weights_of(reference).items())


def test_the_critic_learns_what_the_answers_are_worth():
    """With the policy standing still its values explain the returns."""
    given = settings(steps=25, critic_warmup=25, schedule=ScheduleSettings(name="constant"), lam=1.0, value_clip=10.0)
    _, _, engine = start(given)
    explained = []
    engine.after_step = lambda *_: explained.append(engine.source.measured["value_explained_variance"]) or {}
    engine.fit()
    # Only the second tokens can be told apart: the state before the first one is always the same.
    assert explained[-1] > explained[0] + 0.1
    assert explained[-1] > 0.1


def test_all_possible_answers_are_there_once():
    assert len(ANSWERS) == len(STOP) + (VOCABULARY - len(STOP)) * VOCABULARY
    assert not [pair for pair in itertools.combinations(ANSWERS, 2) if pair[0] == pair[1]]
