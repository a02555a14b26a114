"""Accuracy, reach of gradients and speeds, against what they must be."""

import pytest
import torch
from torch.nn import functional

from headwater.models.convolutional import ConvolutionalConfig
from headwater.models.model import Model
from headwater.models.recurrent import RecurrentConfig
from headwater.studies.measures import accuracy, decoding_speed, gradient_norms, training_speed
from headwater.training.batch import Row, collate
from headwater.training.settings import OptimiserSettings
from tiny import lively_model


def batch_of_distinct_tokens(rows=3, time=12):
    """No token stands twice in a row, so that the gradient at a position is that of its token's embedding."""
    ids = torch.stack([torch.randperm(60, generator=torch.Generator().manual_seed(n))[: time + 1] for n in range(rows)])
    return collate([Row(row[:-1], {"targets": row[1:].clone()}) for row in ids])


def test_accuracy_counts_targets_that_are_the_likeliest():
    model = lively_model()
    rows = [Row(torch.tensor([5, 6, 7]), {"targets": torch.tensor([-1, 9, -1])}) for _ in range(4)]
    with torch.no_grad():
        best = int(model(torch.tensor([[5, 6, 7]]))[0, 1].argmax())
    rows[0].per_token["targets"][1] = best
    rows[1].per_token["targets"][1] = rows[2].per_token["targets"][1] = rows[3].per_token["targets"][1] = best + 1
    assert accuracy(model, rows) == pytest.approx(0.25)


def test_gradient_norms_are_those_of_the_embedding_by_position():
    model, batch = lively_model(tied_embeddings=False), batch_of_distinct_tokens()
    expected = torch.zeros(12)
    for ids, targets in zip(batch.ids, batch.per_token["targets"], strict=True):
        model.zero_grad()
        functional.cross_entropy(model(ids[None])[0, -1:], targets[-1:]).backward()
        expected += model.backbone.embedding.weight.grad[ids].norm(dim=-1).flip(0) / 3
    model.zero_grad()
    assert gradient_norms(model, batch) == pytest.approx(expected.tolist(), rel=1e-3)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.backbone.embedding._forward_hooks


def test_a_convolution_s_gradients_end_where_its_window_does():
    config = ConvolutionalConfig(60, 2, 32, 64, 3)  # dilations 1 and 2: it sees itself and six tokens before
    norms = gradient_norms(Model(config).initialise(1), batch_of_distinct_tokens())
    assert all(norm > 0 for norm in norms[:7])
    assert norms[7:] == [0.0] * 5


@pytest.mark.parametrize("config", [RecurrentConfig(60, 1, 32, 64, "gru"), ConvolutionalConfig(60, 2, 32, 64, 3)])
def test_speeds_are_measured_for_any_backbone(config):
    model = Model(config).initialise(1)
    assert decoding_speed(model, 16, rows=2, steps=2) > 0
    assert training_speed(model, 16, 64, OptimiserSettings()) > 0
