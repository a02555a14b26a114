"""Checkpoints: whole or passed over."""

from __future__ import annotations

import random
import shutil

import pytest
import torch

from headwater.training import checkpoint

FILES = ("state.json", "tensors.safetensors", "checksums.json")


def state(mark):
    return {
        "step": mark,
        "learners": {"policy": {"masters": {"a.weight": torch.full((4, 3), float(mark))}}},
        "optimisers": [
            {"state": {0: {"step": torch.tensor(3.0)}, 7: {"buffer": torch.arange(5)}}, "betas": (0.9, 0.95)}
        ],
        "score": float("-inf"),
        "rate": 0.1 + 0.2,
        "none": None,
        "random": torch.get_rng_state(),
    }


@pytest.fixture
def folder(tmp_path):
    for mark in (10, 20):
        checkpoint.save(tmp_path / "checkpoints", mark, state(mark))
    return tmp_path / "checkpoints"


def newest(folder):
    found = checkpoint.load_newest(folder)
    return found and found[0]


def test_everything_comes_back_as_it_was(folder):
    step, found = checkpoint.load_newest(folder)
    expected = state(20)
    assert step == found["step"] == 20
    assert torch.equal(found["learners"]["policy"]["masters"]["a.weight"], torch.full((4, 3), 20.0))
    moments = found["optimisers"][0]["state"]
    assert set(moments) == {0, 7}, "whole numbers as keys stay whole numbers"
    assert torch.equal(moments[7]["buffer"], torch.arange(5))
    assert moments[7]["buffer"].dtype == torch.int64
    assert found["optimisers"][0]["betas"] == [0.9, 0.95]
    assert (found["score"], found["rate"], found["none"]) == (float("-inf"), 0.1 + 0.2, None)
    assert torch.equal(found["random"], expected["random"])


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_goes_back_to_the_one_before(folder, name, capsys):
    whole = (folder / "00000020" / name).read_bytes()
    for place in random.Random(1).sample(range(8 * len(whole)), 25):
        copy = folder.with_name(f"bit-{place}")  # a damaged checkpoint is removed: each bit has a folder of its own
        shutil.copytree(folder, copy)
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        (copy / "00000020" / name).write_bytes(damaged)
        assert newest(copy) == 10, f"bit {place} of {name}"
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "less one byte", "a folder"])
def test_a_file_that_is_not_whole_goes_back_to_the_one_before(folder, name, damage):
    path = folder / "00000020" / name
    whole = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "less one byte": whole[:-1]}[damage])
    assert newest(folder) == 10


@pytest.mark.parametrize("content", ["[]", "null", "3", '"text"', "{}", '{"state.json": "0"}'])
def test_checksums_of_another_shape_are_damage(folder, content):
    (folder / "00000020" / "checksums.json").write_text(content)
    assert newest(folder) == 10


def test_without_any_whole_checkpoint_there_is_none(folder, tmp_path):
    for path in folder.glob("*/state.json"):
        path.write_text("{}")
    assert checkpoint.load_newest(folder) is None
    assert checkpoint.load_newest(tmp_path / "nowhere") is None


def test_a_save_that_was_cut_short_is_no_checkpoint(folder):
    (folder / ".00000030.partial").mkdir()
    (folder / ".00000030.partial" / "state.json").write_text("{")
    assert newest(folder) == 20
    checkpoint.save(folder, 30, state(30))
    assert newest(folder) == 30
    assert sorted(path.name for path in folder.iterdir()) == ["00000020", "00000030"]


def test_a_save_that_fails_leaves_the_ones_before(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(Exception, match="space"):
        checkpoint.save(folder, 30, state(30))
    assert newest(folder) == 20


def test_the_same_step_can_be_saved_again(folder):
    changed = state(20) | {"rate": 7.0}
    checkpoint.save(folder, 20, changed)
    assert checkpoint.load_newest(folder)[1]["rate"] == 7.0


def test_two_checkpoints_are_kept(folder):
    for mark in (30, 40, 50):
        checkpoint.save(folder, mark, state(mark))
    assert sorted(path.name for path in folder.iterdir()) == ["00000040", "00000050"]


def test_tensors_that_share_memory_can_be_saved(tmp_path):
    tensor = torch.arange(6.0)
    checkpoint.save(tmp_path, 1, {"a": tensor, "b": tensor, "view": tensor.view(2, 3).T})
    _, found = checkpoint.load_newest(tmp_path)
    assert torch.equal(found["a"], found["b"])
    assert torch.equal(found["view"], tensor.view(2, 3).T)
