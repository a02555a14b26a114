"""A recipe's dials → models: each architecture is what it says, and what does not fit is refused in one sentence."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from headwater.errors import UserError
from headwater.models.config import TransformerConfig
from headwater.models.families import family_of
from headwater.models.initialisation import SCHEMES
from headwater.models.presets import PRESETS, RIVALS, config_of
from headwater.models.settings import ModelSettings
from headwater.objectives.pretraining import build_model
from headwater.stages.settings import PretrainSettings

SMALL = {"layers": 2, "d_model": 32, "heads": 2, "context": 32}
OBJECTIVE = {"decoder": "causal", "encoder": "masked", "encoder-decoder": "denoising"}


def small(name, **changes):
    return ModelSettings(architecture=name, **(SMALL | changes))


def build(name, seed=1, **changes):
    dials = small(name, **({} if name in RIVALS else changes)) if name not in RIVALS else rival(name)
    objective = OBJECTIVE[config_of(dials, 64).form]
    return build_model(PretrainSettings(model=dials, objective=objective), 64, seed)


def rival(name):
    return ModelSettings(architecture=name, layers=2, d_model=32, context=32)


def test_every_architecture_of_the_settings_has_a_preset_and_every_scheme_a_name():
    fields = ModelSettings.model_fields
    assert set(get_args(fields["architecture"].annotation)) == {*PRESETS, *RIVALS}
    (names, _) = get_args(fields["initialisation"].annotation)
    assert set(get_args(names)) == set(SCHEMES)
    assert {preset.initialisation for preset in PRESETS.values()} <= set(SCHEMES)


@pytest.mark.parametrize("name", [*PRESETS, *RIVALS])
def test_every_architecture_gives_finite_logits_of_its_vocabulary(name):
    model = build(name).eval()
    ids = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(ids, ids[:, :5]) if model.config.form == "encoder-decoder" else model(ids)
    assert logits.shape == (2, 5 if model.config.form == "encoder-decoder" else 9, 64)
    assert bool(torch.isfinite(logits).all())
    assert float(logits.std()) > 1e-4


def test_the_default_is_the_decoder_of_old():
    assert config_of(ModelSettings(**SMALL), 64) == TransformerConfig(
        vocabulary=64, layers=2, d_model=32, heads=2, key_value_heads=2, head_dim=16, d_feedforward=128, context=32
    )


@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2", "bert", "t5"])
def test_what_the_world_has_is_saved_in_its_layout(name):
    model = build(name)
    assert family_of(model.config, model.kind).name == name


def test_weights_are_a_function_of_the_seed():
    one, same, other = (build("encoder", seed).backbone.embedding.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "changes", "part"),
    [
        ("qwen3", {"heads": 5}, "d_model = 32 is not a multiple of its heads = 5"),
        ("gpt2", {"key_value_heads": 1}, "key_value_heads = 1 does not fit the architecture `gpt2`"),
        ("encoder", {"decoder_layers": 1}, "decoder_layers is only for encoder-decoders, which `encoder` is not"),
        ("bert", {"rope_base": 500.0}, "rope_base is only for rotary positions; these are learned"),
        ("lstm", {}, "heads has no meaning for the architecture `lstm`: leave it out"),
        ("lstm", {"heads": 4, "window": 8}, "window has no meaning for the architecture `lstm`"),
        ("convolutional", {"heads": 4, "gradient_checkpointing": True}, "gradient_checkpointing has no meaning"),
    ],
)
def test_dials_that_do_not_fit_are_refused(name, changes, part):
    with pytest.raises(UserError, match=part):
        config_of(small(name, **changes), 64)


def test_dials_reach_the_model():
    dials = small("encoder-decoder", positions="alibi", window=4, dropout=0.1, decoder_layers=1, d_feedforward=48)
    config = config_of(dials, 64)
    assert (config.positions, config.window, config.dropout) == ("alibi", 4, 0.1)
    assert (config.layers, config.decoder_layers, config.d_feedforward) == (2, 1, 48)


def test_an_initialisation_of_ones_own_is_followed():
    spread = {
        name: float(build("qwen3", initialisation=name).backbone.embedding.weight.detach().std())
        for name in ("unit", "gpt2")
    }
    assert spread["unit"] == pytest.approx(1, rel=0.1)
    assert spread["gpt2"] == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("name", ["qwen3", "bert", "t5"])
def test_gradient_checkpointing_changes_no_gradient(name):
    ids = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(0))
    found = []
    for checkpointing in (False, True):
        model = build(name, gradient_checkpointing=checkpointing)
        logits = model(ids, ids) if model.config.form == "encoder-decoder" else model(ids)
        logits.square().mean().backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for one, other in zip(found[0].values(), found[1].values(), strict=True):
        torch.testing.assert_close(one, other)
