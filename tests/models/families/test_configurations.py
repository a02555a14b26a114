"""Whatever stands in config.json gives a model or one plain sentence, and takes no memory for what cannot be."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import FIRST, rewritten

from headwater.errors import UserError
from headwater.models.layout import load_model

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
        model = load_model(folder)
    except UserError:
        return
    finally:
        path.write_text(whole)
    ids = torch.arange(5)[None]
    inputs = {"ViT": (torch.zeros(1, 3, 24, 24),), "Marian": (ids, ids), "T5": (ids, ids)}.get(family, (ids,))
    with torch.no_grad():
        model(*inputs)
