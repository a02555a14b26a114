"""Files of weights: whole and in shards, with a digest; what is damaged or could run a program is refused."""

from __future__ import annotations

import json
import pickle
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from headwater.errors import UserError
from headwater.models.weights import DIGEST, digest_of, read_weights, write_weights

WEIGHTS = {
    "b.weight": torch.arange(12.0).reshape(3, 4),
    "a.bias": torch.tensor([0.5, -1.0]),
    "scale": torch.tensor(2.0),
    "turned": torch.arange(6.0).reshape(2, 3).T,
    "whole": torch.tensor([7, 8]),
    "none": torch.zeros(0, 3),
}


def same(found, expected=WEIGHTS):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def refusal(folder):
    with pytest.raises(UserError) as caught:
        read_weights(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_written_is_read_and_safetensors_reads_it_too(tmp_path):
    write_weights(WEIGHTS, tmp_path / "model.safetensors")
    assert same(read_weights(tmp_path))
    assert same(load_file(tmp_path / "model.safetensors"))


def test_the_same_weights_give_the_same_bytes(tmp_path):
    write_weights(WEIGHTS, tmp_path / "one")
    for _ in range(5):
        write_weights(dict(reversed(WEIGHTS.items())), tmp_path / "other")
        assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.uint8, torch.bool])
def test_each_number_format(dtype, tmp_path):
    weights = {"a": torch.ones(3, 5).to(dtype), "b": torch.zeros(2).to(dtype), "c": torch.ones(3)}
    write_weights(weights, tmp_path / "model.safetensors")
    found = read_weights(tmp_path)
    assert same(found, weights)
    assert {name: tensor.dtype for name, tensor in found.items()} == {n: t.dtype for n, t in weights.items()}


def test_a_number_format_is_for_numbers_with_a_fraction_only(tmp_path):
    write_weights(WEIGHTS, tmp_path / "model.safetensors", torch.bfloat16)
    found = read_weights(tmp_path)
    assert found["b.weight"].dtype == torch.bfloat16
    assert found["whole"].dtype == torch.int64


def test_the_digest_is_that_of_the_bytes_in_the_order_of_the_names():
    import hashlib

    expected = hashlib.sha256(struct.pack("<2f", 0.5, -1.0) + struct.pack("<12f", *range(12))).hexdigest()
    assert digest_of({name: WEIGHTS[name] for name in ("b.weight", "a.bias")}) == expected


def test_any_flipped_bit_is_refused_or_without_effect(tmp_path):
    path = tmp_path / "model.safetensors"
    write_weights(WEIGHTS, path)
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in range(8 * start, 8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert "wrong checksum" in refusal(tmp_path)


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 400), value=st.integers(0, 255))
def test_any_other_byte_in_the_header_is_refused_or_gives_the_same_numbers(tmp_path_factory, place, value):
    folder = tmp_path_factory.mktemp("header")
    write_weights(WEIGHTS, folder / "model.safetensors")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[place] = value
    (folder / "model.safetensors").write_bytes(content)
    try:
        found = read_weights(folder)
    except UserError:
        return
    assert sum(tensor.numel() for tensor in found.values()) == sum(tensor.numel() for tensor in WEIGHTS.values())


@pytest.mark.parametrize("size", [2**63, 2**40, 99_000_000, 3])
def test_a_header_that_lies_about_its_length(tmp_path, size):
    (tmp_path / "model.safetensors").write_bytes(size.to_bytes(8, "little") + b"{}")
    assert "damaged" in refusal(tmp_path)


def test_a_shape_larger_than_the_file(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert "damaged" in refusal(tmp_path)


def test_a_name_that_is_there_twice(tmp_path):
    entry = '"a":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}'
    header = ("{" + entry % (0, 4) + "," + entry % (4, 8) + "}").encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert "damaged" in refusal(tmp_path)


def shards(folder, index=None):
    names = sorted(WEIGHTS)
    files = {"model-00001-of-00002.safetensors": names[:3], "model-00002-of-00002.safetensors": names[3:]}
    for file, held in files.items():
        save_file({name: WEIGHTS[name].contiguous() for name in held}, folder / file)
    weight_map = {name: file for file, held in files.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index or {"weight_map": weight_map}))
    return weight_map


def test_shards_are_one_model(tmp_path):
    shards(tmp_path)
    assert same(read_weights(tmp_path))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m.pop("b.weight"), "only the file has the weight b.weight"),
        (lambda m: m.update({"more": m["b.weight"]}), "only the index names the weight more"),
        (lambda m: m.update({"b.weight": "/etc/passwd"}), "only safetensors files beside it"),
        (lambda m: m.update({"b.weight": "../model.safetensors"}), "only safetensors files beside it"),
        (lambda m: m.update({"b.weight": "pytorch_model.bin"}), "only safetensors files beside it"),
        (lambda m: m.update({"b.weight": "model-3.safetensors"}), "only the file has"),
        (lambda m: m.update({"b.weight": 7}), "damaged"),
        (lambda m: m.clear(), "damaged"),
    ],
    ids=str,
)
def test_an_index_that_does_not_fit(tmp_path, change, expected):
    weight_map = shards(tmp_path)
    change(weight_map)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert expected in refusal(tmp_path)


def test_a_shard_that_is_missing_and_an_index_that_is_none(tmp_path):
    shards(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert "no weights at" in refusal(tmp_path)
    for content in ("", "[]", '{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', "[" * 100_000):
        (tmp_path / "model.safetensors.index.json").write_text(content)
        assert "damaged" in refusal(tmp_path)


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/headwater-was-here", "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "model.ckpt"])
def test_a_pickle_is_refused_and_not_opened(tmp_path, monkeypatch, name):
    content = pickle.dumps(Evil())
    (tmp_path / name).write_bytes(content)
    for opener in ("pickle.load", "pickle.loads", "torch.load"):
        monkeypatch.setattr(opener, lambda *_, **__: pytest.fail("opened"))
    assert "pickle" in refusal(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    assert "damaged" in refusal(tmp_path)


def test_a_pointer_of_git_lfs_says_what_to_do(tmp_path):
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    assert "git lfs pull" in refusal(tmp_path)


def test_the_digest_is_written(tmp_path):
    from safetensors import safe_open

    write_weights(WEIGHTS, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata()[DIGEST] == digest_of(WEIGHTS)
