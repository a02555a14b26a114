"""PPO on a toy whose answers can be counted: it must reach π_ref·exp(r/β)/Z, the known optimum of reward less β·KL."""

from __future__ import annotations

import copy

import pytest
import torch

from headwater.models.generate import Answer, Sampling
from headwater.objectives import policy as policy_losses
from headwater.objectives.policy import Policy
from headwater.rlhf.actors import Actors
from headwater.rlhf.episodes import log_probabilities_of, values_of
from headwater.rlhf.rollouts import Rollouts
from headwater.rlhf.settings import PpoSettings
from headwater.training.engine import Engine
from headwater.training.precision import DTYPES
from headwater.training.settings import ScheduleSettings
from tiny import learner, lively_model, same_weights, tiny_model, weights_of

VOCABULARY = 6
PROMPT = [4]
"""A token that no answer goes on after: a row of one token repeated gives the same state at every place."""
STOP = (3, 4, 5)
"""Answers: a stop token, or one other token and any token after it; the latter may lack a stop token."""
BETA = 0.5
MISSING = -1.0
FORMS = {"decoder": {}, "encoder-decoder": {"form": "encoder-decoder", "decoder_layers": 2, "decoder_start": PROMPT[0]}}
both = pytest.mark.parametrize("form", FORMS)

ANSWERS = [
    [first, *rest]
    for first in range(VOCABULARY)
    for rest in ([[]] if first in STOP else [[second] for second in range(VOCABULARY)])
]
REWARDS = dict(
    zip(
        map(tuple, ANSWERS),
        (2 * torch.rand(len(ANSWERS), generator=torch.Generator().manual_seed(4)) - 1).tolist(),
        strict=True,
    )
)


def score(answers):
    return torch.tensor([REWARDS[tuple(answer.tokens)] for answer in answers])


def distribution(model):
    """Probability of every possible answer."""
    answers = [Answer(PROMPT, answer) for answer in ANSWERS]
    return log_probabilities_of(model, answers, temperature=1.0).sum(dim=1).exp()


def optimum(reference, beta=BETA):
    rewards = torch.tensor([REWARDS[tuple(a)] if a[-1] in STOP else MISSING for a in ANSWERS])
    tilted = distribution(reference) * (rewards / beta).exp()
    return tilted / tilted.sum()


def distance(left, right):
    """Total variation."""
    return float((left - right).abs().sum() / 2)


def settings(**changes):
    values = {
        "steps": 40,
        "episodes": 128,
        "epochs": 1,
        "minibatches": 4,
        "max_new_tokens": 2,
        "missing_stop_reward": MISSING,
        "beta": BETA,
        "adaptive": False,
        "critic_warmup": 2,
        "update_kl_limit": 10.0,
        "schedule": ScheduleSettings(name="linear"),
    }
    return PpoSettings(**(values | changes))


def start(
    given, folder=None, scorer=score, checkpoint_every=0, seed=3, after_step=None, precision="fp32", form="decoder"
):
    """Policy, critic and reference, and the engine that trains them."""
    if folder:
        folder.mkdir(exist_ok=True)
    policy = lively_model(seed=seed, vocabulary=VOCABULARY, factor=3.0, **FORMS[form])
    reference = copy.deepcopy(policy).requires_grad_(False)
    critic = tiny_model("critic", seed=seed, vocabulary=VOCABULARY, **FORMS[form])
    fixed = reference.frozen(DTYPES[precision])
    sampling = Sampling(given.max_new_tokens, given.temperature, stop_tokens=STOP)
    actors = Actors(policy, critic, fixed, scorer)
    source = Rollouts(actors, [PROMPT], given, sampling, seed=5, precision=precision)
    engine = Engine(
        {
            name: learner(module, learning_rate=3e-3, epsilon=1e-5, schedule=given.schedule, precision=precision)
            for name, module in (("policy", policy), ("critic", critic))
        },
        source,
        Policy(given),
        folder=folder,
        checkpoint_every=checkpoint_every,
        after_step=after_step,
    )
    return policy, reference, engine


@both
def test_ppo_reaches_the_reference_tilted_by_the_reward(form):
    policy, reference, engine = start(settings(), form=form)
    goal = optimum(reference)
    before = distance(distribution(policy), goal)
    assert before > 0.3, "the toy must have something to learn"
    assert float(distribution(policy).sum()) == pytest.approx(1, abs=1e-5)
    engine.fit()
    after = distance(distribution(policy), goal)
    assert after < 0.05


def test_ppo_in_bf16_gets_there_too_and_starts_at_kl_0():
    lines = []
    policy, reference, engine = start(
        settings(), precision="bf16", after_step=lambda *_: lines.append(dict(engine.source.measured)) or {}
    )
    engine.fit()
    assert lines[0]["kl"] == 0.0
    goal = optimum(reference)
    assert distance(distribution(engine.learners["policy"].release()), goal) < 0.07
    assert engine.learners["policy"].module is policy


def test_ppo_with_a_larger_beta_stays_nearer_to_the_reference():
    kl = {}
    for beta in (0.3, 3.0):
        policy, reference, engine = start(settings(beta=beta, steps=15))
        engine.fit()
        kl[beta] = kl_of(distribution(policy), reference)
    assert kl[3.0] < kl[0.3] / 3


def kl_of(shares, reference):
    """In nats, by enumeration."""
    return float((shares * (shares / distribution(reference)).log()).sum())


@pytest.mark.parametrize(("wrong", "part"), [(5.0, 10), (5.0, 20), (0.2, 20)])
def test_a_wrong_initial_beta_is_steered_until_the_kl_is_near_its_target(wrong, part):
    """The target is the KL of the optimum under BETA, so that β has to come back to about BETA, which is 5 times away. With the
    default horizon, a tenth of the episodes, one that is too small grows too slowly for a policy that has gone far by then.
    """
    reference = start(settings())[1]
    target = kl_of(optimum(reference), reference)
    assert abs(kl_of(optimum(reference, BETA * wrong), reference) / target - 1) > 0.4, "the start must be wrong"
    given = settings(beta=BETA * wrong, adaptive=True, target_kl=target)
    policy, reference, engine = start(given.model_copy(update={"horizon": given.steps * given.episodes // part}))
    engine.fit()
    assert kl_of(distribution(policy), reference) == pytest.approx(target, rel=0.3)


@both
def test_before_the_first_update_the_ratio_is_1_and_the_kl_0(form, monkeypatch):
    lines, ratios, unwatched = [], [], policy_losses.clipped_policy_loss
    monkeypatch.setattr(
        policy_losses,
        "clipped_policy_loss",
        lambda ratio, *rest: ratios.append(ratio.detach()) or unwatched(ratio, *rest),
    )
    given = settings(steps=1, critic_warmup=0, epochs=1, minibatches=1)
    _, _, engine = start(given, after_step=lambda _, metrics: lines.append(dict(metrics)) or {}, form=form)
    episodes = []
    collect = engine.source.collect
    engine.source.collect = lambda: episodes.append(collect()) or episodes[-1]
    engine.fit()
    assert lines[0]["clip_fraction"] == 0
    assert sum(map(len, ratios)) == int(episodes[0].mask.sum())  # of every token
    assert float((torch.cat(ratios) - 1).abs().max()) < 1e-5
    assert lines[0]["approx_kl"] < 1e-10
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


@both
def test_the_critic_learns_what_is_still_to_come(form):
    """With the policy standing still, the value before the first token is the mean score, and after one the mean of
    the answers that go on from there: both can be counted."""
    given = settings(steps=25, critic_warmup=25, epochs=1, lam=1.0, value_clip=10.0)
    policy, _, engine = start(given, form=form)
    engine.fit()
    shares = distribution(policy)
    rewards = torch.tensor([REWARDS[tuple(a)] if a[-1] in STOP else MISSING for a in ANSWERS])
    values = values_of(engine.modules["critic"], [Answer(PROMPT, [first, 0]) for first in range(3)])
    assert float(values[0, 0]) == pytest.approx(float(shares @ rewards), abs=0.15)
    for first in range(3):
        going_on = torch.tensor([a[0] == first for a in ANSWERS])
        expected = shares[going_on] @ rewards[going_on] / shares[going_on].sum()
        assert float(values[first, 1]) == pytest.approx(float(expected), abs=0.2)


def test_resuming_at_an_iteration_s_boundary_gives_the_weights_of_an_undisturbed_run(tmp_path):
    """4 iterations at once, or 2, a new process's objects, and 2 more: bit for bit, and no checkpoint lies between."""
    given = settings(steps=4, epochs=2, minibatches=2, critic_warmup=1, adaptive=True)
    policy, _, engine = start(given, tmp_path / "whole", checkpoint_every=1)
    engine.fit()
    expected = weights_of(policy), weights_of(engine.modules["critic"]), engine.source.controller.beta

    policy, _, engine = start(given, tmp_path / "parts", checkpoint_every=1)
    for _ in range(11):  # stops within the third iteration
        engine.progress = engine.source.progress()
        engine.train_step(engine.source.take())
        if engine.source.at_boundary():
            engine.save()
    assert engine.source.iteration == 3
    policy, _, engine = start(given, tmp_path / "parts", checkpoint_every=1, seed=3)
    assert engine.resume()
    assert engine.source.iteration == 2
    engine.fit()
    found = weights_of(policy), weights_of(engine.modules["critic"]), engine.source.controller.beta
    assert same_weights(found[0], expected[0])
    assert same_weights(found[1], expected[1])
    assert found[2] == expected[2]
