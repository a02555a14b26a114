"""Talking to a model: what it is given, where it stops, and who cannot be talked to."""

from __future__ import annotations

import builtins
import json
from pathlib import Path

import pytest
import torch

from headwater import chat as chat_module
from headwater.chat import SYSTEM, chat, prompt_ids
from headwater.corpus.tokenizer import Tokenizer, train_tokenizer
from headwater.errors import UserError
from headwater.models.layout import load_model, save_model
from headwater.models.sampling import Sampling
from tiny import lively_model

TEXTS = [f"The {noun} of the {place}, number {i * 37}: 博物馆{i}。" for i in range(6) for noun in ("museum", "river", "library")
         for place in ("town", "country", "university")]  # fmt: skip
VOCABULARY = 320
SYSTEMATIC = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def make(folder: Path, template: str | None = "own", kind="language-model", **changes) -> Path:
    """`template`: another than ours; None: a tokenizer that knows no dialogues."""
    model = lively_model(vocabulary=VOCABULARY, **changes)
    model = model if kind == "language-model" else model.with_head(kind, 1)
    save_model(model, folder, pad=0, eos=4)
    train_tokenizer(TEXTS, VOCABULARY).save(folder, model.config.context)
    if template != "own":
        path = folder / "tokenizer.json"  # no longer a tokenizer of ours: its first tokens are called otherwise
        path.write_text(path.read_text().replace("<|pad|>", "<|nil|>"))
        settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"pad_token": "<|nil|>"}
        settings["chat_template"] = template
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


class Dialogue(list):
    """What the model was given, answer by answer, as text; each answer is `yes`."""

    def talk(self, folder: Path, monkeypatch, lines: list[str], **settings) -> None:
        """Chats with the model, typing these lines."""
        tokenizer, typed = Tokenizer.load(folder), iter(lines)

        def answer(_model, ids, _sampling, _seed, _decode):
            self.append(tokenizer.decode(ids, skip_special=False))
            yield "ye"
            yield "s"

        def ask(_prompt: str) -> str:
            try:
                return next(typed)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr(chat_module, "stream_text", answer)
        monkeypatch.setattr(builtins, "input", ask)
        chat(folder, Sampling(128), **settings)


@pytest.fixture
def given() -> Dialogue:
    return Dialogue()


def test_one_answer_of_a_model_of_ours(tmp_path, capsys, given, monkeypatch):
    given.talk(make(tmp_path / "m"), monkeypatch, [], prompt="The river")
    assert given == ["<|user|>The river<|end|><|assistant|>"]
    assert capsys.readouterr().out == "yes\n"


def test_a_conversation_goes_on_until_an_empty_line(tmp_path, capsys, given, monkeypatch):
    given.talk(make(tmp_path / "m"), monkeypatch, ["The river", "The town", "", "never"])
    first = "<|user|>The river<|end|><|assistant|>"
    assert given == [first, first + "yes<|end|><|user|>The town<|end|><|assistant|>"]
    assert capsys.readouterr().out == "yes\nyes\n"


def test_a_template_that_takes_it_is_told_the_system_s_words(tmp_path, given, monkeypatch):
    folder = make(tmp_path / "m", SYSTEMATIC)
    given.talk(folder, monkeypatch, ["The river", "The town"])
    first = f"<|system|>{SYSTEM}<|end|><|user|>The river<|end|><|assistant|>"
    assert given[0] == first
    assert given[1] == first + "yes<|end|><|user|>The town<|end|><|assistant|>"
    given.talk(folder, monkeypatch, [], prompt="The river", system="")
    assert given[2] == "<|user|>The river<|end|><|assistant|>"
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + SYSTEMATIC
    given.talk(make(tmp_path / "strict", strict), monkeypatch, [], prompt="The river")
    assert given[3] == "<|user|>The river<|end|><|assistant|>"


def test_without_a_template_the_text_is_continued(tmp_path, given, monkeypatch):
    folder = make(tmp_path / "m", None)
    given.talk(folder, monkeypatch, ["The river", "of the"])
    assert given == ["The river", "of the"]


def test_the_oldest_turns_give_way(tmp_path):
    folder = make(tmp_path / "m", SYSTEMATIC, context=64)
    model, tokenizer = load_model(folder), Tokenizer.load(folder)
    turns = [{"role": "system", "content": "S"}]
    for number in range(6):
        turns += [{"role": "user", "content": f"The river {number}"}, {"role": "assistant", "content": "the town"}]
    turns.append({"role": "user", "content": "The last"})
    text = tokenizer.decode(prompt_ids(model, tokenizer, turns), skip_special=False)
    assert text.startswith("<|system|>S<|end|><|user|>The river ")
    assert text.endswith("The last<|end|><|assistant|>")
    assert "The river 0" not in text
    assert len(tokenizer.encode(text)) > 0


def test_the_last_request_stays_whatever_gives_way(tmp_path):
    """Also where turns do not alternate, as a client may send them."""
    folder = make(tmp_path / "m", SYSTEMATIC, context=32)
    model, tokenizer = load_model(folder), Tokenizer.load(folder)
    last = {"role": "user", "content": "The last"}
    for before in (["user"], ["user"] * 3, ["system", "user"], ["assistant"], ["user", "assistant"]):
        turns = [{"role": role, "content": "The river and the town"} for role in before]
        assert tokenizer.decode(prompt_ids(model, tokenizer, [*turns, last])).endswith("The last")


def test_it_stops_at_the_stop_tokens(tmp_path, capsys):
    """A model whose likeliest token is always the end of a turn says nothing."""
    folder = make(tmp_path / "m", SYSTEMATIC, tied_embeddings=False)
    model = load_model(folder)
    with torch.no_grad():
        model.language_model.weight.zero_()
        hidden = model.backbone(torch.tensor([Tokenizer.load(folder).chat([{"role": "user", "content": "a"}], "")]))
        model.language_model.weight[4] = hidden[0, -1]
    save_model(model, folder, pad=0, eos=4)
    chat(folder, Sampling(20, temperature=0), "a", system="")
    assert capsys.readouterr().out == "\n"


def test_greedy_is_the_same_each_time_and_no_longer_than_asked(tmp_path, capsys):
    folder = make(tmp_path / "m")
    answers = []
    for seed in (1, 2):
        chat(folder, Sampling(5, temperature=0), "The river", seed=seed)
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert len(Tokenizer.load(folder).encode(answers[0].rstrip("\n"))) <= 6


def test_who_cannot_be_talked_to(tmp_path):
    with pytest.raises(UserError, match="is a reward model, which writes no text"):
        chat(make(tmp_path / "reward", kind="reward"), Sampling(4), "x")
    folder = make(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has no tokenizer\.json"):
        chat(folder, Sampling(4), "x")


def test_a_hostile_template_is_stopped(tmp_path):
    folder = make(tmp_path / "m", "{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(UserError, match="does what no template may"):
        chat(folder, Sampling(4), "x")
