"""The study `rivals`: equal sizes, and its whole course on models that are far too small to show anything."""

import json

import pytest

from headwater.studies import conduct, rivals
from headwater.studies.rivals_report import claims, reach
from headwater.studies.rivals_settings import MODELS, Settings
from headwater.studies.text import byte_text

TINY = [
    "threads=1",
    "memory={lengths: [2, 4], longest: 4, examples: 8, parameters: 3000, steps: 2, rows: 4}",
    "text={parameters: 12000, layers: 1, context: 16, steps: 2, seconds: 0.02, rows: 2, heldout: 4}",
    "speed={lengths: [8, 16], tokens: 32}",
]


@pytest.mark.parametrize("name", MODELS)
def test_models_are_of_nearly_the_size_that_was_asked_for(name):
    model = rivals.build(name, 2, 150_000, 21, 132, "alibi")
    assert model.parameter_count() == pytest.approx(150_000, rel=0.12)
    if name == "CNN":
        assert model.config.reach >= 132


def test_all_of_it_on_a_little(tmp_path, monkeypatch):
    text = byte_text(f"Document {n} says something about the number {n * n}." for n in range(200))
    monkeypatch.setattr(rivals, "wikipedia", lambda _: text)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("study: rivals\n")
    told = conduct.conduct(recipe, TINY, tmp_path)
    assert "The Transformer's copy accuracy" in told
    summary = json.loads((tmp_path / "rivals" / "summary.json").read_text())
    assert set(summary["figures"]["equal_time"]) == set(MODELS)
    assert all(4 < bits < 12 for bits in summary["figures"]["equal_tokens"].values())
    page = (tmp_path / "rivals" / "report.html").read_text()
    assert page.count("<svg") == 5
    before = (tmp_path / "rivals" / "summary.json").read_bytes()
    conduct.conduct(recipe, TINY, tmp_path)
    assert (tmp_path / "rivals" / "summary.json").read_bytes() == before


def test_reach_is_far_over_near():
    assert reach([2.0] * 8 + [1.0] * 24) == pytest.approx(0.5)
    assert reach([1.0, 0.0]) == 0.0


def figures(transformer, rnn):
    memory = {name: {"accuracy": {"2": 1.0, "16": transformer if name == "Transformer" else rnn}} for name in MODELS}
    text = {name: {"gradients_before": [1.0, *([0.5 if name == "Transformer" else 1e-6] * 3)]} for name in MODELS}
    return memory, text


@pytest.mark.parametrize(("transformer", "rnn", "hold"), [(1.0, 0.5, True), (0.9, 0.5, False), (1.0, 0.95, False)])
def test_claims_follow_the_figures(transformer, rnn, hold):
    settings = Settings.model_validate({"study": "rivals", "memory": {"lengths": [2, 16]}})
    memory, text = figures(transformer, rnn)
    made = claims(settings, memory, text)
    assert all(claim.holds for claim in made) is hold
    assert all(claim.holds for claim in made[2:])
