"""PPO with texts of pretraining mixed in: what is added to the gradient, when, and what it is good for."""

from __future__ import annotations

import copy

import pytest
import torch

from headwater.corpus.shards import Shards, TokenisedDocument, write_shards
from headwater.models.sampling import Sampling
from headwater.objectives.causal import CausalLM
from headwater.objectives.policy import Policy
from headwater.rlhf.actors import Actors
from headwater.rlhf.pretraining_mix import EpisodesAndTexts, PolicyAndTexts
from headwater.rlhf.rollouts import Rollouts
from headwater.rlhf.settings import PpoSettings
from headwater.training.engine import Engine
from headwater.training.source import DocumentStream
from tiny import learner, lively_model, tiny_model

PROMPTS = [[1, 2], [5], [9, 8, 6, 4], [10, 2, 2]]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Every text counts upwards."""
    folder = tmp_path_factory.mktemp("shards")
    texts = [[first + place for place in range(6)] for first in range(4, 8)]
    write_shards(folder, [TokenisedDocument(text, len(text), "x") for text in texts], 14)
    return Shards(folder)


def mixed(shards, coefficient=1.0, **changes):
    """Policy, source, objective and engine; the reward wants long answers."""
    values = {"steps": 3, "episodes": 6, "max_new_tokens": 8, "minibatches": 2, "epochs": 2, "critic_warmup": 1}
    given = PpoSettings(**(values | changes))
    policy, critic = lively_model(vocabulary=14, factor=4.0), tiny_model("critic", vocabulary=14)

    def score(answers):
        return torch.tensor([float(len(answer.ids)) for answer in answers])

    actors = Actors(policy, critic, copy.deepcopy(policy), score)
    episodes = Rollouts(actors, PROMPTS, given, Sampling(given.max_new_tokens, stop_tokens=(3,)), seed=2)
    texts = DocumentStream(shards, seed=1, width=12, rows=2, steps=1000, rows_per_batch=1)
    source = EpisodesAndTexts(episodes, texts)
    objective = PolicyAndTexts(Policy(given), CausalLM(), coefficient)
    learners = {
        "policy": learner(policy, learning_rate=5e-3, epsilon=1e-5),
        "critic": learner(critic, learning_rate=1e-3, epsilon=1e-5),
    }
    return policy, source, objective, Engine(learners, source, objective)


def gradients(engine, batches):
    """Of the policy, before the optimiser sees them; and the metrics."""
    found = {}
    policy = engine.modules["policy"]

    def update():
        found.update({name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None})
        return {}

    engine.update = update
    metrics = engine.train_step(batches)
    for module in engine.modules.values():
        module.zero_grad()
    return found, metrics


def test_the_gradient_is_the_policy_s_and_so_much_of_pretraining_s(shards):
    policy, source, _, engine = mixed(shards, coefficient=0.3, critic_warmup=0)
    batches = source.take()
    texts = [batch for batch in batches if "advantages" not in batch.per_token]
    episodes = [batch for batch in batches if "advantages" in batch.per_token]
    assert len(texts) == 2
    together, metrics = gradients(engine, batches)
    alone, _ = gradients(engine, episodes)
    losses = [CausalLM().loss({"model": policy}, batch)["loss"].sum for batch in texts]
    count = sum(CausalLM().counts(batch)["loss"] for batch in texts)
    loss = sum(losses) / count
    loss.backward()
    assert metrics["ptx_loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(together[name], alone[name] + 0.3 * parameter.grad, atol=1e-6, rtol=1e-4)


def test_texts_stand_beside_every_update_but_those_of_the_critic_alone(shards):
    _, source, _, _ = mixed(shards)
    seen = []
    while (batches := source.take()) is not None:
        seen.append(sum("advantages" not in batch.per_token for batch in batches))
        source.observe({"approx_kl": 0.0})
    assert seen == [0] * 4 + [2] * 8
    assert source.texts.step == 8


def test_texts_of_updates_that_are_left_out_are_not_lost(shards):
    _, source, _, _ = mixed(shards, critic_warmup=0)
    source.take()
    source.observe({"approx_kl": 9.0})
    assert source.at_boundary()
    state = source.state_dict()
    following = source.take()
    _, other, _, _ = mixed(shards, critic_warmup=0)
    other.load_state_dict(state)
    assert other.texts.step == 1
    for one, two in zip(following, other.take(), strict=True):
        assert torch.equal(one.ids, two.ids)


def test_what_pretraining_taught_is_kept(shards):
    """The same reward, with and without texts: only with them are they still known."""
    left = {}
    for coefficient in (1e-9, 1.0):
        policy, source, _, engine = mixed(shards, coefficient, steps=12, update_kl_limit=10.0, beta=0.01)
        engine.fit()
        batch = DocumentStream(shards, seed=5, width=12, rows=2, steps=1, rows_per_batch=2).take()[0]
        with torch.no_grad():
            loss = CausalLM().loss({"model": policy}, batch)["loss"].sum / CausalLM().counts(batch)["loss"]
        left[coefficient] = float(loss), source.episodes.measured["length"]
    assert left[1.0][0] < left[1e-9][0] - 0.5
    assert left[1.0][1] > 5, "the reward is followed all the same"
