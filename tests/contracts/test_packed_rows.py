"""What every decoder must satisfy where dialogues share a row: losses and gradients are those of each dialogue alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from forms import DECODERS, Form

from headwater.models import attention
from headwater.models.attention import attend_in_pieces
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
IN_PIECES = {"in pieces": -1, "under a mask": 10**9}
"""Scores that a document must spare to be attended to alone: both ways of attention are taken."""
every_way = pytest.mark.parametrize("threshold", IN_PIECES.values(), ids=IN_PIECES.keys())


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
@every_way
def test_packed_dialogues_have_the_loss_and_the_gradients_of_each_alone(name, threshold, monkeypatch):
    monkeypatch.setattr(attention, "SCORES_PER_PIECE", threshold)
    check_alike(*packed_and_alone(model_named(name)))


@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2", "alibi", "sliding window"])
@every_way
def test_in_bf16_too(name, threshold, monkeypatch):
    monkeypatch.setattr(attention, "SCORES_PER_PIECE", threshold)
    packed, alone = packed_and_alone(model_named(name, torch.bfloat16))
    assert packed[0] == pytest.approx(alone[0], rel=1e-2)
    every = [torch.cat([gradient.flatten().float() for gradient in found[2].values()]) for found in (packed, alone)]
    assert torch.cosine_similarity(*every, dim=0) > 0.99


@pytest.mark.parametrize("checkpointing", [False, True])
@every_way
def test_adapters_and_recomputed_activations_too(checkpointing, threshold, monkeypatch):
    monkeypatch.setattr(attention, "SCORES_PER_PIECE", threshold)
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_long_dialogues_are_attended_to_in_pieces(dtype, monkeypatch):
    """The threshold as it is: not for the short documents of the tests, but for dialogues."""
    called = []
    monkeypatch.setattr(
        "headwater.models.attention.attend_in_pieces", lambda *a: (called.append(1), attend_in_pieces(*a))[1]
    )
    model = DECODERS["qwen3"].model(dtype=dtype, context=1024)
    for length, pieces in ((8, 0), (200, 2)):
        documents = torch.arange(4).repeat_interleave(length)[None]
        positions = torch.arange(length).repeat(4)[None]
        ids = torch.randint(5, 60, (1, 4 * length), generator=torch.Generator().manual_seed(1))
        logits = model(ids, positions, documents)
        assert len(called) == pieces, "once in each of two layers"
        called.clear()
        with torch.no_grad():
            for packed, alone in zip(logits.detach().split(length, dim=1), ids.split(length, dim=1), strict=True):
                torch.testing.assert_close(
                    packed.float(), model(alone).float(), atol=0.3 if dtype == torch.bfloat16 else 1e-3, rtol=0
                )


def test_a_document_in_two_places_of_a_row_is_seen_whole():
    documents = torch.arange(4).repeat_interleave(300)[None]
    assert attention.pieces_of(documents) == [300] * 4
    documents[0, 900:] = 0
    assert attention.pieces_of(documents) is None
    assert attention.pieces_of(torch.cat((documents[:, :600], documents[:, 300:900]))) == [300, 300, 300, 300]
