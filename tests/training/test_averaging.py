"""Averages of weights: their formulas, what they leave alone, and that a resume goes on with them bit for bit."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from headwater.errors import UserError
from headwater.objectives.causal import CausalLM
from headwater.training.averaging import ExponentialAverage, LastSnapshots, average_of, mean_weights
from headwater.training.batch import collate
from headwater.training.engine import Engine
from headwater.training.learner import Learner
from headwater.training.settings import AveragingSettings, OptimiserSettings, ScheduleSettings
from tiny import GivenUpdates, same_weights, tiny_model, weights_of

AVERAGES = {"ema": AveragingSettings(ema=0.8), "last": AveragingSettings(last=2, every=3)}
STEPS = 11


def path_of_weights(steps=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        {"a": torch.randn(3, 2, generator=generator), "b": torch.randn(4, generator=generator)} for _ in range(steps)
    ]


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.999])
def test_the_exponential_average_is_the_weighted_mean_of_all_updates(decay):
    average = ExponentialAverage(decay)
    path = path_of_weights()
    for steps, weights in enumerate(path, 1):
        average.observe(weights)
        shares = torch.tensor([decay ** (steps - 1 - index) for index in range(steps)], dtype=torch.float64)
        for name, found in average.weights().items():
            stacked = torch.stack([each[name].double() for each in path[:steps]])
            expected = torch.einsum("s,s...->...", shares / shares.sum(), stacked)
            torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


def test_the_first_update_is_the_whole_average_of_itself():
    average = ExponentialAverage(0.999)
    assert average.weights() is None
    (weights,) = path_of_weights(1)
    average.observe(weights)
    assert same_weights(average.weights(), weights)


def test_an_average_does_not_change_with_the_weights_it_saw():
    for settings in (AveragingSettings(ema=0.5), AveragingSettings(last=1, every=1)):
        average = average_of(settings, 10)
        (weights,) = path_of_weights(1)
        average.observe(weights)
        before = {name: tensor.clone() for name, tensor in average.weights().items()}
        for tensor in weights.values():
            tensor.zero_()
        assert same_weights(average.weights(), before)


def test_the_last_snapshots_are_kept_and_no_others():
    path = path_of_weights(11)
    snapshots = LastSnapshots(3, 2)
    for step, weights in enumerate(path, 1):
        snapshots.observe(weights)
        if step == 1:
            assert snapshots.weights() is None
    expected = {name: (path[5][name] + path[7][name] + path[9][name]) / 3 for name in path[0]}
    for name, found in snapshots.weights().items():
        torch.testing.assert_close(found, expected[name])


def test_the_mean_is_the_mean_and_only_of_like_with_like():
    path = path_of_weights(5)
    found = mean_weights(path)
    for name in path[0]:
        torch.testing.assert_close(found[name], torch.stack([each[name] for each in path]).mean(0))
        assert found[name].dtype == torch.float32
    assert same_weights(mean_weights([path[0]]), path[0])
    with pytest.raises(ValueError, match="'b'"):
        mean_weights([path[0], {"a": path[1]["a"]}])
    with pytest.raises(ValueError, match="no weights"):
        mean_weights([])


def test_the_average_is_nearer_to_the_optimum_than_the_last_of_noisy_steps():
    """SGD at a constant rate walks about the optimum, here 0; averages of the walk are nearer to it."""
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        point = torch.full((50,), 3.0)
        averages = [ExponentialAverage(0.98), LastSnapshots(10, 20)]
        for _ in range(400):
            point = point - 0.2 * (point + torch.randn(50, generator=generator))
            for average in averages:
                average.observe({"point": point})
        for average in averages:
            assert float(average.weights()["point"].norm()) < 0.6 * float(point.norm())


def training(average, precision, folder=None, steps=STEPS):
    generator = torch.Generator().manual_seed(5)
    updates = [
        [collate([CausalLM().prepare(torch.randint(5, 60, (9,), generator=generator).tolist()) for _ in range(3)])]
        for _ in range(STEPS)
    ]
    learner = Learner(
        tiny_model(),
        OptimiserSettings(name="muon", learning_rate=1e-2),
        ScheduleSettings(name="constant"),
        precision,
        average_of(average, STEPS) if average else None,
    )
    return learner, Engine({"model": learner}, GivenUpdates(updates[:steps]), CausalLM(), folder=folder)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", AVERAGES)
def test_a_resume_goes_on_with_the_same_average(name, precision, tmp_path):
    whole, engine = training(AVERAGES[name], precision)
    engine.fit()
    for steps in (2, 7):  # before and after the first snapshot
        folder = tmp_path / str(steps)
        folder.mkdir()
        _, engine = training(AVERAGES[name], precision, folder, steps)
        engine.fit()
        engine.save()
        resumed, engine = training(AVERAGES[name], precision, folder)
        assert engine.resume()
        engine.fit()
        assert same_weights(resumed.released_weights(), whole.released_weights())
    assert not same_weights(whole.released_weights(), whole.masters)
    assert same_weights(weights_of(whole.release()), whole.released_weights())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", AVERAGES)
def test_an_average_changes_nothing_in_the_training(name, precision):
    plain, engine = training(None, precision)
    engine.fit()
    averaged, engine = training(AVERAGES[name], precision)
    seen = []

    def measure(*_):
        with averaged.as_released():
            seen.append(weights_of(averaged.module))
        return {}

    engine.after_step = measure
    engine.fit()
    assert same_weights(averaged.masters, plain.masters)
    assert same_weights(weights_of(averaged.module), weights_of(plain.module))
    assert not same_weights(seen[-1], weights_of(averaged.module))
    averaged.release()
    rounded = {name: weight.to(seen[-1][name].dtype) for name, weight in weights_of(averaged.module).items()}
    assert same_weights(seen[-1], rounded), "what was measured is what is released, but for its precision"


def test_a_measurement_that_fails_leaves_the_weights():
    learner, engine = training(AVERAGES["ema"], "fp32")
    engine.fit()
    before = weights_of(learner.module)
    with pytest.raises(RuntimeError), learner.as_released():
        raise RuntimeError
    assert same_weights(weights_of(learner.module), before)


def test_settings_choose_the_average_and_what_cannot_be_is_refused():
    assert average_of(AveragingSettings(), 5) is None
    assert isinstance(average_of(AveragingSettings(ema=0.9), 5), ExponentialAverage)
    assert isinstance(average_of(AveragingSettings(last=5, every=1), 5), LastSnapshots)
    with pytest.raises(UserError, match="do not fit in 5 steps"):
        average_of(AveragingSettings(last=5, every=2), 5)
    for settings in ({"ema": 1.0}, {"ema": 0.9, "last": 5}, {"last": -1}):
        with pytest.raises(ValidationError):
            AveragingSettings(**settings)
