"""The engine: bad gradients, stopping, metrics, several modules."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
import torch

from headwater.errors import Interrupted, UserError
from headwater.objectives.causal import CausalLM
from headwater.training import checkpoint, stop
from headwater.training.batch import collate
from headwater.training.engine import BAD_UPDATES_IN_A_ROW, REWINDS, Engine, Term
from headwater.training.log import MetricsLog, read_metrics
from headwater.training.settings import ScheduleSettings
from tiny import GivenUpdates, learner, same_weights, tiny_model, weights_of


def update(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [collate([CausalLM().prepare(torch.randint(5, 60, (9,), generator=generator).tolist()) for _ in range(3)])]


class Poisoned(CausalLM):
    """Gives gradients that are no numbers in the given steps, counted from 1."""

    def __init__(self, steps, value=float("nan")):
        self.steps, self.value, self.step = set(steps), value, 0

    def loss(self, modules, batch):
        self.step += 1
        terms = super().loss(modules, batch)
        return {"loss": Term(terms["loss"].sum * self.value)} if self.step in self.steps else terms


def engine_of(updates, objective=None, folder=None, checkpoint_every=0, **changes):
    model = tiny_model()
    return model, Engine(
        {"model": learner(model, **changes)},
        GivenUpdates([update(seed) for seed in range(updates)]),
        objective or CausalLM(),
        folder=folder,
        checkpoint_every=checkpoint_every,
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_skipped_and_leaves_no_trace(value, capsys):
    """The weights are those of a run without that update; the optimiser's moments too."""
    model, engine = engine_of(3, Poisoned([2], value))
    engine.fit()
    assert "skipped" in capsys.readouterr().err
    other = tiny_model()
    clean = Engine({"model": learner(other)}, GivenUpdates([update(0), update(2)]), CausalLM())
    clean.fit()
    assert same_weights(weights_of(model), weights_of(other))


def test_one_bad_module_holds_back_the_others():
    class Both:
        def counts(self, _):
            return {"a": 1.0, "b": 1.0}

        def loss(self, modules, batch):
            a, b = (modules[name](batch.ids).sum() for name in ("policy", "critic"))
            return {"a": Term(a), "b": Term(b * float("nan"))}

    models = {"policy": tiny_model(), "critic": tiny_model("critic")}
    before = {name: weights_of(model) for name, model in models.items()}
    engine = Engine({name: learner(model) for name, model in models.items()}, GivenUpdates([update()]), Both())
    engine.fit()
    for name, model in models.items():
        assert same_weights(weights_of(model), before[name])


def test_several_bad_updates_in_a_row_go_back_to_the_last_checkpoint_and_on(tmp_path, capsys):
    model, engine = engine_of(8, Poisoned([5, 6, 7]), tmp_path, checkpoint_every=3)
    at_three = {}
    engine.after_step = lambda step, _: at_three.update(weights_of(model)) or {} if step == 3 else {}
    seen = []
    original = engine._skip
    engine._skip = lambda: (original(), seen.append(same_weights(weights_of(model), at_three)))
    engine.fit()
    assert seen == [False, False, True], "the third bad one takes step 4 back as well"
    assert "back to the weights of step 3" in capsys.readouterr().err
    assert engine.step == 8
    assert not same_weights(weights_of(model), at_three)


def test_an_update_that_is_whole_again_starts_the_count_anew(tmp_path):
    bad = [step for step in range(2, 12) if step % BAD_UPDATES_IN_A_ROW]
    _, engine = engine_of(12, Poisoned(bad), tmp_path, checkpoint_every=1)
    engine.fit()
    assert engine.rewinds == 0


def test_without_end_it_stops_with_a_plain_sentence(tmp_path):
    _, engine = engine_of(40, Poisoned(range(4, 99)), tmp_path, checkpoint_every=2)
    with pytest.raises(UserError, match="smaller learning rate"):
        engine.fit()
    assert engine.rewinds == REWINDS + 1


def test_without_a_checkpoint_to_go_back_to_it_stops_too():
    _, engine = engine_of(9, Poisoned(range(1, 99)))
    with pytest.raises(UserError, match="not finite"):
        engine.fit()


def test_the_gradient_is_clipped_to_the_norm():
    """With SGD the step's length is rate × clip."""
    model, engine = engine_of(1, clip=0.01)
    one = engine.learners["model"]
    sgd = torch.optim.SGD(one.masters.values(), lr=1.0)
    sgd.param_groups[0]["peak"] = 1.0
    one.optimisers = [sgd]
    before = weights_of(model)
    metrics = engine.train_step(engine.source.take())
    assert metrics["gradient_norm"] > 0.01
    length = sum(float((weights_of(model)[name] - weight).square().sum()) for name, weight in before.items()) ** 0.5
    assert length == pytest.approx(0.01, rel=1e-3)


def test_the_rate_follows_the_source_s_progress():
    model = tiny_model()
    schedule = ScheduleSettings(name="linear")
    rates = []
    engine = Engine(
        {"model": learner(model, schedule=schedule, learning_rate=0.1)},
        GivenUpdates([update()] * 4),
        CausalLM(),
        after_step=lambda _, metrics: rates.append(metrics["learning_rate"]) or {},
    )
    engine.fit()
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_a_frozen_part_stays_and_a_measurement_has_no_gradient():
    class Measured(CausalLM):
        def counts(self, batch):
            return super().counts(batch) | {"extra": 2.0}

        def loss(self, modules, batch):
            return super().loss(modules, batch) | {"extra": Term(torch.tensor(8.0), weight=0)}

    model = tiny_model()
    engine = Engine({"model": learner(model)}, GivenUpdates([update()]), Measured())
    model.backbone.embedding.requires_grad_(False)
    before = weights_of(model)
    assert engine.train_step(engine.source.take())["extra"] == 4
    assert torch.equal(model.backbone.embedding.weight, before["backbone.embedding.weight"])
    assert not same_weights(weights_of(model), before)


def test_a_signal_saves_and_stops_and_a_resume_goes_on_to_the_same_weights(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    model, engine = engine_of(6, folder=tmp_path / "whole")
    engine.fit()
    expected = weights_of(model)
    _, engine = engine_of(6, folder=tmp_path / "parts")
    engine.after_step = lambda step, _: os.kill(os.getpid(), signal.SIGTERM) or {} if step == 2 else {}
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        engine.fit()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert checkpoint.load_newest(tmp_path / "parts" / "checkpoints")[0] == 2
    model, engine = engine_of(6, folder=tmp_path / "parts")
    assert engine.resume()
    engine.fit()
    assert same_weights(weights_of(model), expected)


def test_an_update_longer_than_the_patience_is_left_and_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(stop, "PATIENCE", 0.2)
    _, engine = engine_of(6, folder=tmp_path)

    def slow(step, _):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                time.sleep(0.01)
        return {}

    engine.after_step = slow
    engine.checkpoint_every = 1
    with pytest.raises(Interrupted):
        engine.fit()
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert checkpoint.load_newest(tmp_path / "checkpoints")[0] == 1


def test_a_resume_keeps_what_else_changes(tmp_path):
    class Counter:
        value = 0

        def state_dict(self):
            return {"value": self.value}

        def load_state_dict(self, state):
            self.value = state["value"]

    engines = []
    for _ in range(2):
        _, engine = engine_of(2, folder=tmp_path)
        engine.stateful = {"counter": Counter()}
        engines.append(engine)
    engines[0].stateful["counter"].value = 7
    engines[0].save()
    assert engines[1].resume()
    assert engines[1].stateful["counter"].value == 7


def test_metrics_after_the_checkpoint_are_dropped_on_resume_and_a_cut_line_too(tmp_path):
    log = MetricsLog(tmp_path)
    for step in range(1, 6):
        log.write(step, {"loss": step / 2, "sample": "中文"})
    with log.path.open("a") as file:
        file.write('{"step": 6, "lo')
    assert [line["step"] for line in read_metrics(log.path)] == [1, 2, 3, 4, 5]
    log.keep_until(3)
    log.write(4, {"loss": 9.0})
    lines = [json.loads(text) for text in log.path.read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[0]["sample"] == "中文"
    assert lines[-1]["loss"] == 9.0


def test_fresh_training_in_a_used_folder_starts_its_metrics_anew(tmp_path):
    MetricsLog(tmp_path).write(9, {"loss": 1.0})
    _, engine = engine_of(2, folder=tmp_path)
    assert not engine.resume()
    engine.fit()
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]
