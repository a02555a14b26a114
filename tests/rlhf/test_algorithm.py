"""The formulas of PPO against trl's pieces and against derivations of our own."""

from __future__ import annotations

import pytest
import torch

from headwater.rlhf.algorithm import (
    KLController,
    LengthController,
    explained_variance,
    generalised_advantages,
    kl_penalised_rewards,
    masked_mean,
    whiten,
)
from trl_pieces import piece


@pytest.fixture(scope="module")
def trl():
    return piece("trl.experimental.ppo.ppo_trainer")


def ragged(episodes=6, time=9, seed=0):
    """Values of every kind per token, and a mask of answers of different lengths (the first has one token only)."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, time + 1, (episodes,), generator=generator)
    lengths[0], lengths[1] = 1, time
    mask = (torch.arange(time) < lengths[:, None]).float()
    return mask, *(torch.randn(episodes, time, generator=generator) for _ in range(4))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("keep_mean", [False, True])
def test_whitening_is_trl_s(trl, seed, keep_mean):
    mask, values, *_ = ragged(seed=seed)
    expected = trl.masked_whiten(values, mask.bool(), shift_mean=not keep_mean) * mask
    torch.testing.assert_close(whiten(values, mask, keep_mean), expected, atol=1e-6, rtol=1e-5)


def test_masked_mean_is_trl_s(trl):
    mask, values, *_ = ragged()
    torch.testing.assert_close(masked_mean(values, mask), trl.masked_mean(values, mask.bool()))


def test_whitened_advantages_have_mean_0_and_variance_1_over_the_real_tokens_whatever_the_padding_holds():
    mask, values, *_ = ragged()
    values = torch.where(mask.bool(), values * 3 + 7, 1e6)
    whitened = whiten(values, mask)
    real = whitened[mask.bool()]
    assert abs(float(real.mean())) < 1e-5
    assert float(real.var()) == pytest.approx(1, abs=1e-4)
    assert torch.all(whitened[~mask.bool()] == 0)


def test_whitening_one_token_gives_no_nan():
    assert torch.isfinite(whiten(torch.tensor([[3.0, 9.0]]), torch.tensor([[1.0, 0.0]]))).all()


def test_answers_are_cut_where_trl_cuts_them(trl):
    """trl pads everything after the first stop token: our mask is the rest."""
    from headwater.models.generate import Sampling, generate
    from headwater.rlhf.episodes import response_mask
    from tiny import lively_model

    stop = (5, 9, 11, 12)
    answers = generate(lively_model(vocabulary=16), [[1, 2]] * 8, Sampling(12, stop_tokens=stop), list(range(8)))
    free = generate(lively_model(vocabulary=16), [[1, 2]] * 8, Sampling(12), list(range(8)))
    assert any(answer.ended for answer in answers)
    padded = torch.tensor([answer.tokens for answer in free])
    for token in stop:
        padded = trl.truncate_response(token, -7, padded)
    mask = response_mask(answers)
    cut = padded[:, : mask.shape[1]]
    assert torch.equal(cut != -7, mask.bool())
    assert [[t for t in row if t != -7] for row in padded.tolist()] == [answer.tokens for answer in answers]


def slow_advantages(rewards, values, gamma, lam):
    """One episode: Σ_l (γλ)^l δ_{t+l}, straight from the definition, in plain Python."""
    end = len(rewards)
    deltas = [rewards[t] + gamma * (values[t + 1] if t + 1 < end else 0.0) - values[t] for t in range(end)]
    return [sum((gamma * lam) ** (s - t) * deltas[s] for s in range(t, end)) for t in range(end)]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (1.0, 0.0)])
def test_advantages_follow_from_the_definition_episode_by_episode(gamma, lam):
    mask, rewards, values, *_ = ragged(seed=3)
    found = generalised_advantages(rewards * mask, values, mask, gamma, lam)
    for episode, length in enumerate(mask.sum(dim=1).int().tolist()):
        expected = slow_advantages(rewards[episode, :length].tolist(), values[episode, :length].tolist(), gamma, lam)
        assert found[episode, :length].tolist() == pytest.approx(expected, abs=1e-5)
        assert torch.all(found[episode, length:] == 0)


def test_with_gamma_and_lambda_1_an_advantage_is_what_is_still_to_come_less_the_value():
    mask, rewards, values, *_ = ragged(seed=4)
    rewards = rewards * mask
    to_come = rewards.flip(1).cumsum(1).flip(1)
    found = generalised_advantages(rewards, values, mask, 1.0, 1.0)
    torch.testing.assert_close(found, (to_come - values) * mask, atol=1e-5, rtol=1e-5)


def test_a_value_past_the_end_counts_as_nothing():
    mask, rewards, values, *_ = ragged(seed=5)
    poisoned = torch.where(mask.bool(), values, 1e6)
    torch.testing.assert_close(
        generalised_advantages(rewards * mask, poisoned, mask, 1.0, 0.95),
        generalised_advantages(rewards * mask, values * mask, mask, 1.0, 0.95),
    )


def test_the_score_comes_at_the_last_token_and_the_penalty_at_every_one():
    mask = torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0]])
    own = torch.tensor([[-1.0, -2, -3, -9], [-0.5, -9, -9, -9]])
    reference = torch.tensor([[-1.5, -1.0, -3.0, -1], [-2.5, -1, -1, -1]])
    rewards = kl_penalised_rewards(torch.tensor([10.0, -4.0]), own, reference, mask, beta=0.5)
    expected = [[-0.25, 0.5, 10.0, 0.0], [-4 - 1.0, 0, 0, 0]]
    torch.testing.assert_close(rewards, torch.tensor(expected))


def test_the_sum_of_an_episode_s_rewards_is_score_less_beta_times_kl_and_may_be_a_bonus():
    mask, own, reference, *_ = ragged(seed=6)
    scores = torch.arange(len(mask)).float()
    rewards = kl_penalised_rewards(scores, own, reference, mask, beta=0.3)
    kl = ((own - reference) * mask).sum(1)
    assert float(kl.min()) < 0, "the case that clamping would get wrong"
    torch.testing.assert_close(rewards.sum(1), scores - 0.3 * kl)


def test_explained_variance_knows_a_perfect_and_an_ignorant_critic():
    mask, returns, *_ = ragged(seed=7)
    mean = masked_mean(returns, mask)
    assert explained_variance(returns, returns, mask) == pytest.approx(1)
    assert explained_variance(torch.full_like(returns, float(mean)), returns, mask) == pytest.approx(0, abs=1e-5)


def test_the_controller_moves_beta_as_published():
    controller = KLController(0.1, target=6.0, horizon=1000)
    controller.update(6.3, 64)  # 5% above: within the clip
    assert controller.beta == pytest.approx(0.1 * (1 + 0.05 * 64 / 1000))
    before = controller.beta
    controller.update(600.0, 64)
    assert controller.beta == pytest.approx(before * (1 + 0.2 * 64 / 1000))
    before = controller.beta
    controller.update(-3.0, 64)
    assert controller.beta == pytest.approx(before * (1 - 0.2 * 64 / 1000))


def test_a_ramp_holds_the_kl_against_a_part_of_the_target():
    controller = KLController(0.1, target=6.0, horizon=1000)
    controller.update(2.0, 64, ramp=0.5)
    assert controller.beta == 0.1, "below the ramp is no fault"
    controller.update(4.0, 64, ramp=0.5)
    assert controller.beta > 0.1
    controller.update(4.0, 64)
    assert controller.beta < 0.1 * (1 + 0.2 * 64 / 1000)


def test_the_length_controller_does_not_swing():
    """The length answers to the weight with a delay, as a policy does: it moves by so much per iteration."""
    controller, mean, lengths = LengthController(typical=26.0, rate=0.5), 26.0, []
    for _ in range(60):
        mean += 2.0 * controller.weight - 1.0  # a drift of one token per iteration
        controller.update(mean)
        lengths.append(mean)
    assert min(lengths) > 0.8 * 26
    assert max(lengths) < 1.05 * 26
    assert lengths[-1] == pytest.approx(26, rel=0.02)


def test_the_length_controller_holds_a_mean_length_that_rewards_pull_away():
    """A simulated plant: each unit of weight lengthens answers by a third, and something pulls them to half."""
    controller, mean = LengthController(typical=30.0, rate=1.0), 30.0
    for _ in range(40):
        mean += 0.3 * (30.0 * (0.5 + controller.weight / 3) - mean)
        controller.update(mean)
    assert mean == pytest.approx(30.0, rel=0.05)
    assert controller.bonus(torch.tensor([30.0, 60.0])).tolist() == pytest.approx([0.0, controller.weight])


def test_a_fixed_beta_stays_and_a_resumed_controller_goes_on():
    fixed = KLController(0.1, 6.0, 1000, adaptive=False)
    fixed.update(100.0, 64)
    assert fixed.beta == 0.1
    one, other = KLController(0.1, 6.0, 1000), KLController(0.5, 6.0, 1000)
    one.update(9.0, 64)
    other.load_state_dict(one.state_dict())
    assert other.beta == one.beta


@pytest.mark.parametrize("horizon", [1, 10, 64])
def test_a_horizon_shorter_than_an_iteration_leaves_beta_positive(horizon):
    controller = KLController(0.1, 6.0, horizon)
    for _ in range(20):
        controller.update(0.0, 64)
    assert controller.beta == pytest.approx(0.1 * 0.8**20)


@pytest.mark.parametrize("wrong", [5.0, 0.2])
def test_a_wrong_initial_beta_still_ends_near_the_target_kl(wrong):
    """A simulated plant: the KL of the optimum falls with β (as 1/β² for a Gaussian reward), and the policy needs a
    few iterations to get there. The horizon is the default: a tenth of the run's episodes."""
    steps, episodes, target, right = 100, 64, 6.0, 0.1
    controller = KLController(right * wrong, target, horizon=steps * episodes / 10)
    kl = 0.0
    for _ in range(steps):
        settled = min(40.0, target * (right / controller.beta) ** 2)
        kl += 0.3 * (settled - kl)
        controller.update(kl, episodes)
    assert kl == pytest.approx(target, rel=0.3)
