"""Models in GGUF files: the logits of transformers both ways, exact round trips, and plain refusals of what lies."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.corpus.tokenizer import Tokenizer, train_tokenizer
from headwater.errors import UserError
from headwater.models.config import RopeScaling
from headwater.models.gguf import half_split, interleaved, unpack_gguf
from headwater.models.gguf_export import write_gguf
from headwater.models.gguf_file import read_gguf
from headwater.models.layout import load_model, read_config, save_model
from tiny import lively_model, same_weights, weights_of

TEXTS = [f"The {noun} of the {place}, number {i * 37}: 博物馆{i}。" for i in range(6) for noun in ("museum", "river", "library")
         for place in ("town", "country", "university")]  # fmt: skip
VOCABULARY = 320
FAMILIES = {
    "llama": {"qk_norm": False},
    "llama untied": {"qk_norm": False, "tied_embeddings": False, "rope_base": 500_000.0},
    "qwen2": {"qk_norm": False, "query_bias": True},
    "qwen3": {"head_dim": 128},  # what transformers takes for granted in a GGUF of this family
}


def make(folder: Path, **changes) -> Path:
    """A small model with lively weights, norms and biases, and a tokenizer of ours."""
    model = lively_model(vocabulary=VOCABULARY, **changes)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    tokenizer = train_tokenizer(TEXTS, VOCABULARY)
    save_model(model, folder, pad=tokenizer.pad, eos=tokenizer.end_of_turn)
    tokenizer.save(folder, model.config.context)
    return folder


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path):
    return make(tmp_path / "folder", **FAMILIES[request.param])


def test_a_gguf_of_ours_loads_in_transformers_with_the_same_logits(folder, tmp_path):
    from transformers import AutoModelForCausalLM

    (tmp_path / "out").mkdir()
    write_gguf(folder, tmp_path / "out" / "model.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", gguf_file="model.gguf", dtype=torch.float32).eval()
    ids = torch.randint(5, VOCABULARY, (4, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = theirs(input_ids=ids).logits, load_model(folder)(ids)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_there_and_back_nothing_changes(folder, tmp_path):
    (tmp_path / "back").mkdir()
    write_gguf(folder, tmp_path / "model.gguf")
    unpack_gguf(tmp_path / "model.gguf", tmp_path / "back")
    first, second, config = load_model(folder), load_model(tmp_path / "back"), read_config(tmp_path / "back")
    assert first.config == second.config
    assert same_weights(weights_of(first), weights_of(second))
    assert config["eos_token_id"] == [4, 1]
    ours, back = Tokenizer.load(folder), Tokenizer.load(tmp_path / "back")
    for text in [*TEXTS, "<|end|> 12345  \n"]:
        assert ours.encode(text) == back.encode(text)
    dialogue = [{"role": "user", "content": "Hi"}]
    assert ours.chat(dialogue, continuation="") == back.chat(dialogue, continuation="")
    assert (back.pad, back.stop_tokens) == (ours.pad, ours.stop_tokens)


@pytest.mark.parametrize(
    "scaling",
    [
        RopeScaling("linear", 4.0, 64),
        RopeScaling("yarn", 4.0, 64, fast=16.0, slow=2.0),
        RopeScaling("llama3", 8.0, 8192, fast=4.0, slow=1.0),
    ],
    ids=lambda scaling: scaling.kind,
)
def test_extended_positions_there_and_back(scaling, tmp_path):
    folder = make(tmp_path / "folder", qk_norm=False, rope_scaling=scaling, context=256, rope_base=500_000.0)
    (tmp_path / "back").mkdir()
    write_gguf(folder, tmp_path / "model.gguf")
    unpack_gguf(tmp_path / "model.gguf", tmp_path / "back")
    assert load_model(tmp_path / "back").config == load_model(folder).config


def test_half_the_size_is_in_16_bits(tmp_path):
    folder = make(tmp_path / "folder", qk_norm=False)
    write_gguf(folder, tmp_path / "whole.gguf")
    write_gguf(folder, tmp_path / "half.gguf", half=True)
    assert (tmp_path / "half.gguf").stat().st_size < (tmp_path / "whole.gguf").stat().st_size
    (tmp_path / "back").mkdir()
    unpack_gguf(tmp_path / "half.gguf", tmp_path / "back")
    back, whole = weights_of(load_model(tmp_path / "back")), weights_of(load_model(folder))
    for name, weight in whole.items():
        assert torch.equal(back[name], weight.half().float() if weight.dim() > 1 else weight)


def test_the_order_of_rotary_rows_is_that_of_llama_cpp():
    """Pairs (0, d/2), (1, d/2 + 1) … of a head come to lie beside each other."""
    rows = torch.arange(16).reshape(16, 1).float().numpy()
    assert interleaved(rows, 2)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    assert (half_split(interleaved(rows, 2), 2) == rows).all()


def test_a_tensor_in_each_number_format(tmp_path):
    import gguf
    import numpy as np

    numbers = np.random.default_rng(0).normal(size=(4, 256)).astype(np.float32)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    kinds = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
    for name in kinds:
        kind = gguf.GGMLQuantizationType[name]
        writer.add_tensor(name, gguf.quantize(numbers, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read_gguf(tmp_path / "x.gguf")
    assert list(file.tensors) == list(kinds)
    for tensor in gguf.GGUFReader(tmp_path / "x.gguf").tensors:
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert (file.numbers(tensor.name) == expected).all()
        assert np.abs(file.numbers(tensor.name) - numbers).max() < 0.5


# What is no whole file


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_gguf(make(folder / "hf", qk_norm=False, layers=1, d_model=8, heads=2, key_value_heads=1, head_dim=4,
                    d_feedforward=8), folder / "model.gguf")  # fmt: skip
    return folder / "model.gguf"


def header_size(path: Path) -> int:
    return min(tensor.start for tensor in read_gguf(path).tensors.values())


def attempt(content: bytes, folder: Path) -> str | None:
    """The refusal, or None where it was imported."""
    path, out = folder / "damaged.gguf", folder / "out"
    path.write_bytes(content)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    try:
        unpack_gguf(path, out)
        load_model(out)
        Tokenizer.load(out).encode("The museum")
    except UserError as error:
        return str(error).replace("\n", "more than one line")
    return None


@settings(max_examples=150)
@given(data=st.data())
def test_any_bytes_in_the_header_are_refused_or_harmless(small, tmp_path_factory, data):
    content = bytearray(small.read_bytes())
    # Most of a header is the list of tokens: as many tries in the other settings and the table of tensors.
    size, rest = header_size(small), content.find(b"tokenizer.ggml.tokens")
    place = data.draw(st.one_of(st.integers(0, rest), st.integers(0, size - 1), st.integers(size - 1500, size - 1)))
    new = data.draw(st.one_of(st.binary(min_size=1, max_size=1), st.binary(min_size=8, max_size=8)))
    content[place : place + len(new)] = new
    attempt(bytes(content), tmp_path_factory.mktemp("damaged"))


def test_many_single_bytes_in_the_header(small, tmp_path):
    content, chance = small.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        damaged[chance.randrange(header_size(small))] ^= 1 << chance.randrange(8)
        refused += attempt(bytes(damaged), tmp_path) is not None
    assert refused > 50


@pytest.mark.parametrize("keep", [0, 3, 4, 20, 200, 5_000, -1, -100_000 // 100])
def test_a_truncated_file_is_refused(small, tmp_path, keep):
    assert "damaged" in (attempt(small.read_bytes()[:keep], tmp_path) or "")


def test_a_flipped_bit_in_the_weights_is_found_by_the_digest(small, tmp_path):
    content = bytearray(small.read_bytes())
    content[header_size(small) + 40] ^= 4
    assert "wrong checksum" in (attempt(bytes(content), tmp_path) or "")


def lie(key: bytes, offset: int, form: str, value: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        place = content.index(key) + len(key) + offset
        size = struct.calcsize(form)
        return content[:place] + struct.pack(form, value) + content[place + size :]

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:8] + struct.pack("<Q", 2**60) + content[16:],  # tensors
        lambda content: content[:16] + struct.pack("<Q", 2**60) + content[24:],  # settings
        lambda content: content[:4] + struct.pack("<I", 1) + content[8:],  # version
        lie(b"tokenizer.ggml.tokens", 8, "<Q", 2**60),
        lie(b"tokenizer.ggml.token_type", 8, "<Q", 2**60),
        lie(b"tokenizer.ggml.token_type", 4, "<I", 9),
        lie(b"general.architecture", 4, "<Q", 2**63),
        lie(b"llama.block_count", 4, "<I", 2**31 - 1),
        lie(b"llama.embedding_length", 4, "<I", 2**31 - 2),
        lie(b"llama.feed_forward_length", 4, "<I", 2**31 - 1),
        lie(b"llama.attention.head_count", 4, "<I", 2**31 - 1),
        lie(b"llama.attention.head_count_kv", 4, "<I", 0),
        lie(b"token_embd.weight", 4, "<Q", 2**60),
        lie(b"token_embd.weight", 0, "<I", 2**31),
        lie(b"token_embd.weight", 20, "<I", 99),
        lie(b"token_embd.weight", 24, "<Q", 2**60),
    ],
)
def test_a_header_that_lies_is_one_sentence(small, tmp_path, change):
    assert attempt(change(small.read_bytes()), tmp_path) is not None


def test_the_lies_above_are_lies_about_what_they_say(small, tmp_path):
    """Written with their true values the file is as it was."""
    content = small.read_bytes()
    assert lie(b"llama.block_count", 4, "<I", 1)(content) == content
    assert lie(b"llama.embedding_length", 4, "<I", 8)(content) == content
    assert lie(b"token_embd.weight", 0, "<I", 2)(content) == content
    assert lie(b"token_embd.weight", 4, "<Q", 8)(content) == content
    assert lie(b"token_embd.weight", 20, "<I", 0)(content) == content
    assert attempt(content, tmp_path) is None


def test_another_kind_of_model_and_another_kind_of_file(small, tmp_path):
    assert "only llama, qwen2, qwen3" in (attempt(small.read_bytes().replace(b"llama", b"gemma"), tmp_path) or "")
    assert "does not begin with GGUF" in (attempt(b"PK\x03\x04" + bytes(100), tmp_path) or "")
    with pytest.raises(UserError, match="no file"):
        unpack_gguf(tmp_path / "none.gguf", tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        unpack_gguf(tmp_path, tmp_path)


def test_without_the_package_one_is_told_what_to_install(small, monkeypatch):
    def fail(_name):
        raise ImportError

    monkeypatch.setattr("importlib.import_module", fail)
    with pytest.raises(UserError, match=r"pip install 'headwater\[gguf\]'"):
        read_gguf(small)


def test_a_model_that_is_no_llama_is_not_exported(tmp_path):
    folder = make(tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["Qwen3ForTokenClassification"]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="only language models of the families llama, qwen2, qwen3"):
        write_gguf(folder, tmp_path / "x.gguf")
