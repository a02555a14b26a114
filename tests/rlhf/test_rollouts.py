"""What a rollout measures and refuses."""

from __future__ import annotations

import copy

import pytest
import torch

from headwater.errors import UserError
from headwater.models.generate import Answer, Sampling
from headwater.rlhf.actors import Actors
from headwater.rlhf.episodes import log_probabilities_of, response_mask, values_of
from headwater.rlhf.rollouts import Rollouts
from headwater.rlhf.sampler_check import check_sampler
from headwater.rlhf.scoring import RewardModel, fit_normaliser, raw_scores
from headwater.rlhf.selection import BestPolicy
from headwater.rlhf.settings import PpoSettings
from tiny import lively_model, tiny_model

STOP = (3, 7)
PROMPTS = [[1, 2], [5], [9, 8, 6, 4], [10, 2, 2]]


def rollouts(scorer=None, critic=None, **changes):
    given = PpoSettings(**({"steps": 3, "episodes": 6, "max_new_tokens": 8, "minibatches": 2} | changes))
    policy = lively_model(vocabulary=14)
    reference = copy.deepcopy(policy)
    scorer = scorer or (lambda answers: torch.tensor([float(len(answer.ids)) for answer in answers]))
    return Rollouts(
        Actors(policy, critic or tiny_model("critic", vocabulary=14), reference, scorer),
        PROMPTS,
        given,
        Sampling(given.max_new_tokens, stop_tokens=STOP),
        seed=2,
        typical_length=4.0,
    )


def test_log_probabilities_and_values_are_those_of_each_answer_alone_in_the_order_given():
    policy, critic = lively_model(vocabulary=14), tiny_model("critic", vocabulary=14)
    answers = [Answer([1], [2, 3]), Answer([4, 5, 6], [7]), Answer([8, 9], [10, 11, 12, 3])]
    together = log_probabilities_of(policy, answers, 0.7, budget=8)
    values = values_of(critic, answers, budget=8)
    assert together.shape == (3, 4)
    for index, answer in enumerate(answers):
        ids = torch.tensor([answer.prompt + answer.tokens])
        with torch.no_grad():
            table = (policy(ids)[0] / 0.7).log_softmax(-1)
            worth = critic(ids)[0]
        for place, token in enumerate(answer.tokens):
            before = len(answer.prompt) - 1 + place
            assert float(together[index, place]) == pytest.approx(float(table[before, token]), abs=1e-5)
            assert float(values[index, place]) == pytest.approx(float(worth[before]), abs=1e-5)
        assert torch.all(together[index, len(answer.tokens) :] == 0)


def test_the_mask_has_as_many_ones_as_the_answer_has_tokens():
    answers = [Answer([1], [2, 3]), Answer([1], [4]), Answer([1], [4, 5, 6])]
    assert response_mask(answers).tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]


def test_prompts_and_samples_depend_on_seed_and_iteration_alone():
    one, other = rollouts(), rollouts()
    one.iteration = other.iteration = 2
    assert [a.tokens for a in one.collect().answers] == [a.tokens for a in other.collect().answers]
    seeds, prompts = one._seeds(), one._next_prompts()
    one.iteration = 3
    assert not set(seeds) & set(one._seeds())
    assert len(prompts) == 6


def test_every_prompt_is_used_once_before_any_is_used_again():
    source = rollouts(episodes=2)
    used = []
    for iteration in (1, 2):
        source.iteration = iteration
        used += source._next_prompts()
    assert sorted(used) == sorted(PROMPTS)


def test_an_answer_without_stop_token_gets_the_penalty_instead_of_its_score():
    source = rollouts(missing_stop_reward=-2.5)
    scores = source.score([Answer([1], [4, 3], ended=True), Answer([1], [4, 4, 4], ended=False)])
    assert scores.tolist() == [3.0, -2.5]


def test_only_answers_that_ended_are_paid_for_their_length():
    source = rollouts(scorer=lambda answers: torch.zeros(len(answers)), length_control=1.0, missing_stop_reward=0.0)
    source.iteration, source.length.total = 1, 2.0
    episodes = source.collect()
    paid = {}
    for updates in source._updates(episodes):
        for batch in updates:
            for index, places in zip(batch.per_row["episode"].tolist(), batch.per_token["mask"].bool(), strict=True):
                row = batch.per_row["episode"].tolist().index(index)
                paid[index] = float(batch.per_token["returns"][row][places][-1])
    for index, answer in enumerate(episodes.answers):
        last = -0.1 * float((episodes.log_probabilities - episodes.reference)[index, len(answer.tokens) - 1])
        bonus = 2.0 * (len(answer.tokens) / 4.0 - 1) if answer.ended else 0.0
        assert paid[index] == pytest.approx(last + bonus, abs=1e-4)


def test_a_score_that_is_no_number_is_refused():
    source = rollouts(scorer=lambda answers: torch.full((len(answers),), float("nan")))
    source.iteration = 1
    with pytest.raises(UserError, match="finite"):
        source.collect()


def test_a_sampler_that_disagrees_with_the_training_path_is_refused():
    source = rollouts()
    source.iteration = 1
    episodes = source.collect()
    assert source.sampler_difference < 1e-5
    episodes.answers[2].log_probabilities[0] += 2e-4
    with pytest.raises(UserError, match="log-probabilities"):
        check_sampler(episodes.answers, episodes.log_probabilities, source.tolerance)


def test_every_epoch_deals_every_episode_once():
    source = rollouts(epochs=3, minibatches=4)
    source.iteration = 1
    updates = source._updates(source.collect())
    assert len(updates) == 12
    for epoch in range(3):
        seen = [int(i) for update in updates[4 * epoch : 4 * epoch + 4] for b in update for i in b.per_row["episode"]]
        assert sorted(seen) == list(range(6))


def test_advantages_of_the_update_are_whitened_over_the_whole_rollout():
    source = rollouts(epochs=1, minibatches=3)
    source.iteration = 1
    updates = source._updates(source.collect())
    real = torch.cat([b.per_token["advantages"][b.per_token["mask"].bool()] for update in updates for b in update])
    assert float(real.mean()) == pytest.approx(0, abs=1e-5)
    assert float(real.var()) == pytest.approx(1, abs=1e-4)


def test_epochs_end_early_where_an_update_moved_too_far():
    source = rollouts(update_kl_limit=0.1)
    source.take()
    source.observe({"approx_kl": 0.05})
    assert not source.at_boundary()
    source.observe({"approx_kl": 0.2})
    assert source.at_boundary()
    assert source.take() is not None
    assert source.iteration == 2


def test_scores_do_not_depend_on_order_or_padding():
    model = tiny_model("reward", vocabulary=14)
    dialogues = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10], [11, 12]]
    found = raw_scores(model, dialogues, budget=64)
    backwards = raw_scores(model, dialogues[::-1], budget=5).flip(0)
    torch.testing.assert_close(found, backwards, atol=1e-5, rtol=1e-5)
    for index, ids in enumerate(dialogues):
        with torch.no_grad():
            assert float(found[index]) == pytest.approx(float(model(torch.tensor([ids]))[0, -1]), abs=1e-5)


def test_the_normaliser_gives_mean_0_and_variance_1():
    scores = torch.tensor([3.0, 9.0, 4.0, 7.5])
    gain, bias = fit_normaliser(scores)
    normalised = gain * scores + bias
    assert float(normalised.mean()) == pytest.approx(0, abs=1e-6)
    assert float(normalised.std()) == pytest.approx(1, abs=1e-6)
    with pytest.raises(UserError, match="same score"):
        fit_normaliser(torch.ones(8))


def test_a_reward_model_without_normaliser_is_refused(tmp_path):
    from headwater.models.layout import save_model

    model = tiny_model("reward")
    save_model(model, tmp_path / "bare", pad=0, eos=4)
    with pytest.raises(UserError, match="normaliser"):
        RewardModel.load(tmp_path / "bare")
    save_model(model, tmp_path / "whole", pad=0, eos=4, extra={"gain": 2.0, "bias": -1.0})
    loaded = RewardModel.load(tmp_path / "whole")
    torch.testing.assert_close(loaded([Answer([1, 2], [3])]), 2 * raw_scores(model, [[1, 2, 3]]) - 1)


def test_the_best_policy_is_the_best_within_the_limits_and_comes_back_after_a_resume():
    policy = tiny_model()
    weights = dict(policy.named_parameters())
    best = BestPolicy(weights, 0.8, kl_limit=5.0, typical_length=10.0, length_range=(0.75, 1.25))

    def offer(mark, **measured):
        with torch.no_grad():
            policy.backbone.norm.weight.fill_(mark)
        return best.offer(int(mark), **measured)

    assert not offer(7, score=0.7, kl=2.0, length=10.0), "the policy at the start was better"
    assert best.step == 0
    assert offer(1, score=1.0, kl=2.0, length=10.0)
    assert not offer(2, score=9.0, kl=5.1, length=10.0)
    assert not offer(3, score=9.0, kl=2.0, length=7.0)
    assert not offer(4, score=0.5, kl=2.0, length=10.0)
    assert offer(5, score=2.0, kl=5.0, length=12.5)
    offer(6, score=0.0, kl=0.0, length=10.0)
    other = BestPolicy(weights, 0.8, 5.0, 10.0, (0.75, 1.25))
    other.load_state_dict(best.state_dict())
    other.restore(policy)
    assert torch.all(policy.backbone.norm.weight == 5)
    assert other.step == 5
