"""Averages and ensembles of small models."""

import pytest
import torch

from headwater.models.ensemble import Ensemble
from headwater.studies import averaging
from headwater.studies.averaging import Settings, Watching, build, heldout_loss, run
from headwater.studies.study import Study
from studies_text import little_text


@pytest.fixture
def settings():
    return Settings(
        study="averaging",
        models=2,
        steps=60,
        rows=8,
        context=32,
        layers=1,
        d_model=32,
        heads=2,
        every=2,
        learning_rate=1e-2,
    )


def test_the_study_trains_averages_and_lets_models_predict_together(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(averaging, "wikipedia", lambda _: little_text())
    findings = run(Study(settings, tmp_path))
    figures = findings.figures
    assert set(figures) == {"last weights", "moving average", "last snapshots", "ensemble"}
    assert all(0.1 < loss < 2.0 for loss in figures.values())  # it has learnt: 5.5 at first
    assert len({round(loss, 6) for loss in figures.values()}) == 4
    gains = [claim.value for claim in findings.claims]
    rows = {row[0]: row[1:] for row in findings.tables[0].rows}
    assert gains[0] == pytest.approx(
        min(a - b for a, b in zip(rows["last weights"], rows["moving average"], strict=True))
    )
    assert gains[2] == pytest.approx(min(rows["last weights"]) - figures["ensemble"])


def test_an_ensemble_is_never_worse_than_its_models_on_average(settings):
    """Jensen's inequality: the log of a mean is at least the mean of the logs."""
    text, models = little_text(), [build(settings, seed) for seed in (1, 2, 3)]
    with torch.no_grad():
        for model in models:
            model.language_model.weight.mul_(40)
    losses = [heldout_loss(model, text, 32) for model in models]
    assert heldout_loss(Ensemble(models), text, 32) < sum(losses) / 3 - 1e-3


def test_watching_changes_no_weight_and_comes_back_from_a_checkpoint(settings):
    one, two = Watching(settings), Watching(settings)
    for step in range(1, 7):
        weights = {"w": torch.full((2,), float(step))}
        one.observe(weights)
        if step == 4:
            two.load_state_dict(one.state_dict())
        if step > 4:
            two.observe(weights)
    assert one.weights() is None
    for name, average in one.averages.items():
        assert torch.equal(average.weights()["w"], two.averages[name].weights()["w"])
    assert float(one.averages["last snapshots"].weights()["w"][0]) == 4.0  # of 2, 4 and 6
