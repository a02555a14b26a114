"""What a family refuses, what it forgives, and that no config.json gives anything but a model or a plain sentence."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import CASES, PAD, compare, rewritten, their_model
from safetensors.torch import load_file, save_file

from headwater.errors import UserError
from headwater.models.config import TransformerConfig
from headwater.models.layout import load_model, save_model
from headwater.models.model import Model

BY_NAME = {case.name: case for case in CASES}
FIRST = {
    "Llama": "Llama language-model",
    "GPT2": "GPT2 language-model",
    "Bert": "Bert masked",
    "Marian": "Marian language-model",
}
FIRST |= {"T5": "T5 language-model", "ViT": "ViT class"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One model per family as transformers writes it."""
    found = {}
    for family, name in FIRST.items():
        found[family] = tmp_path_factory.mktemp(family)
        their_model(BY_NAME[name]).save_pretrained(found[family])
    return found


@pytest.fixture
def copy_of(folders, tmp_path):
    return lambda family: shutil.copytree(folders[family], tmp_path / family)


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
    model, _ = load_model(folder)
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


LACKING = {
    "Llama": [
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"layer_types": ["sliding_attention", "full_attention"]},
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
        {"rope_parameters": {"rope_type": "longrope", "factor": 2.0}},
        {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "mscale": 1.0}},
        {"rope_parameters": {"rope_type": "yarn", "factor": 0}},
        {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "beta_fast": 1.0, "beta_slow": 3.0}},
        {"rope_parameters": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 2.0, "high_freq_factor": 2.0}},
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1.0}},
    ],
    "GPT2": [
        {"add_cross_attention": True},
        {"scale_attn_by_inverse_layer_idx": True},
        {"activation_function": "gelu_fast"},
        {"activation_function": ["gelu"]},
        {"n_head": 5},
        {"resid_pdrop": 1.0},
        {"resid_pdrop": "some"},
        {"layer_norm_epsilon": float("nan")},
        {"tie_word_embeddings": "many"},
    ],
    "Bert": [
        {"is_decoder": True},
        {"position_embedding_type": "relative_key"},
        {"position_embedding_type": "relative_key_query"},
        {"tie_word_embeddings": False},
        {"architectures": ["BertForPreTraining"]},
        {"hidden_act": 7},
        {"type_vocab_size": 0},
    ],
    "Marian": [
        {"share_encoder_decoder_embeddings": False},
        {"decoder_vocab_size": 61},
        {"decoder_attention_heads": 2},
        {"decoder_ffn_dim": 41},
        {"normalize_before": True},
        {"tie_word_embeddings": False},
        {"decoder_start_token_id": 60},
        {"decoder_start_token_id": None},
    ],
    "T5": [
        {"feed_forward_proj": "swiglu"},
        {"feed_forward_proj": "gated-"},
        {"feed_forward_proj": 5},
        {"relative_attention_num_buckets": 2},
        {"relative_attention_max_distance": 3},
        {"architectures": ["T5EncoderModel"]},
        {"is_encoder_decoder": False},
    ],
    "ViT": [
        {"image_size": [24, 32]},
        {"patch_size": 25},
        {"patch_size": 0},
        {"pooler_act": "relu"},
        {"pooler_output_size": 16},
        {"num_channels": 1},
        {"image_size": 1024},
    ],
}


@pytest.mark.parametrize(
    ("family", "change"), [(family, change) for family, changes in LACKING.items() for change in changes], ids=str
)
def test_what_we_do_not_have_is_said_in_one_sentence(copy_of, family, change):
    folder = copy_of(family)
    rewritten(folder, change)
    with pytest.raises(UserError) as refusal:
        load_model(folder)
    assert "\n" not in str(refusal.value)


HUGE = 10**9


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("Llama", {"vocab_size": HUGE, "hidden_size": HUGE}),
        ("Llama", {"num_hidden_layers": HUGE}),
        ("Llama", {"num_hidden_layers": 2**62}),
        ("Llama", {"head_dim": HUGE, "num_attention_heads": HUGE, "num_key_value_heads": HUGE}),
        ("GPT2", {"n_positions": HUGE, "n_inner": HUGE}),
        ("Bert", {"type_vocab_size": HUGE, "max_position_embeddings": HUGE}),
        ("Marian", {"decoder_layers": HUGE}),
        ("Marian", {"vocab_size": HUGE, "decoder_vocab_size": HUGE}),
        ("T5", {"num_layers": HUGE}),
        ("T5", {"d_ff": 2**31 - 1, "d_model": 2**31 - 1, "vocab_size": 2**31 - 1}),
        ("ViT", {"image_size": HUGE}),
        ("ViT", {"id2label": {str(i): "x" for i in range(9)}}),
    ],
    ids=str,
)
def test_a_configuration_of_another_size_is_refused_before_memory_is_taken(copy_of, family, change, monkeypatch):
    """Real numbers would be allocated only for a model that fits its weights."""
    folder = copy_of(family)
    rewritten(folder, change)
    allocated = []
    real = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: allocated.append(r := real(*a, **k)) or r)
    with pytest.raises(UserError):
        load_model(folder)
    assert all(tensor.is_meta for tensor in allocated)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 70)
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["gelu", "relu", "silu", "gated-gelu", "yarn", "linear", "llama3", "default"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["rope_type", "factor", "rope_theta", "beta_fast", "0", "1"]), inner, max_size=3
        )
    ),
    max_leaves=4,
)


@pytest.mark.parametrize("family", FIRST)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_config_json_gives_a_model_that_computes_or_a_plain_sentence(folders, family, data):
    """Some keys are changed or gone; the weights are as they were."""
    folder = folders[family]
    path, whole = folder / "config.json", (folder / "config.json").read_text()
    config = json.loads(whole)
    keys = sorted(
        set(config) | {"rope_scaling", "tie_word_embeddings", "decoder_start_token_id", "n_positions", "id2label"}
    )
    for key in data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=3, unique=True)):
        if data.draw(st.integers(0, 4)):
            config[key] = data.draw(anything)
        else:
            config.pop(key, None)
    path.write_text(json.dumps(config))
    try:
        model, _ = load_model(folder)
    except UserError:
        return
    finally:
        path.write_text(whole)
    ids = torch.arange(5)[None]
    inputs = {"ViT": (torch.zeros(1, 3, 24, 24),), "Marian": (ids, ids), "T5": (ids, ids)}.get(family, (ids,))
    with torch.no_grad():
        model(*inputs)


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
    model, _ = load_model(folder)
    assert model.config.dropout == 0.25
    save_model(model, tmp_path / "again", pad=PAD, eos=2)
    again, config = load_model(tmp_path / "again")
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
    loaded, written = load_model(tmp_path)
    assert written["model_type"] == family
    assert loaded.config == config


def test_a_bert_classifier_without_a_pooler_is_no_bert(tmp_path):
    their_model(BY_NAME["Bert class"]).save_pretrained(tmp_path / "bert")
    model, _ = load_model(tmp_path / "bert")
    bare = Model(replace(model.config, pooler=False), "class", 5).initialise(0)
    save_model(bare, tmp_path / "bare", pad=0, eos=2)
    loaded, written = load_model(tmp_path / "bare")
    assert (written["model_type"], loaded.config) == ("headwater", bare.config)
