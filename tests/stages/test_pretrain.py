"""Pretraining: what is released, and how it ends."""

from __future__ import annotations

import pytest

from headwater.corpus.build import Ledger, write_corpus
from headwater.corpus.documents import Document
from headwater.errors import UserError
from headwater.models.layout import load_model
from headwater.recipe import validate
from headwater.runs import Stage
from headwater.stages import pretrain
from headwater.stages import tokenizer as stage_tokenizer
from headwater.training.log import read_metrics

SENTENCE = "The old museum of the old town stands by the old river, and the river is wide. "


@pytest.fixture(scope="module")
def tokenised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenised")
    documents = [
        Document(f"d{index}", SENTENCE * 3 + str(index), "wikipedia-leads", "web", "MIT", "en", split)
        for index, split in enumerate(["train"] * 8 + ["heldout"] * 2)
    ]
    ledger = Ledger()
    ledger.read["x"] = ledger.kept["x"] = len(documents)
    corpus = folder / "corpus"
    corpus.mkdir()
    write_corpus(iter(documents), corpus, ledger)
    out = folder / "tokenizer"
    out.mkdir()
    stage_tokenizer.run(Stage(name="tokenizer", recipe=recipe(), folder=out, parents={"corpus": corpus}))
    return out


def recipe(**pretraining):
    """12 steps of 64 tokens, measured every second step."""
    section = {
        "model": {"layers": 1, "d_model": 32, "heads": 2, "context": 32},
        "tokens": 768,
        "batch_tokens": 64,
        "evaluate_every": 2,
        "precision": "fp32",
        "schedule": {"name": "constant", "warmup": 0.0},
    }
    data = {
        "run": "x",
        "corpus": {"sources": [{"samples": "wikipedia-leads"}]},
        "tokenizer": {"vocabulary": 300},
        "pretrain": section | pretraining,
        "ppo": {"max_new_tokens": 8},
    }
    return validate(data, "test")


def pretrained(tokenised, folder, **pretraining):
    """(metrics of the stage, the measured lines of metrics.jsonl)"""
    folder.mkdir(exist_ok=True)
    metrics = pretrain.run(
        Stage(name="pretrain", recipe=recipe(**pretraining), folder=folder, parents={"tokenizer": tokenised})
    )
    lines = [line for line in read_metrics(folder / "metrics.jsonl") if "bits_per_byte" in line]
    return metrics, lines


def test_without_more_settings_the_last_step_s_weights_are_released(tokenised, tmp_path):
    metrics, lines = pretrained(tokenised, tmp_path / "run")
    assert metrics["tokens"] == 768
    assert lines[-1]["step"] == 12
    assert metrics["bits_per_byte"] == pytest.approx(lines[-1]["bits_per_byte"], rel=1e-5)
    assert lines[-1]["bits_per_byte"] < 0.95 * lines[0]["bits_per_byte"]
    assert "best_step" not in metrics
    assert load_model(tmp_path / "run" / "model")


@pytest.mark.parametrize("averaging", [{"ema": 0.7}, {"last": 3, "every": 2}], ids=str)
def test_the_average_is_measured_on_the_way_and_released(tokenised, tmp_path, averaging):
    plain, _ = pretrained(tokenised, tmp_path / "plain")
    averaged, lines = pretrained(tokenised, tmp_path / "averaged", averaging=averaging)
    assert averaged["bits_per_byte"] == pytest.approx(lines[-1]["bits_per_byte"], rel=1e-5)
    assert averaged["bits_per_byte"] != pytest.approx(plain["bits_per_byte"], rel=1e-5)


def test_patience_ends_it_and_the_best_weights_are_released(tokenised, tmp_path):
    """A rate that is much too high: after a first gain it gets worse."""
    high = {"name": "sgd", "learning_rate": 30.0}
    metrics, lines = pretrained(tokenised, tmp_path / "run", patience=2, optimiser=high)
    best = min(lines, key=lambda line: line["bits_per_byte"])
    assert metrics["best_step"] == best["step"] == lines[-1]["step"] - 4
    assert metrics["tokens"] == 64 * lines[-1]["step"] < 768
    assert metrics["bits_per_byte"] == pytest.approx(best["bits_per_byte"], rel=1e-5)


def test_settings_that_do_not_fit_each_other_are_named(tokenised, tmp_path):
    with pytest.raises(UserError, match="`pretrain` does not fit: `patience` keeps the best"):
        recipe(patience=2, averaging={"last": 3})
    with pytest.raises(UserError, match="do not fit in 12 steps"):
        pretrained(tokenised, tmp_path / "run", averaging={"last": 3, "every": 5})
