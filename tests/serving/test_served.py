"""Which models a user's words mean, and what each is served for."""

from __future__ import annotations

import pytest
import torch

from headwater.errors import UserError
from headwater.models.layout import load_model
from headwater.rlhf.scoring import load_reward
from headwater.serving import served as models
from headwater.serving.served import EMBEDS, SCORES, WRITES, earlier, find, load
from served import write_model


@pytest.fixture
def root(tmp_path):
    """A run with two writers and a reward model, and a folder of its own."""
    run = tmp_path / "runs" / "r"
    for seed, stage in enumerate(("sft", "ppo")):
        write_model(run / stage / "model", seed=seed)
    write_model(run / "reward" / "model", "reward")
    (run / "recipe.yaml").write_text("run: r\n")
    write_model(tmp_path / "mine")
    return tmp_path / "runs"


def test_a_run_stands_for_its_best_writer_and_its_reward_model(root):
    run = root / "r"
    assert find(["r"], root) == {"r/ppo": run / "ppo" / "model", "r/reward": run / "reward" / "model"}
    assert find([str(run)], root).keys() == {"r/ppo", "r/reward"}


def test_what_came_before_a_run_s_policy_is_offered(root):
    later = root / "r-round-2"
    for seed, stage in enumerate(("sft", "ppo")):
        write_model(later / stage / "model", seed=seed)
    (later / "recipe.yaml").write_text("run: r-round-2\nround: {of: r, number: 2}\ncorpus: {sources: [{folder: x}]}\n")
    assert earlier(["r"], root) == {"r/sft": root / "r" / "sft" / "model"}
    assert list(earlier(["r-round-2"], root)) == ["r-round-2/sft", "r/ppo"]
    assert earlier(["r/ppo", str(root.parent / "mine"), str(root / "r" / "ppo")], root) == {}, "no whole run"
    (root / "r" / "ppo" / "model" / "config.json").unlink()
    assert list(earlier(["r-round-2"], root)) == ["r-round-2/sft"]


def test_a_model_that_is_not_loaded_tells_what_the_loaded_one_would(root):
    folder = root / "r" / "sft" / "model"
    found, loaded = models.unloaded("r/sft", folder, torch.float32), load("r/sft", folder, torch.float32)
    assert (found.name, found.does, found.created, found.context) == ("r/sft", WRITES, loaded.created, loaded.context)
    assert found.load().name == "r/sft"


def test_stages_and_folders_are_served_alone(root):
    assert list(find(["r/sft", "r/ppo"], root)) == ["r/sft", "r/ppo"]
    assert list(find([str(root.parent / "mine"), "r/reward"], root)) == ["mine", "r/reward"]
    assert list(find([str(root / "r" / "sft" / "model")], root)) == ["r/sft"]
    assert list(find(["r", "r/ppo"], root)) == ["r/ppo", "r/reward"], "once"


def test_what_cannot_be_served_is_told(root, tmp_path):
    write_model(tmp_path / "elsewhere" / "mine")
    with pytest.raises(UserError, match="Two models would be called mine"):
        find([str(tmp_path / "mine"), str(tmp_path / "elsewhere" / "mine")], root)
    with pytest.raises(UserError, match="Nothing to serve"):
        find([], root)
    with pytest.raises(UserError, match="There is no run `nothing`"):
        find(["nothing"], root)
    with pytest.raises(UserError, match="critic model, for which there is no endpoint"):
        load("c", write_model(tmp_path / "critic", "critic"), torch.float32)
    (tmp_path / "mine" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="has no tokenizer"):
        load("mine", tmp_path / "mine", torch.float32)


def test_only_writers_change_their_number_format(tmp_path):
    kinds = {"language-model": WRITES, "reward": SCORES, "hidden": EMBEDS}
    for kind, does in kinds.items():
        found = load(kind, write_model(tmp_path / kind, kind), torch.bfloat16)
        assert found.does == does
        assert found.model.dtype == (torch.bfloat16 if does == WRITES else torch.float32)
        assert (found.reward is None) == (does != SCORES)


def test_an_ensemble_scores_as_one(tmp_path):
    for seed, name in enumerate(("model", "model-2")):
        write_model(tmp_path / name, "reward", seed)
    found, expected = load("e", tmp_path / "model", torch.float32), load_reward(tmp_path, 2)
    rows = [[5, 6, 7], [8, 9]]
    assert found.reward is not None
    assert torch.equal(found.reward.scores(rows), expected.scores(rows))
    alone = models.RewardModel(load_model(tmp_path / "model"), 2.0, -1.0)
    assert not torch.equal(found.reward.scores(rows), alone.scores(rows))
