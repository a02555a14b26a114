"""The PPO stage on a run of toys: what it follows, what it refuses, and that a failing reward loses nothing."""

from __future__ import annotations

import json

import pytest
import torch

from headwater.corpus.shards import TokenisedDocument, write_shards
from headwater.errors import UserError
from headwater.models.layout import load_model, save_model
from headwater.recipe import validate
from headwater.rlhf.rollouts import Rollouts
from headwater.rlhf.selection import Yardstick
from headwater.runs import Stage
from headwater.stages import ppo
from headwater.training import checkpoint
from headwater.training.engine import Engine
from headwater.training.learner import Learner
from headwater.training.log import read_metrics
from tiny import lively_model, same_weights, tiny_model, weights_of
from words import small_tokenizer

VOCABULARY = 394
GOOD = {"accuracy": 0.8, "accuracy_ci": [0.75, 0.85], "length_baseline": 0.55, "sft_length": 5.0}
WORDS = ["We", "carry", "most", "of", "the", "water", "and", "nearly", "all", "of", "the", "matter", "downstream"]


@pytest.fixture
def parents(tmp_path):
    """Finished stages: samples, tokens, SFT model, reward models."""
    names = ("samples", "tokenizer", "sft", "reward")
    tokenizer, folders = small_tokenizer(), {name: tmp_path / name for name in names}
    text = [1, *tokenizer.encode(" ".join(WORDS)), 1]
    documents = [TokenisedDocument(text[:length], length, "x") for length in range(9, 30)]
    write_shards(folders["tokenizer"] / "tokens" / "train", documents, tokenizer.vocabulary)
    folders["samples"].mkdir()
    with (folders["samples"] / "reviews.jsonl").open("w") as file:
        for index in range(24):
            text = " ".join(WORDS[(index + place) % len(WORDS)] for place in range(6))
            share = ("train", "select")[index % 2]
            line = {
                "id": str(index),
                "text": text,
                "source": "film-reviews",
                "share": share,
                "mean": 1.0,
                "ratings": [1],
            }
            file.write(json.dumps(line) + "\n")
    policy = lively_model(vocabulary=VOCABULARY)
    models = {
        "sft/model": policy,
        **{f"reward/{n}": policy.with_head("reward", 3) for n in ("model", "model-2", "selection")},
    }
    for name, model in models.items():
        extra = {"gain": 2.0, "bias": 0.1} if name.startswith("reward") else None
        save_model(model, tmp_path / name, pad=tokenizer.pad, eos=tokenizer.end_of_turn, extra=extra)
        tokenizer.save(tmp_path / name, 64)
    measured(folders, GOOD)
    return folders


def measured(parents, metrics):
    (parents["reward"] / "manifest.json").write_text(json.dumps({"metrics": metrics}))


def stage(parents, folder, settings=None, reward=None):
    quick = {
        "steps": 3, "episodes": 4, "epochs": 1, "minibatches": 2, "max_new_tokens": 4, "critic_warmup": 0,
        "evaluate_every": 1, "evaluate_prompts": 4,
    }  # fmt: skip
    recipe = validate(
        {
            "run": "r",
            "threads": 1,
            "corpus": {"sources": [{"samples": "reviews"}]},
            "pretrain": {"model": {"context": 64}},
            "sft": {"opening_words": [2, 2]},
            "reward": {"normalise_samples": 6} | (reward or {}),
            "ppo": quick | (settings or {}),
        },
        "test",
    )
    folder.mkdir(exist_ok=True)
    return Stage("ppo", recipe, folder, parents)


def test_a_reward_model_that_is_no_better_than_length_is_refused_before_any_training(parents, tmp_path):
    measured(parents, GOOD | {"length_baseline": 0.76})
    with pytest.raises(UserError, match=r"75.0% to 85.0%\), which is not clearly above length alone \(76.0%\)"):
        ppo.run(stage(parents, tmp_path / "ppo"))
    assert not (tmp_path / "ppo" / "metrics.jsonl").exists()
    found = ppo.run(stage(parents, tmp_path / "ppo", {"gate": False, "steps": 1}))
    assert found["steps"] == 1


def test_a_missing_normaliser_is_refused_before_any_training(parents, tmp_path, capsys):
    save_model(tiny_model("reward", vocabulary=VOCABULARY), parents["reward"] / "model", pad=0, eos=4)
    with pytest.raises(UserError, match="no normaliser"):
        ppo.reward_of(stage(parents, tmp_path / "ppo"), tiny_model(vocabulary=VOCABULARY), [], small_tokenizer())
    reward, _ = ppo.reward_of(
        stage(parents, tmp_path / "ppo", {"gate": False}), tiny_model(vocabulary=VOCABULARY), [], small_tokenizer()
    )
    assert reward.gain == 1.0
    assert "no normaliser" in capsys.readouterr().err


def test_the_critic_starts_from_the_reward_or_else_from_the_policy(parents, tmp_path):
    policy, tokenizer = load_model(parents["sft"] / "model"), small_tokenizer()
    ensemble, start = ppo.reward_of(
        stage(parents, tmp_path / "ppo", reward={"members": 2, "pessimism": 0.5}), policy, [], tokenizer
    )
    assert len(ensemble.members) == 2
    assert ensemble.pessimism == 0.5
    assert start is ensemble.model
    settings = {"reward": "python:json:dumps", "normalise": False}
    reward, start = ppo.reward_of(stage(parents, tmp_path / "ppo", settings), policy, [], tokenizer)
    assert (reward.gain, reward.bias) == (1.0, 0.0)
    assert start is policy
    critic = start.with_head("critic", 1)
    assert critic.kind == "critic"
    assert all(torch.equal(critic.backbone.state_dict()[name], w) for name, w in policy.backbone.state_dict().items())


FUNCTION = """
from pathlib import Path
calls = Path(__file__).with_name("calls")

def score(prompts, answers):
    assert set(prompts) == {{"Write a line of a film review."}}
    calls.write_text(calls.read_text() + "." if calls.exists() else ".")
    if len(calls.read_text()) == {fail}:
        raise ConnectionError("gone")
    return [answer.count("e") + 0.1 * len(answer) for answer in answers]
"""


def test_after_a_failing_reward_the_stage_goes_on_and_ends_as_if_nothing_had_been(parents, tmp_path):
    found = {}
    for name, fail in (("whole", 0), ("parts", 6)):  # of its calls, each iteration makes two
        (tmp_path / f"{name}.py").write_text(FUNCTION.format(fail=fail).replace('"calls"', f'"calls-{name}"'))
        given = stage(parents, tmp_path / f"ppo-{name}", {"reward": f"{tmp_path / name}.py:score"})
        if fail:
            with pytest.raises(UserError, match=r"failed \(ConnectionError: gone\)"):
                ppo.run(given)
            assert list((given.folder / "checkpoints").glob("0*"))
        metrics = ppo.run(given)
        assert len([line for line in read_metrics(given.folder / "metrics.jsonl") if "iteration" in line]) == 3
        found[name] = (
            metrics,
            weights_of(load_model(given.folder / "critic")),
            (given.folder / "reward.json").exists(),
        )
    assert found["whole"][0] == found["parts"][0]
    assert same_weights(found["whole"][1], found["parts"][1])
    assert found["whole"][2]
    assert isinstance(found["whole"][0]["warnings"], list)


class Killed(BaseException):
    """Nothing in the product catches it."""


def kill_at(monkeypatch, owner, name, call, after):
    """The process ends at this call of the function, just before it or just after."""
    real, calls = getattr(owner, name), []

    def killing(*given, **named):
        calls.append(name)
        if len(calls) == call and not after:
            raise Killed
        result = real(*given, **named)
        if len(calls) == call:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, killing)


MOMENTS = {
    "before the first rollout": (Rollouts, "collect", 1, False),
    "before the first update": (Engine, "update", 1, False),
    "after an iteration, which is not saved yet": (checkpoint, "save", 1, False),
    "while a checkpoint is written": (checkpoint, "finish_folder", 1, False),
    "between two iterations": (checkpoint, "save", 1, True),
    "when the policy has moved and the critic has not": (Learner, "update", 1, True),
    "between two updates of an iteration": (Engine, "train_step", 3, False),
    "while the policy is judged": (Yardstick, "measure", 2, True),
    "between two later iterations": (checkpoint, "save", 2, True),
    "when the policy is written and the critic is not": (ppo, "save_with_tokenizer", 2, False),
}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lora": {"rank": 2, "alpha": 4}, "ptx": {"coefficient": 0.5, "tokens": 100}},
        {"estimator": "rloo", "group": 2, "ptx": {"tokens": 64}, "precision": "bf16"},
    ],
    ids=["plain", "lora and texts", "rloo and texts in bf16"],
)
def test_a_run_that_is_killed_at_ten_moments_ends_bit_for_bit_as_an_undisturbed_one(
    settings, parents, tmp_path, monkeypatch
):
    given = {"steps": 4, "epochs": 2, "critic_warmup": 1, "policy_optimiser": {"learning_rate": 1e-2}} | settings
    whole = stage(parents, tmp_path / "whole", given)
    expected = ppo.run(whole)
    parts = stage(parents, tmp_path / "parts", given)
    for name, moment in MOMENTS.items():
        if moment[1] == "save_with_tokenizer" and "estimator" in settings:
            continue  # there is no critic
        with monkeypatch.context() as patch:
            kill_at(patch, *moment)
            with pytest.raises(Killed):
                ppo.run(parts)
        assert not (parts.folder / "critic").exists(), name
    assert ppo.run(parts) == expected
    for file in ("model/model.safetensors", "critic/model.safetensors"):
        if (whole.folder / file).exists():
            assert (parts.folder / file).read_bytes() == (whole.folder / file).read_bytes(), file
    lines = told(parts)
    assert lines == told(whole)
    assert ("ptx_loss" in lines[-1]) == ("ptx" in settings)
    assert lines[-1]["heldout_kl"] > 0, "the policy must have moved"


def told(stage):
    """What each iteration was like, to the last bit; not how fast it was."""
    lines = read_metrics(stage.folder / "metrics.jsonl")
    return [
        {name: value for name, value in line.items() if name not in ("tokens_per_second", "time")} for line in lines
    ]
