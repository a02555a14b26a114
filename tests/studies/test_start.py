"""Bad starts: what counts as learnt, and that the study tells one from the other."""

import math

import pytest
import torch

from headwater.studies import start
from headwater.studies.start import STARTS, TOO_LARGE, Settings, _has_learnt, _trial, build, unigram_loss
from headwater.studies.study import Study
from studies_text import little_text


@pytest.fixture
def settings():
    return Settings(study="start", seeds=1, steps=40, rows=8, context=32, layers=2, deep_layers=2, d_model=32, heads=2)


def test_the_unigram_loss_is_the_cross_entropy_of_byte_frequencies():
    text = little_text()
    counts = [1 + int((text.train == byte).sum()) for byte in range(256)]
    expected = [-math.log(counts[byte] / sum(counts)) for byte in text.heldout.tolist()]
    assert unigram_loss(text) == pytest.approx(sum(expected) / len(expected))


def test_learnt_is_better_than_frequencies():
    assert _has_learnt({"heldout": 2.9}, 3.0)
    assert not _has_learnt({"heldout": 2.99}, 3.0)
    assert not _has_learnt({"heldout": None}, 3.0)


def test_too_large_weights_do_not_learn_and_their_cure_does(settings, tmp_path):
    text = little_text()
    unigram = unigram_loss(text)
    results = {}
    for name in (TOO_LARGE, "weights as Glorot draws them"):
        (tmp_path / name).mkdir()
        results[name] = _trial(settings, STARTS[name], text, 1)(tmp_path / name)
    bad, cured = results.values()
    assert not math.isfinite(bad["heldout"]) or bad["heldout"] > unigram
    assert cured["heldout"] < unigram - 0.05
    assert len(cured["losses"]) == 40
    assert len(cured["activations"]) == len(cured["gradients"]) == 2


def test_every_start_is_tried_and_reported(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(start, "wikipedia", lambda _: little_text())
    findings = start.run(Study(settings.model_copy(update={"steps": 3}), tmp_path))
    assert len(findings.claims) == len(STARTS)
    assert {row[0] for row in findings.tables[0].rows} == set(STARTS)
    assert all(set(plot.lines) == set(STARTS) for plot in findings.plots)


def test_starts_differ_in_what_they_name(settings):
    models = {name: build(settings, one, 1) for name, one in STARTS.items()}
    stds = {
        name: float(model.backbone.blocks[0].feedforward.up.weight.detach().std()) for name, model in models.items()
    }
    assert stds[TOO_LARGE] == pytest.approx(1.0, abs=0.05)
    assert stds["weights as Glorot draws them"] == pytest.approx(math.sqrt(2 / (32 + 128)), rel=0.05)
    after = models["norms after, warm-up"].backbone(torch.zeros(1, 4, dtype=torch.long))
    torch.testing.assert_close(after.mean(dim=-1), torch.zeros(1, 4), atol=1e-5, rtol=0)  # the norm comes last
