"""The pretrain stage with every objective: what it writes, what it measures, and that it goes on where it was stopped."""

from __future__ import annotations

import json
import math

import pytest
import torch

from headwater.corpus.shards import TokenisedDocument, write_shards
from headwater.errors import Interrupted, UserError
from headwater.models.layout import load_model, save_model
from headwater.objectives.pretraining import PRETRAINING
from headwater.recipe import validate
from headwater.runs import Stage
from headwater.stages import pretrain
from headwater.training.engine import Engine
from tiny import same_weights, tiny_model, weights_of
from words import CHINESE, ENGLISH, small_tokenizer

ARCHITECTURE = {"causal": "qwen3", "prefix": "gpt2", "masked": "bert", "denoising": "t5"}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """A finished tokenizer stage."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = small_tokenizer()
    tokenizer.save(folder, 32)
    for split, times in (("train", 6), ("heldout", 1)):
        documents = [
            TokenisedDocument([1, *tokenizer.encode(text), 1], len(text.encode()), "x")
            for text in [ENGLISH, CHINESE, ENGLISH[:50]] * times
        ]
        write_shards(folder / "tokens" / split, documents, tokenizer.vocabulary)
    return folder


def stage_of(objective, folder, tokens, base=None, pretraining=None, **changes):
    model = {"architecture": ARCHITECTURE[objective], "layers": 1, "d_model": 32, "heads": 2, "context": 32}
    if base:
        model = {"context": 32}
    settings = {"objective": objective, "model": model | changes, "tokens": 12_800, "batch_tokens": 256}
    settings |= {
        "optimiser": {"learning_rate": 1e-2},
        "precision": "fp32",
        "evaluate_every": 25,
        "checkpoint_every": 10,
    } | (pretraining or {})
    recipe = validate(
        {
            "run": "r",
            "base": base,
            "threads": 1,
            "corpus": {"sources": [{"samples": "reviews"}]},
            "tokenizer": {} if base else {"vocabulary": small_tokenizer().vocabulary},
            "pretrain": settings,
            "ppo": {"max_new_tokens": 8},
        },
        "test",
    )
    folder.mkdir()
    return Stage("pretrain", recipe, folder, {"tokenizer": tokens})


@pytest.mark.parametrize("objective", PRETRAINING)
def test_every_objective_makes_a_model_that_beats_frequencies_on_what_it_has_seen(objective, tokens, tmp_path):
    stage = stage_of(objective, tmp_path / "work", tokens, dropout=0.05)
    metrics = pretrain.run(stage)
    assert metrics["objective"] == objective
    assert metrics["tokens"] == 12_800
    assert 3 < metrics["unigram_loss"] < math.log(small_tokenizer().vocabulary)
    assert metrics["heldout_loss"] < metrics["unigram_loss"] - 0.3
    model = load_model(stage.folder / "model")
    assert (model.kind, model.config.form) == (PRETRAINING[objective].kind, PRETRAINING[objective].form)
    lines = [json.loads(line) for line in (stage.folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 50
    measured = [line for line in lines if "heldout_loss" in line or "bits_per_byte" in line]
    assert [line["step"] for line in measured] == [25, 50]
    assert len(metrics["samples"]) == (2 if model.config.form == "decoder" else 0)
    assert not (stage.folder / "checkpoints").exists()


@pytest.mark.parametrize("objective", ["masked", "denoising"])
def test_an_interrupted_stage_ends_as_an_undisturbed_one_with_dropout_too(objective, tokens, tmp_path, monkeypatch):
    whole = stage_of(objective, tmp_path / "whole", tokens, dropout=0.1)
    expected = pretrain.run(whole)
    parts = stage_of(objective, tmp_path / "parts", tokens, dropout=0.1)
    real = Engine.train_step

    def stopped(engine, batches):
        if engine.step == 24:
            raise Interrupted
        return real(engine, batches)

    monkeypatch.setattr(Engine, "train_step", stopped)
    with pytest.raises(Interrupted):
        pretrain.run(parts)
    monkeypatch.setattr(Engine, "train_step", real)
    torch.rand(17)
    found = pretrain.run(parts)
    assert found["heldout_loss"] == expected["heldout_loss"]
    weights = [(stage.folder / "model" / "model.safetensors").read_bytes() for stage in (whole, parts)]
    assert weights[0] == weights[1]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a decoder with the tokenizer of the fixture `tokens`."""
    folder = tmp_path_factory.mktemp("models") / "base"
    tokenizer = small_tokenizer()
    model = tiny_model(vocabulary=tokenizer.vocabulary)
    save_model(model, folder, pad=tokenizer.pad, eos=tokenizer.end_of_text)
    tokenizer.save(folder, 64)
    return folder


def test_a_base_without_more_tokens_stays_as_it_is_and_is_measured(tokens, base, tmp_path):
    stage = stage_of("causal", tmp_path / "work", tokens, str(base), {"tokens": 0})
    metrics = pretrain.run(stage)
    assert same_weights(weights_of(load_model(stage.folder / "model")), weights_of(load_model(base)))
    assert metrics["tokens"] == 0
    assert metrics["bits_per_byte"] > 0
    assert not (stage.folder / "base").exists()


def test_a_base_is_trained_on(tokens, base, tmp_path):
    before = pretrain.run(stage_of("causal", tmp_path / "none", tokens, str(base), {"tokens": 0}))
    after = pretrain.run(stage_of("causal", tmp_path / "some", tokens, str(base), {"tokens": 2_560}))
    assert after["tokens"] == 2_560
    assert after["bits_per_byte"] < before["bits_per_byte"] - 0.5


def test_a_base_that_does_not_fit_is_refused(tokens, base, tmp_path):
    with pytest.raises(UserError, match="context = 65 is more than the 64 tokens of the base"):
        pretrain.run(stage_of("causal", tmp_path / "long", tokens, str(base), {"model": {"context": 65}}))
    other = tmp_path / "encoder"
    save_model(tiny_model("masked", form="encoder", vocabulary=small_tokenizer().vocabulary), other, pad=0, eos=1)
    with pytest.raises(UserError, match="no model that writes: choose a decoder"):
        pretrain.run(stage_of("causal", tmp_path / "work", tokens, str(other)))
