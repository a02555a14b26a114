"""Rewards of one model and of several."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headwater.errors import UserError
from headwater.models.answer import Answer
from headwater.models.layout import save_model
from headwater.rlhf.scoring import RewardEnsemble, RewardModel, load_reward, member_names, raw_scores, spread
from tiny import tiny_model

ANSWERS = [Answer([1], [2, 3]), Answer([4, 5]), Answer([6, 7, 8], [9])]
DIALOGUES = [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
NORMALISERS = [(2.0, -1.0), (1.0, 0.5), (3.0, 0.0)]


@pytest.fixture
def folder(tmp_path):
    """Three reward models as the reward stage lays them out."""
    for seed, (name, (gain, bias)) in enumerate(zip(member_names(3), NORMALISERS, strict=True)):
        model = tiny_model("reward", seed=seed)
        save_model(model, tmp_path / name, pad=0, eos=4, extra={"gain": gain, "bias": bias})
    return tmp_path


def test_the_first_member_lies_where_a_single_reward_model_does(folder):
    assert member_names(1) == ["model"]
    assert isinstance(load_reward(folder), RewardModel)
    assert (folder / "model-3").is_dir()


@pytest.mark.parametrize("pessimism", [0.0, 0.7])
def test_the_reward_is_the_mean_of_normalised_scores_less_their_deviation(folder, pessimism):
    found = load_reward(folder, 3, pessimism)(ANSWERS)
    each = np.array(
        [
            gain * raw_scores(tiny_model("reward", seed=seed), DIALOGUES).numpy() + bias
            for seed, (gain, bias) in enumerate(NORMALISERS)
        ]
    )
    expected = each.mean(axis=0) - pessimism * each.std(axis=0, ddof=1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_equal_members_are_as_good_as_one_whatever_the_pessimism():
    one = RewardModel(tiny_model("reward"), 2.0, 1.0)
    torch.testing.assert_close(RewardEnsemble([one] * 3, 5.0)(ANSWERS), one(ANSWERS))


@pytest.mark.parametrize("pessimism", [0.0, 2.0])
def test_the_members_together_have_mean_0_and_deviation_1_and_are_kept_so(folder, pessimism):
    before = load_reward(folder, 3, pessimism)
    fitted = before.fitted(DIALOGUES, folder)
    scores = fitted(ANSWERS).double().numpy()
    assert scores.mean() == pytest.approx(0, abs=1e-4)
    assert scores.std(ddof=1) == pytest.approx(1, abs=1e-4)
    each = before.each(DIALOGUES).double().numpy()
    plain = each.mean(axis=0) - pessimism * each.std(axis=0, ddof=1)
    assert plain.std(ddof=1) < 0.99 or plain.std(ddof=1) > 1.01  # else nothing would be fitted here
    np.testing.assert_allclose(scores, (plain - plain.mean()) / plain.std(ddof=1), atol=1e-3)
    for kept in (load_reward(folder, 3, pessimism), load_reward(folder, 3), fitted.frozen(torch.float32)):
        torch.testing.assert_close(kept(ANSWERS), fitted(ANSWERS))
        assert kept.pessimism == pessimism


def test_what_was_fitted_is_for_its_pessimism_and_for_normalised_scores(folder):
    plain, raw = load_reward(folder, 3, 0.5), load_reward(folder, 3, normalise=False)
    load_reward(folder, 3, 1.0).fitted(DIALOGUES, folder)
    torch.testing.assert_close(load_reward(folder, 3, 0.5)(ANSWERS), plain(ANSWERS))
    torch.testing.assert_close(load_reward(folder, 3, 0.0, normalise=False)(ANSWERS), raw(ANSWERS))


def test_members_that_cancel_each_other_out_cannot_be_normalised(folder):
    one = load_reward(folder).model
    members = RewardEnsemble([RewardModel(one, 1.0, 0.0), RewardModel(one, -1.0, 0.0)])
    with pytest.raises(UserError, match="The ensemble of reward models gives every answer the same score"):
        members.fitted(DIALOGUES, folder)


def test_one_alone_is_the_reward_itself_and_has_no_spread():
    one = RewardModel(tiny_model("reward"), 2.0, 1.0)
    alone = RewardEnsemble([one])
    assert torch.equal(alone.scores(DIALOGUES), one.scores(DIALOGUES))
    assert spread(alone.each(DIALOGUES)) is None


def test_the_spread_is_the_mean_of_the_members_deviations(folder):
    each = load_reward(folder, 3).each(DIALOGUES)
    assert spread(each) == pytest.approx(each.numpy().std(axis=0, ddof=1).mean(), rel=1e-5)


def test_an_ensemble_in_another_number_format_is_near(folder):
    reward = load_reward(folder, 3, 0.5)
    rounded = reward.frozen(torch.bfloat16)
    assert rounded.model.dtype == torch.bfloat16
    torch.testing.assert_close(rounded(ANSWERS), reward(ANSWERS), atol=0.2, rtol=0.05)


def test_without_normalising_scores_come_as_they_are(folder):
    raw = raw_scores(tiny_model("reward", seed=0), DIALOGUES)
    torch.testing.assert_close(load_reward(folder, normalise=False)(ANSWERS), raw)


def test_a_missing_normaliser_is_refused_or_said(folder, capsys):
    save_model(tiny_model("reward"), folder / "model-2", pad=0, eos=4)
    with pytest.raises(UserError, match="model-2 has no normaliser"):
        load_reward(folder, 3)
    reward = load_reward(folder, 3, strict=False)
    assert (reward.members[1].gain, reward.members[1].bias) == (1.0, 0.0)
    assert "model-2 has no normaliser" in capsys.readouterr().err


def test_a_model_that_is_no_reward_model_is_refused(tmp_path):
    save_model(tiny_model(), tmp_path / "model", pad=0, eos=4)
    with pytest.raises(UserError, match="holds no reward model"):
        load_reward(tmp_path, strict=False)
