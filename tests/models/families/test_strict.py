"""Weights that are missing, extra or of other shapes; habits of other writers; which layout a model is written in."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from oracles import BY_NAME, FIRST, PAD, compare, rewritten, their_model
from safetensors.torch import load_file, save_file

from headwater.errors import UserError
from headwater.models.config import TransformerConfig
from headwater.models.layout import load_model, read_config, save_model
from headwater.models.model import Model


def rewrite(folder, change):
    weights = load_file(folder / "model.safetensors")
    changed = change(weights)
    save_file(
        {name: weight.contiguous().clone() for name, weight in (changed or weights).items()},
        folder / "model.safetensors",
    )


@pytest.mark.parametrize("family", FIRST)
def test_every_missing_weight_and_an_extra_one_are_named(copy_of, family, monkeypatch):
    folder = copy_of(family)
    weights = load_file(folder / "model.safetensors")
    extra = next(iter(weights)).replace(".0.", ".7.") + ".more"
    wrong = [(weights | {extra: torch.ones(2)}, f"has the weight {extra}")]
    for name, weight in weights.items():
        wrong.append(({other: weights[other] for other in weights if other != name}, f"lacks the weight {name}"))
        wrong.append((weights | {name: weight[:-1] if len(weight) > 1 else weight[0]}, "has the shape"))
        wrong.append((weights | {name: weight.int()}, "in place of floating-point"))
    for found, sentence in wrong:
        monkeypatch.setattr("headwater.models.layout.read_weights", lambda _, found=found: found)
        with pytest.raises(UserError, match=re.escape(sentence)):
            load_model(folder)


def test_the_unused_pooler_of_a_bert_for_masked_tokens_is_an_extra_weight(copy_of):
    folder = copy_of("Bert")
    rewrite(folder, lambda weights: weights.update({"bert.pooler.dense.bias": torch.ones(32)}))
    with pytest.raises(UserError, match=r"has the weight bert\.pooler\.dense\.bias"):
        load_model(folder)


HABITS = {
    "Llama": [lambda w: w | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(2)}],
    "GPT2": [
        lambda w: {name.removeprefix("transformer."): weight for name, weight in w.items()},
        lambda w: (
            w
            | {
                "transformer.h.0.attn.bias": torch.ones(1, 1, 48, 48),
                "transformer.h.1.attn.masked_bias": torch.ones(()),
            }
        ),
        lambda w: w | {"lm_head.weight": w["transformer.wte.weight"]},
    ],
    "Bert": [
        lambda w: {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): weight
            for name, weight in w.items()
        },
        lambda w: w | {"bert.embeddings.position_ids": torch.arange(48)[None]},
        lambda w: (
            w
            | {
                "cls.predictions.decoder.weight": w["bert.embeddings.word_embeddings.weight"],
                "cls.predictions.decoder.bias": w["cls.predictions.bias"],
            }
        ),
    ],
    "Marian": [
        lambda w: (
            w
            | {f"model.{part}.embed_positions.weight": torch.ones(48, 32) for part in ("encoder", "decoder")}
            | {f"model.{part}.embed_tokens.weight": w["model.shared.weight"] for part in ("encoder", "decoder")}
            | {"lm_head.weight": w["model.shared.weight"]}
        ),
    ],
    "T5": [
        lambda w: (
            w
            | {f"{part}.embed_tokens.weight": w["shared.weight"] for part in ("encoder", "decoder")}
            | {"lm_head.weight": w["shared.weight"]}
        )
    ],
}


@pytest.mark.parametrize(
    ("family", "habit"),
    [(family, habit) for family, habits in HABITS.items() for habit in habits],
    ids=lambda x: str(x)[:6],
)
def test_habits_of_other_writers_are_forgiven(copy_of, family, habit):
    folder = copy_of(family)
    rewrite(folder, habit)
    model = load_model(folder)
    assert compare(BY_NAME[FIRST[family]], model, their_model(BY_NAME[FIRST[family]]), "none") <= 1e-4


@pytest.mark.parametrize(
    ("family", "repeated"),
    [
        ("GPT2", "lm_head.weight"),
        ("Bert", "cls.predictions.decoder.weight"),
        ("Marian", "model.decoder.embed_tokens.weight"),
        ("T5", "encoder.embed_tokens.weight"),
    ],
)
def test_a_tied_matrix_that_is_repeated_with_other_numbers_is_refused(copy_of, family, repeated):
    folder = copy_of(family)
    rewrite(folder, lambda weights: weights.update({repeated: torch.ones(60, 32)}))
    with pytest.raises(UserError, match=repeated):
        load_model(folder)


DROPOUTS = {
    "Llama": ["dropout"],
    "GPT2": ["resid_pdrop", "embd_pdrop", "attn_pdrop"],
    "Bert": ["hidden_dropout_prob", "attention_probs_dropout_prob"],
    "Marian": ["dropout", "attention_dropout"],
    "T5": ["dropout_rate"],
    "ViT": ["hidden_dropout_prob", "attention_probs_dropout_prob"],
}


@pytest.mark.parametrize("family", FIRST)
def test_dropout_is_written_under_the_family_s_own_keys(copy_of, family, tmp_path):
    folder = copy_of(family)
    rewritten(folder, dict.fromkeys(DROPOUTS[family], 0.25))
    model = load_model(folder)
    assert model.config.dropout == 0.25
    save_model(model, tmp_path / "again", pad=PAD, eos=2)
    again, config = load_model(tmp_path / "again"), read_config(tmp_path / "again")
    assert again.config == model.config
    assert [config[key] for key in DROPOUTS[family]] == [0.25] * len(DROPOUTS[family])


@pytest.mark.parametrize(
    ("kind", "changes", "family"),
    [
        ("language-model", {}, "qwen3"),
        ("language-model", {"qk_norm": False}, "llama"),
        ("masked", {"form": "encoder"}, "headwater"),
        ("language-model", {"window": 4}, "headwater"),
        ("language-model", {"positions": "alibi"}, "headwater"),
        ("language-model", {"form": "encoder-decoder", "decoder_layers": 2, "decoder_start": 1}, "headwater"),
    ],
)
def test_what_no_family_can_say_is_written_as_our_own(kind, changes, family, tmp_path):
    config = TransformerConfig(60, 2, 32, 4, 2, 8, 64, 32, **changes)
    save_model(Model(config, kind).initialise(0), tmp_path, pad=0, eos=2)
    loaded, written = load_model(tmp_path), read_config(tmp_path)
    assert written["model_type"] == family
    assert loaded.config == config


def test_a_bert_classifier_without_a_pooler_is_no_bert(tmp_path):
    their_model(BY_NAME["Bert class"]).save_pretrained(tmp_path / "bert")
    model = load_model(tmp_path / "bert")
    bare = Model(replace(model.config, pooler=False), "class", 5).initialise(0)
    save_model(bare, tmp_path / "bare", pad=0, eos=2)
    loaded, written = load_model(tmp_path / "bare"), read_config(tmp_path / "bare")
    assert (written["model_type"], loaded.config) == ("headwater", bare.config)
