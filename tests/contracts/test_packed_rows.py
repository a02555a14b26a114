"""What every decoder must satisfy where dialogues share a row: losses and gradients are those of each dialogue alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from forms import DECODERS, Form

from headwater.models.lora import adapt
from headwater.models.model import Model
from headwater.models.presets import PRESETS, RIVALS, config_of
from headwater.models.settings import LoraSettings, ModelSettings
from headwater.objectives.supervised import Span, Supervised
from headwater.training.batch import collate
from headwater.training.packing import pack_by_tokens

REGISTERED = [
    *(name for name, preset in PRESETS.items() if preset.choices.get("form", "decoder") == "decoder"),
    *RIVALS,
]


def config_named(name):
    if name in DECODERS:
        return DECODERS[name].config
    given = {"heads": 4, "key_value_heads": 2 if name in ("qwen3", "llama") else None} if name in PRESETS else {}
    return config_of(ModelSettings(architecture=name, layers=2, d_model=32, context=64, **given), 60)


def model_named(name, dtype=torch.float32):
    """Predictions are far from uniform."""
    if name in RIVALS:
        model = Model(config_named(name)).initialise(1).to(dtype)
        with torch.no_grad():
            model.backbone.embedding.weight.mul_(20)
        return model
    return Form(config_named(name)).model(dtype=dtype)


def dialogues(count=9):
    """One to three turns each; what the assistant says is learnt."""
    generator = torch.Generator().manual_seed(5)

    def said(learnt):
        length = int(torch.randint(2, 8, (), generator=generator))
        return Span(tuple(torch.randint(5, 60, (length,), generator=generator).tolist()), learnt)

    return [
        Supervised().prepare_dialogue([said(learnt) for _ in range(1 + place % 3) for learnt in (False, True)])
        for place in range(count)
    ]


def outcome(model, batches):
    """(summed loss, how many tokens are learnt, gradients)"""
    model.zero_grad()
    total = count = 0.0
    for batch in batches:
        loss = Supervised().loss({"model": model}, batch)["loss"].sum
        loss.backward()
        total, count = total + float(loss.detach()), count + Supervised().counts(batch)["loss"]
    return total, count, {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def packed_and_alone(model):
    """The outcome of packed rows and of every dialogue in a batch of its own."""
    rows = dialogues()
    batches = pack_by_tokens(rows, budget=128, width=64)
    assert sum(len(batch) for batch in batches) < len(rows) / 2
    return outcome(model, batches), outcome(model, [collate([row]) for row in rows])


def check_alike(packed, alone):
    assert packed[0] == pytest.approx(alone[0], rel=1e-5)
    assert packed[1] == alone[1]
    assert packed[2].keys() == alone[2].keys()
    for name, gradient in alone[2].items():
        scale = max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(
            packed[2][name], gradient, atol=2e-5 * scale, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("name", dict.fromkeys([*DECODERS, *REGISTERED]))
def test_packed_dialogues_have_the_loss_and_the_gradients_of_each_alone(name):
    check_alike(*packed_and_alone(model_named(name)))


@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2", "alibi", "sliding window"])
def test_in_bf16_too(name):
    packed, alone = packed_and_alone(model_named(name, torch.bfloat16))
    assert packed[0] == pytest.approx(alone[0], rel=1e-2)
    every = [torch.cat([gradient.flatten().float() for gradient in found[2].values()]) for found in (packed, alone)]
    assert torch.cosine_similarity(*every, dim=0) > 0.99


@pytest.mark.parametrize("checkpointing", [False, True])
def test_adapters_and_recomputed_activations_too(checkpointing):
    model = adapt(model_named("llama"), LoraSettings(rank=2), seed=1)
    model.backbone.checkpointing = checkpointing
    with torch.no_grad():
        for name, one in model.named_parameters():
            if "lora_up" in name:
                one.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    check_alike(*packed_and_alone(model))


@pytest.mark.parametrize("name", dict.fromkeys([*DECODERS, *REGISTERED]))
@pytest.mark.parametrize("missing", ["documents", "positions"])
def test_the_check_fails_where_what_keeps_them_apart_is_left_out(name, missing):
    """Without the documents every decoder leaks; without positions of their own, those leak that count from the row's start."""
    config = config_named(name)
    if missing == "positions" and getattr(config, "positions", "none") not in ("learned", "sinusoidal"):
        pytest.skip("this decoder sees distances alone, or has its order in itself")
    model, batches = model_named(name), pack_by_tokens(dialogues(), budget=128, width=64)
    alone = outcome(model, [collate([row]) for row in dialogues()])
    found = outcome(model, [replace(batch, **{missing: None}) for batch in batches])
    with pytest.raises(AssertionError):
        check_alike(found, alone)
