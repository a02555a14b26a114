"""Sequence to sequence: teacher forcing, label smoothing, padding on both sides."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from headwater.objectives.sequence import SequenceToSequence
from headwater.training.batch import collate
from tiny import tiny_model

PAIRS = [([5, 6, 7, 8, 9], [15, 16, 1]), ([10, 11], [17, 18, 19, 20, 1])]


def model():
    return tiny_model(form="encoder-decoder", decoder_layers=2)


def batch_of(objective, pairs=PAIRS):
    return collate([objective.pair(*pair) for pair in pairs])


def test_the_decoder_reads_the_target_one_token_late():
    row = SequenceToSequence(start=3).pair([5, 6], [15, 16, 1])
    assert row.ids.tolist() == [3, 15, 16]
    assert row.per_token["targets"].tolist() == [15, 16, 1]
    assert row.source.tolist() == [5, 6]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_torch_s(smoothing):
    objective, one = SequenceToSequence(3, smoothing), model()
    batch = batch_of(objective)
    logits = one(batch.source, batch.ids, source_documents=batch.source_padding())
    expected = functional.cross_entropy(
        logits.flatten(0, 1),
        batch.per_token["targets"].flatten(),
        ignore_index=-1,
        reduction="sum",
        label_smoothing=smoothing,
    )
    found = objective.loss({"model": one}, batch)["loss"].sum
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert objective.counts(batch) == {"loss": 8}


def test_padding_of_source_and_target_and_what_fills_it_have_no_part():
    objective, one = SequenceToSequence(3), model()
    together = batch_of(objective)
    together.source[1, 2:], together.ids[0, 3:] = 44, 45
    apart = sum(float(objective.loss({"model": one}, batch_of(objective, [p]))["loss"].sum.detach()) for p in PAIRS)
    assert float(objective.loss({"model": one}, together)["loss"].sum.detach()) == pytest.approx(apart, rel=1e-5)


def test_the_source_is_read():
    objective, one = SequenceToSequence(3), model()
    with torch.no_grad():
        states = [
            objective.hidden({"model": one}, batch_of(objective, [(source, [15, 16, 1])])) for source in ([5], [6])
        ]
    assert not torch.allclose(*states, atol=1e-5)
