"""LoRA: the model as it was at first, then learning through the adapters alone; merged and switched off."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from headwater.errors import UserError
from headwater.models.lora import LoraLinear, adapt, adapters, merge, without_adapters
from headwater.models.model import Model
from headwater.models.recurrent import RecurrentConfig
from headwater.models.settings import LoraSettings
from tiny import learner, lively_model, same_weights, tiny_model, weights_of

SETTINGS = LoraSettings(rank=3, alpha=6.0)
IDS = torch.arange(5, 29).view(2, 12)
KINDS = ("language-model", "reward", "critic")


def stirred(model: Model) -> Model:
    """Adapters that do something."""
    generator = torch.Generator().manual_seed(7)
    for _, _, adapter in adapters(model):
        nn.init.normal_(adapter.lora_up, std=0.3, generator=generator)
    return model


def test_the_map_is_the_formula():
    plain = nn.Linear(5, 4)
    adapter = LoraLinear(plain, rank=2, alpha=3.0)
    adapter.initialise(torch.Generator().manual_seed(1))
    nn.init.normal_(adapter.lora_up)
    states = torch.randn(7, 5)
    weight = plain.weight + 3.0 / 2 * adapter.lora_up @ adapter.lora_down
    torch.testing.assert_close(adapter(states), states @ weight.T + plain.bias)
    assert adapter.weight is plain.weight


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("maps", ["all", "attention"])
def test_fresh_adapters_change_nothing(kind, maps):
    model = tiny_model(kind)
    before = model(IDS)
    adapt(model, LoraSettings(rank=3, maps=maps), 1)
    assert torch.equal(model(IDS), before)
    names = {name.split(".")[-2] for name, part in model.named_parameters() if "lora" in name and part.requires_grad}
    assert names == {"query", "key", "value", "output"} | ({"gate", "up", "down"} if maps == "all" else set())


@pytest.mark.parametrize("kind", KINDS)
def test_only_adapters_and_small_heads_are_trained(kind):
    model = adapt(tiny_model(kind), SETTINGS, 1)
    trained = {name for name, part in model.named_parameters() if part.requires_grad}
    assert all("lora" in name or name.startswith("heads.") for name in trained)
    assert any(name.startswith("heads.") for name in trained) == (kind != "language-model")


def test_merged_is_what_unmerged_was_and_plain_again():
    plain = lively_model()
    names = set(weights_of(plain))
    model = stirred(adapt(plain, SETTINGS, 1))
    changed = model(IDS)
    merge(model)
    torch.testing.assert_close(model(IDS), changed, atol=1e-4, rtol=1e-4)
    assert set(weights_of(model)) == names
    assert not list(adapters(model))
    assert all(part.requires_grad for part in model.parameters())


@pytest.mark.parametrize("tied", [True, False])
def test_without_adapters_it_is_the_model_before_on_the_same_weights(tied):
    model = lively_model(tied_embeddings=tied)
    before = model(IDS)
    reference = without_adapters(stirred(adapt(model, SETTINGS, 1)))
    assert not torch.equal(model(IDS), before)
    assert torch.equal(reference(IDS), before)
    assert reference.backbone.embedding.weight is model.backbone.embedding.weight
    model.bfloat16()
    assert reference.dtype == torch.bfloat16
    assert not any(part.requires_grad for part in reference.parameters())


def test_an_encoder_decoder_has_adapters_in_its_cross_attention():
    model = tiny_model(form="encoder-decoder", decoder_layers=2)
    before = model(IDS, IDS)
    stirred(adapt(model, SETTINGS, 1))
    assert any(".cross." in name for name, _ in model.named_parameters() if "lora" in name)
    assert torch.equal(without_adapters(model)(IDS, IDS), before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_moves_the_adapters_alone_and_gives_the_rest_back_bit_for_bit(precision):
    model = lively_model()
    before = weights_of(model)
    adapt(model, SETTINGS, 1)
    one = learner(model, precision, learning_rate=0.02)
    losses = []
    for _ in range(30):
        logits = model(IDS[:, :-1]).float()
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), IDS[:, 1:].flatten())
        loss.backward()
        one.collect_gradients()
        one.update(one.gradient_norm(), 0.0)
        one.clear()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    one.release()
    after = weights_of(model)
    assert same_weights({name: after[name] for name in before}, before)


def test_a_checkpoint_holds_the_adapters_alone_and_training_goes_on_from_it():
    def trained(state=None, steps=3):
        one = learner(adapt(tiny_model(), SETTINGS, 1), learning_rate=0.01)
        if state:
            one.load_state_dict(state)
        for _ in range(steps):
            one.module(IDS).square().mean().backward()
            one.update(one.gradient_norm(), 0.0)
            one.clear()
        return one

    first = trained()
    state = first.state_dict()
    assert all("lora" in name for name in state["masters"])
    state = {
        "masters": {k: v.detach().clone() for k, v in state["masters"].items()},
        "optimisers": copy.deepcopy(state["optimisers"]),
        "average": None,
    }
    assert not set(first.masters) & set(first.frozen)
    assert same_weights(weights_of(trained(state).module), weights_of(trained(steps=6).module))


def test_the_same_seed_draws_the_same_adapters():
    first, second, other = (weights_of(adapt(tiny_model(), SETTINGS, seed)) for seed in (1, 1, 2))
    assert same_weights(first, second)
    assert not same_weights(first, other)


def test_what_cannot_be_adapted():
    model = adapt(tiny_model(), SETTINGS, 1)
    with pytest.raises(UserError, match="has adapters already"):
        adapt(model, SETTINGS, 1)
    with pytest.raises(UserError, match="leave `lora` out"):
        adapt(Model(RecurrentConfig(vocabulary=60, d_model=24, layers=1, context=64)), SETTINGS, 1)
