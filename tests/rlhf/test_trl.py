"""What trl 1.12 still computes of PPO, reward models, DPO, RLOO and GRPO, beside ours on the same models and tokens.

Where both mean different things, by choice, the test says which part is compared.
"""

from __future__ import annotations

import functools
import inspect
from types import SimpleNamespace

import pytest
import torch

from headwater.models.answer import Answer
from headwater.models.layout import save_model
from headwater.objectives.direct_preference import DirectPreference
from headwater.objectives.policy import Policy, clipped_policy_loss, clipped_value_loss, episode_row
from headwater.objectives.preference import Preference, pair_loss
from headwater.rlhf.algorithm import (
    generalised_advantages,
    group_normalised,
    kl_penalised_rewards,
    leave_one_out,
    masked_mean,
    whiten,
)
from headwater.rlhf.episodes import log_probabilities_of, response_mask
from headwater.rlhf.preference_pairs import Pair, pair_groups
from headwater.rlhf.scoring import raw_scores
from headwater.rlhf.settings import PpoSettings
from headwater.training.batch import collate
from tiny import lively_model, tiny_model
from trl_pieces import piece, run_lines, trainer

PAD = -1
"""To trl padding is whatever has this id, which no token has."""
CONTEXT = 5
"""Tokens of the longest prompt."""
PROMPTS = [[1, 2], [9], [4, 4, 7, 8, 3], [10, 2, 2], [6, 1], [3, 3, 3, 5]] * 2
TEMPERATURE = 0.7


@pytest.fixture(scope="module")
def ppo():
    return piece("trl.experimental.ppo.ppo_trainer")


def answers_to(prompts):
    """Random tokens, of different lengths."""
    generator = torch.Generator().manual_seed(1)
    return [
        Answer(prompt, torch.randint(16, (1 + 3 * place % 8,), generator=generator).tolist())
        for place, prompt in enumerate(prompts)
    ]


def policy_model():
    return lively_model(seed=3, vocabulary=16, factor=5.0)


@pytest.fixture(scope="module")
def answers():
    return answers_to(PROMPTS)


def side_by_side(answers):
    """Prompts padded on the left, responses on the right, as trl has them: [answers, time]."""
    longest = max(len(answer.tokens) for answer in answers)
    return torch.tensor(
        [
            [PAD] * (CONTEXT - len(answer.prompt)) + answer.prompt + answer.tokens
            + [PAD] * (longest - len(answer.tokens))
            for answer in answers
        ]
    )  # fmt: skip


def as_transformers(model, folder, kind):
    transformers = piece("transformers")
    save_model(model, folder, pad=0, eos=5)
    return getattr(transformers, f"AutoModelFor{kind}").from_pretrained(folder, dtype=torch.float32).eval()


def ragged(episodes=6, time=9, seed=0):
    """A mask of answers of different lengths, two of them whole, and random values per token."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, time, (episodes,), generator=generator)
    lengths[0], lengths[1:3] = 1, time
    mask = (torch.arange(time) < lengths[:, None]).float()
    return mask, *(torch.randn(episodes, time, generator=generator) for _ in range(5))


def test_the_score_is_read_where_trl_reads_it(answers, tmp_path):
    model = tiny_model("reward", seed=4, vocabulary=16)
    with torch.no_grad():
        model.backbone.embedding.weight.mul_(20)
    theirs = as_transformers(model, tmp_path, "SequenceClassification")
    with torch.no_grad():
        _, scores, last = piece("trl.experimental.utils").get_reward(theirs, side_by_side(answers), PAD, CONTEXT)
    assert (last - CONTEXT + 1).tolist() == [len(answer.tokens) for answer in answers]
    assert float(scores.std()) > 0.01
    found = raw_scores(model, [answer.prompt + answer.tokens for answer in answers])
    torch.testing.assert_close(found, scores, atol=1e-5, rtol=1e-4)


def test_log_probabilities_of_responses_are_trl_s(ppo, answers, tmp_path):
    policy = policy_model()
    theirs = as_transformers(policy, tmp_path, "CausalLM")
    dialogues = side_by_side(answers)
    responses = dialogues[:, CONTEXT:].clamp(min=0)
    with torch.no_grad():
        logits = ppo.forward(theirs, dialogues, PAD).logits[:, CONTEXT - 1 : -1] / (TEMPERATURE + 1e-7)
    expected = piece("trl.trainer.utils").selective_log_softmax(logits, responses) * response_mask(answers)
    found = log_probabilities_of(policy, answers, TEMPERATURE)
    torch.testing.assert_close(found, expected, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5)])
def test_advantages_returns_and_their_whitening_are_trl_s(ppo, seed, gamma, lam):
    mask, rewards, values, *_ = ragged(seed=seed)
    rewards, values = rewards * mask, values * mask  # past the end trl may have a reward and a value of its own
    theirs = run_lines(
        ppo.PPOTrainer.train, "lastgaelam = 0", "advantages = torch.masked_fill(", rewards=rewards, values=values,
        responses=mask, padding_mask=~mask.bool(), args=SimpleNamespace(gamma=gamma, lam=lam),
    )  # fmt: skip
    found = generalised_advantages(rewards, values, mask, gamma, lam)
    torch.testing.assert_close(found + values, theirs["returns"] * mask, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whiten(found, mask), theirs["advantages"], atol=1e-5, rtol=1e-5)


def test_rewards_are_trl_s_but_for_the_place_of_the_score(ppo):
    """trl adds the score one place past the last token where there is room, we at the last token: of answers that fill all
    places both are the same, and of the others all but these two places."""
    mask, own, reference, *_ = ragged(seed=5)
    scores = torch.arange(len(mask)).float() - 2
    last = mask.sum(dim=1).long() - 1
    theirs = run_lines(
        ppo.PPOTrainer.train, "logr = ref_logprobs - logprobs", "rewards[actual_start, actual_end] += scores",
        logprobs=own * mask, ref_logprobs=reference * mask, scores=scores, sequence_lengths=last,
        sequence_lengths_p1=last + 1, args=SimpleNamespace(kl_estimator="k1", kl_coef=0.3),
    )["rewards"]  # fmt: skip
    found = kl_penalised_rewards(scores, own, reference, mask, beta=0.3)
    whole = mask.sum(dim=1) == mask.shape[1]
    assert 0 < int(whole.sum()) < len(mask)
    torch.testing.assert_close(found[whole], theirs[whole])
    torch.testing.assert_close(found.sum(dim=1), theirs.sum(dim=1))
    rows = torch.arange(len(mask))
    found[rows, last] -= scores
    torch.testing.assert_close(found, torch.where(mask.bool(), theirs, 0.0) - _placed(scores * whole, last, mask))


def _placed(scores, places, like):
    placed = torch.zeros_like(like)
    placed[torch.arange(len(scores)), places] = scores
    return placed


@pytest.mark.parametrize("seed", range(3))
def test_the_losses_of_policy_and_critic_are_trl_s(ppo, seed):
    mask, old, advantages, old_values, returns, noise = ragged(seed=seed)
    new, values = old + 0.3 * noise, old_values + 0.5 * noise
    every = slice(None)
    theirs = run_lines(
        ppo.PPOTrainer.train, "vpredclipped = torch.clamp(", "pg_loss = masked_mean(", vpred=values,
        mb_values=old_values, mb_return=returns, mb_advantage=advantages, mb_logprobs=old, new_logprobs=new,
        micro_batch_inds=every, padding_mask=~mask.bool(), padding_mask_p1=~mask.bool(),
        args=SimpleNamespace(cliprange=0.2, cliprange_value=0.2),
    )  # fmt: skip
    policy = masked_mean(clipped_policy_loss((new - old).exp(), advantages, 0.2), mask)
    critic = masked_mean(clipped_value_loss(values, old_values, returns, 0.2), mask)
    torch.testing.assert_close(policy, theirs["pg_loss"])
    torch.testing.assert_close(critic, theirs["vf_loss"])


@pytest.mark.parametrize("margin", [0.0, 0.4])
@pytest.mark.parametrize("centring", [0.0, 0.01])
def test_the_loss_of_pairs_is_that_of_trl_s_reward_trainer(margin, centring):
    """The whole objective, gradient included: pairs are rankings of two, whose grades make the margin."""
    module = piece("trl.trainer.reward_trainer")
    model = tiny_model("reward", seed=6, vocabulary=16)
    objective = Preference(margin=margin, centring=centring)
    pairs = [([1, 2, 3], [1, 2, 4, 4], 2.5), ([5, 6], [5, 7, 8], 0.5), ([9, 2, 2], [9, 3], 1.0)]
    rows = [
        row
        for number, (better, worse, apart) in enumerate(pairs)
        for row in objective.prepare([better, worse], [0, 1], number, grades=[apart, 0.0])
    ]
    batch = collate(rows)
    found = objective.loss({"reward": model}, batch)["loss"].sum / len(pairs)
    (ours,) = torch.autograd.grad(found, model.backbone.embedding.weight)
    scores = model.scores(batch.ids, batch.lengths)
    inputs = {"attention_mask": torch.ones(1), "margin": margin * torch.tensor([apart for *_, apart in pairs])}
    loss = module.RewardTrainer.compute_loss(
        trainer(args=SimpleNamespace(center_rewards_coefficient=centring or None)),
        lambda **_: SimpleNamespace(logits=torch.cat([scores[::2], scores[1::2]])[:, None]),
        inputs if margin else {"attention_mask": torch.ones(1)},
    )
    (theirs,) = torch.autograd.grad(loss, model.backbone.embedding.weight)
    torch.testing.assert_close(found, loss)
    torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-4)


def test_large_differences_of_scores_are_trl_s_too():
    better, worse = torch.tensor([80.0, -80.0, 0.0]), torch.tensor([-80.0, 80.0, 0.0])
    module = piece("trl.trainer.reward_trainer")
    loss = module.RewardTrainer.compute_loss(
        trainer(args=SimpleNamespace(center_rewards_coefficient=0.01)),
        lambda **_: SimpleNamespace(logits=torch.cat([better, worse])[:, None]),
        {"attention_mask": torch.ones(1)},
    )
    found = pair_loss(better, worse, torch.zeros(3, dtype=torch.bool), centring=0.01)
    torch.testing.assert_close(found.mean(), loss)


PAIRS = [
    Pair(Answer([1, 2], [5, 6, 3]), Answer([1, 2], [7, 3])),
    Pair(Answer([4], [8, 9, 10, 3]), Answer([4], [11, 3])),
    Pair(Answer([5, 5, 6], [3]), Answer([5, 5, 6], [12, 13, 3])),
]


class Asked(torch.nn.Module):
    """A model of ours as trl asks it."""

    is_gradient_checkpointing = False

    def __init__(self, model):
        super().__init__()
        self.own = model

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.own(input_ids))


def their_dpo(policy, reference, pairs, loss_type, beta, smoothing):
    """The loss of trl's trainer, from the token ids on."""
    rows = [*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)]
    width = max(len(row.prompt + row.tokens) for row in rows)
    ids, mask = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(2))
    for place, row in enumerate(rows):
        whole = row.prompt + row.tokens
        ids[place, : len(whole)] = torch.tensor(whole)
        mask[place, len(row.prompt) : len(whole)] = 1
    given = trainer(
        loss_types=[loss_type], loss_weights=[1.0], beta=beta, label_smoothing=smoothing, ld_alpha=None,
        f_divergence_type="reverse_kl", use_weighting=False, precompute_ref_logps=False,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        ref_model=Asked(reference), model=Asked(policy),
    )  # fmt: skip
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": mask}
    return piece("trl.trainer.dpo_trainer").DPOTrainer._compute_loss(given, given.model, inputs, False)


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_the_dpo_loss_and_its_gradient_are_trl_s(beta):
    policy, reference = lively_model(seed=1, vocabulary=14), lively_model(seed=2, vocabulary=14)
    objective = DirectPreference(beta)
    batch = collate([row for group in pair_groups(PAIRS, reference, objective) for row in group])
    found = objective.loss({"policy": policy}, batch)["loss"].sum / len(PAIRS)
    (ours,) = torch.autograd.grad(found, policy.backbone.embedding.weight)
    loss = their_dpo(policy, reference, PAIRS, "sigmoid", beta, 0.0)
    (theirs,) = torch.autograd.grad(loss, policy.backbone.embedding.weight)
    torch.testing.assert_close(found, loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("smoothing", [0.1, 0.3])
def test_label_smoothing_is_that_of_trl_s_losses_which_have_it(smoothing):
    """`robust` divides by 1 − 2ε and has the other sign before ε; `aot` has ours, and sorts a batch, which for one pair is
    nothing."""
    policy, reference = lively_model(seed=1, vocabulary=14), lively_model(seed=2, vocabulary=14)
    objective, plain, turned = (DirectPreference(0.3, share) for share in (smoothing, 0.0, 1.0))
    for pair in PAIRS:
        batch = collate([row for group in pair_groups([pair], reference, objective) for row in group])
        found, right, wrong = (each.loss({"policy": policy}, batch)["loss"].sum for each in (objective, plain, turned))
        torch.testing.assert_close(found, their_dpo(policy, reference, [pair], "aot", 0.3, smoothing))
        robust = their_dpo(policy, reference, [pair], "robust", 0.3, smoothing)
        torch.testing.assert_close(((1 - smoothing) * right - smoothing * wrong) / (1 - 2 * smoothing), robust)


def test_leave_one_out_advantages_are_trl_s():
    """From the rewards on, the KL of whole answers taken off."""
    mask, own, reference, *_ = ragged(episodes=12, seed=8)
    scores = torch.randn(12, generator=torch.Generator().manual_seed(8))
    theirs = run_lines(
        piece("trl.trainer.rloo_trainer").RLOOTrainer._generate_and_score_completions,
        "# Include the KL penalty in the reward", "advantages = torch.nan_to_num(", gather=lambda value: value,
        rewards=scores, old_per_token_logps=own, ref_per_token_logps=reference, completion_mask=mask,
        num_generations=4, self=SimpleNamespace(beta=0.3, normalize_advantages=False),
    )["advantages"]  # fmt: skip
    rewards = kl_penalised_rewards(scores, own, reference, mask, beta=0.3)
    torch.testing.assert_close(leave_one_out(rewards.sum(dim=1), 4), theirs, atol=1e-5, rtol=1e-5)


def test_group_normalised_advantages_are_trl_s():
    scores = torch.randn(12, generator=torch.Generator().manual_seed(9))
    scores[4:8] = 1.5  # a group that is all alike
    theirs = run_lines(
        piece("trl.trainer.grpo_trainer").GRPOTrainer._generate_and_score_completions,
        "unscorable_mask = torch.isnan(", "advantages = torch.nan_to_num(", rewards_per_func=scores[:, None],
        num_generations=4, device="cpu",
        self=SimpleNamespace(
            multi_objective_aggregation="sum_then_normalize", scale_rewards="group", reward_weights=torch.ones(1)
        ),
    )["advantages"]  # fmt: skip
    torch.testing.assert_close(group_normalised(scores, 4), theirs, atol=1e-6, rtol=1e-5)


def episodes(policy, answers, seed):
    """A batch as `Rollouts` makes it, and the same numbers per response token, [answers, longest response]."""
    generator = torch.Generator().manual_seed(seed)
    mask = response_mask(answers)
    now = log_probabilities_of(policy, answers, TEMPERATURE)
    old, reference = (now + scale * torch.randn(mask.shape, generator=generator) for scale in (0.2, 0.5))
    advantages = torch.randn(len(answers), generator=generator)
    return mask, now, old, reference, advantages


def batch_of(answers, beta, **per_token):
    rows = []
    for index, answer in enumerate(answers):
        row = episode_row(answer, index)
        row.per_row |= {"critic_only": 0, "beta": beta}
        places = row.per_token["mask"].bool()
        for name, values in per_token.items():
            said = values[index, : len(answer.tokens)]
            row.per_token[name] = torch.zeros(len(row.ids)).masked_scatter(places, said)
        rows.append(row)
    return collate(rows)


def their_group_loss(module, name, policy, answers, inputs, **settings):
    """Of trl's RLOO or GRPO trainer, from the token ids on; prompts of one length."""
    longest = max(len(answer.tokens) for answer in answers)
    completions = torch.tensor([answer.tokens + [0] * (longest - len(answer.tokens)) for answer in answers])
    prompts = torch.tensor([answer.prompt for answer in answers])
    kind = getattr(piece(module), name)
    given = trainer(temperature=TEMPERATURE, epsilon_low=0.2, epsilon_high=0.2, **settings)
    given._get_per_token_logps_and_entropies = functools.partial(
        inspect.unwrap(kind._get_per_token_logps_and_entropies), given
    )  # without its profiler
    mask = response_mask(answers)
    tokens = {"prompt_ids": prompts, "prompt_mask": torch.ones_like(prompts), "completion_ids": completions}
    return kind._compute_loss(
        given, Asked(policy),
        tokens | {"completion_mask": mask.long()} | inputs,
    )  # fmt: skip


@pytest.fixture(scope="module")
def of_one_length():
    return policy_model(), answers_to([[1, 2]] * 8)


@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_the_loss_of_grpo_and_its_gradient_are_trl_s(of_one_length, beta):
    """The form that takes the mean over all tokens, which trl calls `bnpo`."""
    policy, answers = of_one_length
    mask, _, old, reference, advantages = episodes(policy, answers, seed=1)
    objective = Policy(PpoSettings(estimator="grpo", group=4, episodes=8, temperature=TEMPERATURE, clip=0.2))
    batch = batch_of(
        answers, beta, old_log_probabilities=old, reference=reference, advantages=advantages[:, None] * mask
    )
    terms = objective.loss({"policy": policy}, batch)
    found = (terms["policy_loss"].sum + terms["kl_loss"].sum) / mask.sum()
    (ours,) = torch.autograd.grad(found, policy.backbone.embedding.weight)
    assert 0 < float(terms["clip_fraction"].sum) < float(mask.sum())
    inputs = {"advantages": advantages, "old_per_token_logps": old, "ref_per_token_logps": reference}
    loss = their_group_loss(
        "trl.trainer.grpo_trainer", "GRPOTrainer", policy, answers, inputs, beta=beta, loss_type="bnpo",
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token", use_vllm=False,
        _entropy_bonus_enabled=False, args=SimpleNamespace(use_bias_correction_kl=False, delta=None),
    )  # fmt: skip
    (theirs,) = torch.autograd.grad(loss, policy.backbone.embedding.weight)
    torch.testing.assert_close(found, loss, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


def test_the_first_gradient_of_rloo_is_trl_s(of_one_length):
    """trl's ratio is that of a whole answer and its mean is over answers; ours are both of tokens. Before the first update
    all ratios are 1, and the gradients differ by tokens per answer alone."""
    policy, answers = of_one_length
    mask, now, _, _, advantages = episodes(policy, answers, seed=2)
    objective = Policy(PpoSettings(estimator="rloo", group=4, episodes=8, temperature=TEMPERATURE, clip=0.2))
    batch = batch_of(answers, 0.0, old_log_probabilities=now, advantages=advantages[:, None] * mask)
    terms = objective.loss({"policy": policy}, batch)
    (ours,) = torch.autograd.grad(terms["policy_loss"].sum / len(answers), policy.backbone.embedding.weight)
    inputs = {"advantages": advantages, "old_logps": (now * mask).sum(dim=1)}
    loss = their_group_loss("trl.trainer.rloo_trainer", "RLOOTrainer", policy, answers, inputs)
    (theirs,) = torch.autograd.grad(loss, policy.backbone.embedding.weight)
    assert float(theirs.abs().max()) > 1e-3
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
