"""Early stopping: when it ends a training, what it keeps, and that a resumed training ends the same."""

from __future__ import annotations

import pytest
import torch

from headwater.objectives.causal import CausalLM
from headwater.training.averaging import ExponentialAverage
from headwater.training.batch import collate
from headwater.training.early_stopping import EarlyStopping
from headwater.training.engine import Engine
from tiny import GivenUpdates, learner, same_weights, tiny_model, weights_of

FIGURES = {2: 3.0, 4: 2.0, 6: float("nan"), 8: 2.0, 10: 2.5, 12: 1.0}
"""What is measured after which step: the best is that of step 12, if patience lasts until then, and before it step 4."""
STEPS = 14


def training(patience, folder=None, stop_after=STEPS, average=None, precision="fp32"):
    generator = torch.Generator().manual_seed(5)
    updates = [
        [collate([CausalLM().prepare(torch.randint(5, 60, (9,), generator=generator).tolist()) for _ in range(3)])]
        for _ in range(STEPS)
    ]
    one = learner(tiny_model(), precision)
    one.average = average
    stopping = EarlyStopping("figure", patience, one)
    kept = {}

    def measure(step, _):
        kept[step] = {name: weight.detach().clone() for name, weight in one.released_weights().items()}
        return {"figure": FIGURES[step]} if step in FIGURES else {}

    engine = Engine(
        {"model": one},
        GivenUpdates(updates[:stop_after]),
        CausalLM(),
        folder=folder,
        after_step=measure,
        early_stopping=stopping,
    )
    return engine, stopping, kept


@pytest.mark.parametrize(("patience", "end", "best"), [(1, 6, 4), (3, 10, 4), (4, STEPS, 12)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_ends_when_patience_does_and_goes_back_to_the_best_weights(patience, end, best, precision, capsys):
    engine, stopping, kept = training(patience, precision=precision)
    engine.fit()
    assert (engine.step, stopping.best_step, stopping.over) == (end, best, end < STEPS)
    assert (f"since step {best}" in capsys.readouterr().err) == (end < STEPS)
    released = weights_of(engine.learners["model"].release(stopping.best_weights))
    assert same_weights(released, kept[best])
    assert not same_weights(released, kept[end])


@pytest.mark.parametrize("saved_at", [1, 5, 8, 10])
def test_a_resumed_training_ends_at_the_same_step_with_the_same_weights(tmp_path, saved_at):
    whole, expected, _ = training(3)
    whole.fit()
    engine, _, _ = training(3, tmp_path, stop_after=saved_at)
    engine.fit()
    engine.save()
    engine, stopping, _ = training(3, tmp_path)
    assert engine.resume()
    engine.fit()
    assert engine.step == whole.step == 10
    assert (stopping.best, stopping.best_step) == (expected.best, expected.best_step)
    assert same_weights(stopping.best_weights, expected.best_weights)


def test_with_an_average_the_best_average_is_kept():
    engine, stopping, kept = training(3, average=ExponentialAverage(0.9))
    engine.fit()
    assert same_weights(stopping.best_weights, kept[4])
    plain, without, _ = training(3)
    plain.fit()
    assert not same_weights(stopping.best_weights, without.best_weights)


def test_where_nothing_was_measured_the_last_weights_are_kept():
    engine, stopping, kept = training(3, stop_after=1)
    engine.fit()
    assert stopping.best_weights is None
    assert same_weights(weights_of(engine.learners["model"].release(stopping.best_weights)), kept[1])
