"""Sizes of activations and gradients: as torch gives them, and a verdict that tells a bad start from a good one."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from headwater.inspection.diagnose import diagnose_folder, diagnose_model
from headwater.models.config import Patches
from headwater.models.diagnosis import SPREAD, Diagnosis, LayerSignal, diagnose
from headwater.models.layout import save_model
from headwater.models.model import Model
from tiny import tiny_config, tiny_model

HEALTHY = "keep their size"


def mean_loss(model, ids):
    return functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def test_the_figures_are_those_of_the_pass_itself():
    model = tiny_model()
    ids = torch.randint(0, 60, (2, 9), generator=torch.Generator().manual_seed(1))
    found = diagnose(model, lambda one: mean_loss(one, ids))
    kept = []
    model.backbone.blocks[0].register_forward_hook(lambda *args: (args[2].retain_grad(), kept.append(args[2]))[1])
    loss = mean_loss(model, ids)
    loss.backward()
    assert found.loss == pytest.approx(loss.item())
    assert [layer.name for layer in found.layers] == ["embedding", "block 1", "block 2", "head"]
    first = found.layers[1]
    assert first.activation == pytest.approx(kept[0].square().mean().sqrt().item(), rel=1e-5)
    assert first.gradient == pytest.approx(18 * kept[0].grad.square().mean().sqrt().item(), rel=1e-5)
    gradient = model.backbone.embedding.weight.grad
    assert found.layers[0].weight_gradient == pytest.approx(gradient.square().mean().sqrt().item(), rel=1e-5)


def test_the_model_is_left_as_it_was():
    model = tiny_model()
    diagnose_model(model, None)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_bad_start_is_told_from_a_good_one():
    good, bad = (Model(tiny_config(layers=6)).initialise(1, scheme) for scheme in ("scaled", "unit"))
    assert HEALTHY in diagnose_model(good, None).verdict
    assert HEALTHY not in diagnose_model(bad, None).verdict
    with torch.no_grad():
        good.backbone.blocks[3].feedforward.down.weight.fill_(math.nan)
    assert "not finite" in diagnose_model(good, None).verdict


def test_the_verdict_names_the_layers():
    layers = [LayerSignal("block 1", 1.0, 1.0), LayerSignal("block 2", 2 * SPREAD, 1.0), LayerSignal("head", 1.0, 1.0)]
    assert "60 times larger in the block 2 than in the block 1" in Diagnosis(1.0, layers).verdict


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("masked", {"form": "encoder"}),
        ("class", {"form": "encoder"}),
        ("reward", {}),
        ("language-model", {"form": "encoder-decoder", "decoder_layers": 2}),
        ("hidden", {"form": "encoder", "patches": Patches(8, 4), "positions": "learned"}),
    ],
)
def test_every_kind_of_model_can_be_looked_at(kind, changes):
    found = diagnose_model(Model(tiny_config(**changes), kind).initialise(1), None)
    assert math.isfinite(found.loss)
    blocks = [layer for layer in found.layers if "block" in layer.name]
    assert len(blocks) == (4 if changes.get("decoder_layers") else 2)
    assert all(layer.gradient > 0 for layer in blocks)
    assert found.table().count("\n") == len(found.layers)


def test_a_model_on_disk(tmp_path):
    save_model(tiny_model(), tmp_path, pad=0, eos=4)
    assert math.isfinite(diagnose_folder(tmp_path, None).loss)
