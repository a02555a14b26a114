"""Training within a study: what is interrupted goes on and ends the same."""

import os
import signal

import pytest
import torch

from headwater.errors import Interrupted
from headwater.objectives.causal import CausalLM
from headwater.studies.training import Generated, fastest, seconds_per_step, train
from headwater.training.batch import Row, collate
from headwater.training.settings import OptimiserSettings, ScheduleSettings
from tiny import same_weights, tiny_model, weights_of

OPTIMISER, SCHEDULE = OptimiserSettings(learning_rate=3e-3), ScheduleSettings(warmup=0.2)


def make(step):
    ids = torch.randint(60, (4, 13), generator=torch.Generator().manual_seed(step))
    return [collate([Row(row[:-1], {"targets": row[1:].clone()}) for row in ids])]


def test_a_source_of_made_updates_ends_and_goes_on():
    source = Generated(make, 3)
    first = [source.take() for _ in range(2)]
    other = Generated(make, 3)
    other.load_state_dict(source.state_dict())
    assert other.progress() == pytest.approx(2 / 3)
    third = other.take()
    assert torch.equal(third[0].ids, make(2)[0].ids)
    assert not torch.equal(first[0][0].ids, first[1][0].ids)
    assert other.take() is None


def test_an_interrupted_training_ends_like_one_that_was_not(tmp_path):
    whole, parted = tiny_model(), tiny_model()
    for name in ("whole", "parted"):
        (tmp_path / name).mkdir()
    lines = train(whole, CausalLM(), make, 8, tmp_path / "whole", OPTIMISER, SCHEDULE)
    assert [line["step"] for line in lines] == list(range(1, 9))

    def stopping(step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return make(step)

    with pytest.raises(Interrupted):
        train(parted, CausalLM(), stopping, 8, tmp_path / "parted", OPTIMISER, SCHEDULE)
    again = tiny_model(seed=2)  # the checkpoint brings the weights
    lines = train(again, CausalLM(), make, 8, tmp_path / "parted", OPTIMISER, SCHEDULE)
    assert same_weights(weights_of(whole), weights_of(again))
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert not (tmp_path / "parted" / "checkpoints").exists()


def test_the_fastest_of_several_counts_and_the_first_does_not():
    calls = []
    assert fastest(calls.append, 3) < 0.1
    assert calls == [0, 0, 1, 2]
    assert seconds_per_step(tiny_model(), CausalLM(), make, OPTIMISER, steps=2) > 0
