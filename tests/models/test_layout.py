"""Models on disk: the logits of transformers, and plain refusals of what does not fit."""

from __future__ import annotations

import json
import pickle
import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from headwater.errors import UserError
from headwater.models.layout import load_model, read_config, save_model
from tiny import lively_model, same_weights, tiny_model, weights_of

KINDS = ("language-model", "reward", "critic")
CLASSES = {
    "language-model": "AutoModelForCausalLM",
    "reward": "AutoModelForSequenceClassification",
    "critic": "AutoModelForTokenClassification",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{}, {"tied_embeddings": False}], ids=["tied", "untied"])
def test_what_was_saved_is_loaded_bit_for_bit(kind, changes, tmp_path):
    model = tiny_model(kind, **changes)
    save_model(model, tmp_path, pad=0, eos=4, extra={"gain": 2.0})
    loaded, config = load_model(tmp_path), read_config(tmp_path)
    assert loaded.kind == kind
    assert loaded.config == model.config
    assert same_weights(weights_of(loaded), weights_of(model))
    assert config["headwater"] == {"gain": 2.0}
    assert (config["pad_token_id"], config["eos_token_id"]) == (0, 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changes",
    [{}, {"qk_norm": False}, {"tied_embeddings": False, "rope_base": 500.0}],
    ids=["qwen3", "llama", "untied and another base"],
)
def test_transformers_computes_the_same(kind, changes, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = tiny_model(kind, **changes)
    with torch.no_grad():  # weights that nothing leaves as it was: norms of 1 and biases of 0 could be forgotten
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        model.backbone.embedding.weight.mul_(20)
    save_model(model, tmp_path, pad=0, eos=4)
    theirs = getattr(transformers, CLASSES[kind]).from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.randint(5, 60, (8, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = theirs(input_ids=ids).logits
        if kind == "reward":
            found = model.scores(ids, torch.full((8,), 20))[:, None]
        else:
            found = model(ids) if kind == "language-model" else model(ids)[..., None]
    assert found.shape == logits.shape
    assert float(found.std()) > 0.1
    torch.testing.assert_close(found, logits, atol=1e-4, rtol=1e-4)


@pytest.fixture
def folder(tmp_path):
    save_model(tiny_model(), tmp_path, pad=0, eos=4)
    return tmp_path


def rewrite(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def test_a_missing_an_extra_and_a_misshapen_weight_are_named(folder):
    name = "model.layers.1.mlp.up_proj.weight"
    weight = load_file(folder / "model.safetensors")[name]
    rewrite(folder, lambda weights: weights.pop(name))
    with pytest.raises(UserError, match=f"lacks the weight {name}"):
        load_model(folder)
    rewrite(folder, lambda weights: weights.update({name: weight[:-1]}))
    with pytest.raises(UserError, match="has the shape"):
        load_model(folder)
    rewrite(folder, lambda weights: weights.update({name: weight, "model.more": weight.clone()}))
    with pytest.raises(UserError, match=r"has the weight model\.more"):
        load_model(folder)


def test_a_repeated_tied_matrix_is_no_extra_weight(folder):
    rewrite(folder, lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"].clone()}))
    assert load_model(folder).config.tied_embeddings


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/headwater-was-here", "w"))


def test_a_pickle_is_refused_and_not_opened(folder, monkeypatch):
    opened = []
    monkeypatch.setattr("pickle.load", lambda *_: opened.append(1))
    monkeypatch.setattr("torch.load", lambda *_, **__: opened.append(1))
    (folder / "model.safetensors").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="damaged"):
        load_model(folder)
    assert not opened


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, -1])
def test_a_truncated_file_is_refused(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="damaged"):
        load_model(folder)


def test_a_flipped_bit_in_the_header_is_refused_or_harmless(folder):
    """A bit in the numbers themselves is what the manifest's checksums are for."""
    path = folder / "model.safetensors"
    whole, expected = path.read_bytes(), weights_of(load_model(folder))
    header = 8 + int.from_bytes(whole[:8], "little")
    refused = 0
    for place in random.Random(0).sample(range(8 * header), 200):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = weights_of(load_model(folder))
        except UserError:
            refused += 1
        else:
            assert same_weights(found, expected)
    assert refused > 150


def test_missing_files_are_named(tmp_path, folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        load_model(folder)
    with pytest.raises(UserError, match="no model"):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "gpt2"},
        {"architectures": ["Evil"]},
        {"architectures": None},
        {"architectures": 5},
        {"architectures": [["x"]]},
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"rope_parameters": {"rope_type": "yarn"}},
        {"num_attention_heads": 3},
        {"head_dim": 7},
        {"hidden_size": None},
        {"vocab_size": "many"},
        {"vocab_size": -5},
        {"num_hidden_layers": 2.5},
        {"num_hidden_layers": 3},
        {"num_key_value_heads": 0},
        {"rms_norm_eps": "small"},
        {"rope_parameters": 7},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_is_refused_in_plain_words(folder, change):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError):
        load_model(folder)


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "intermediate_size", "model_type", "rms_norm_eps"])
def test_a_configuration_that_lacks_a_key_is_refused(folder, key):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config[key]
    path.write_text(json.dumps(config))
    with pytest.raises(UserError):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_damaged_configuration_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load_model(folder)


def test_bf16_weights_can_be_written_and_are_read_as_fp32(tmp_path):
    model = lively_model()
    save_model(model, tmp_path, pad=0, eos=4, dtype=torch.bfloat16)
    loaded = load_model(tmp_path)
    for name, weight in weights_of(model).items():
        assert torch.equal(weights_of(loaded)[name], weight.bfloat16().float())


@pytest.mark.parametrize("tied", [True, False])
def test_an_extended_model_has_the_same_weights_of_its_own_tied_as_before(tied):
    model = tiny_model(tied_embeddings=tied)
    longer = model.extended("yarn", 256)
    assert longer.config.context == 256
    assert longer.parameter_count() == model.parameter_count()
    assert same_weights(weights_of(longer), weights_of(model))
    with torch.no_grad():
        longer.backbone.embedding.weight.add_(1)
    assert not same_weights(weights_of(longer), weights_of(model))


@pytest.mark.parametrize(
    ("changes", "method", "context", "sentence"),
    [
        ({"positions": "learned"}, "yarn", 256, "Only rotary"),
        ({}, "yarn", 64, "reads 64 tokens as it is"),
        ({"head_dim": 2}, "ntk", 256, "single frequency"),
    ],
)
def test_an_extension_that_cannot_be_is_refused(changes, method, context, sentence):
    with pytest.raises(UserError, match=sentence):
        tiny_model(**changes).extended(method, context)


def test_a_row_past_the_learnt_positions_is_one_sentence():
    with pytest.raises(UserError, match="65 tokens is longer than the 64 positions"):
        tiny_model(positions="learned")(torch.zeros(1, 65, dtype=torch.long))


def test_padding_of_the_source_is_none_of_the_class_head_s_business():
    model = tiny_model("class", form="encoder-decoder", decoder_layers=1)
    source, target = torch.ones(2, 7, dtype=torch.long), torch.ones(2, 4, dtype=torch.long)
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    assert torch.equal(model(source, target, mask), model(source, target, source_documents=mask))


def test_a_fresh_head_has_dropout_only_where_its_backbone_trains(tmp_path):
    save_model(tiny_model(dropout=0.5), tmp_path, pad=0, eos=4)
    loaded = load_model(tmp_path)
    assert not loaded.with_head("reward", 1).training
    assert loaded.train().with_head("reward", 1).training
