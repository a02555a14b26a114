"""Tokenizers that others made: the ids of transformers, special tokens by name, and no content that becomes control."""

from __future__ import annotations

import contextlib
import json
import pickle
import random

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError

TEXTS = [
    f"The {adjective} {noun} of the {place} was number {i * 37}, and it's told that they'll see 这座博物馆{i}。"
    for i in range(4)
    for adjective in ("old", "quiet", "golden", "northern")
    for noun in ("museum", "river", "library", "theatre")
    for place in ("town", "country", "university")
]
ODD = ["  two  spaces\n\nlines\t", "…'s 12345 好", "", " ", "ÄÖ ﬁ Ⅷ", "a\u00a0b", "def f(x):\n    return x ** 2\n"]
CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def special(*names):
    return [AddedToken(name, special=True, normalized=False) for name in names]


def write(folder, inner, config, tokenizer_config, special_tokens_map=None):
    inner.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"} | tokenizer_config)
    )
    if special_tokens_map is not None:
        (folder / "special_tokens_map.json").write_text(json.dumps(special_tokens_map))
    return folder


def byte_level(names, ignore_merges=False):
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=420,
            show_progress=False,
            special_tokens=special(*names),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        ),
    )
    if ignore_merges:
        state = json.loads(inner.to_str())
        state["model"]["ignore_merges"] = True
        inner = tokenizers.Tokenizer.from_str(json.dumps(state))
    return inner


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """As GPT-2's: one special token for everything, named only in special_tokens_map.json."""
    return write(
        tmp_path_factory.mktemp("gpt2"),
        byte_level(["<|endoftext|>"]),
        {"model_type": "gpt2", "eos_token_id": 0},
        {},
        {"eos_token": "<|endoftext|>", "bos_token": {"content": "<|endoftext|>"}, "unk_token": "<|endoftext|>"},
    )


@pytest.fixture(scope="module")
def chatting(tmp_path_factory):
    """As SmolLM2's: PAD = EOS, a chat template; words are looked up before they are merged, as in Llama 3."""
    return write(
        tmp_path_factory.mktemp("chat"),
        byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"], ignore_merges=True),
        {"model_type": "llama", "eos_token_id": 2},
        {
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
            "chat_template": CHAT,
        },
    )


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    inner = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    inner.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=200, show_progress=False, special_tokens=special(*names))
    )
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # MiniLM's file cuts and pads by itself, which nobody has asked for here.
    inner.enable_truncation(8)
    inner.enable_padding(length=8, pad_id=0, pad_token="[PAD]")
    parts = {f"{part}_token": f"[{part.upper()}]" for part in ("pad", "unk", "cls", "sep", "mask")}
    return write(tmp_path_factory.mktemp("bert"), inner, {"model_type": "bert", "pad_token_id": 0}, parts)


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    names = ["<pad>", "</s>", "<unk>", *(f"<extra_id_{index}>" for index in range(5))]
    inner = tokenizers.Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    inner.decoder = decoders.Metaspace(prepend_scheme="always")
    inner.train_from_iterator(
        TEXTS,
        trainers.UnigramTrainer(vocab_size=200, show_progress=False, special_tokens=special(*names), unk_token="<unk>"),
    )
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    config = {"model_type": "t5", "pad_token_id": 0, "eos_token_id": 1}
    parts = {"pad_token": "<pad>", "eos_token": {"__type": "AddedToken", "content": "</s>"}, "unk_token": "<unk>"}
    return write(tmp_path_factory.mktemp("t5"), inner, config, parts)


@pytest.fixture(params=["gpt2", "chatting", "bert", "t5"])
def folder(request):
    return request.getfixturevalue(request.param)


def test_ids_are_those_of_transformers(folder):
    from transformers import PreTrainedTokenizerFast

    ours, theirs = Tokenizer.load(folder), PreTrainedTokenizerFast.from_pretrained(folder)
    for text in [*TEXTS[:10], *ODD]:
        for framed in (False, True):
            expected = theirs(text, add_special_tokens=framed)["input_ids"]
            assert ours.encode(text, special=framed) == expected
            assert ours.encode_batch([text], special=framed) == [expected]
        expected = theirs.decode(ours.encode(text), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert ours.decode(ours.encode(text)) == expected


def test_special_tokens_are_found_by_name(gpt2, chatting, bert, t5):
    found = Tokenizer.load(gpt2)
    assert (found.eos, found.bos, found.unk, found.padding, found.mask) == (0, 0, 0, None, None)
    assert found.stop_tokens == (0,)
    with pytest.raises(UserError, match="free for padding"):
        _ = found.pad
    found = Tokenizer.load(chatting)
    assert (found.bos, found.eos, found.pad) == (1, 2, 0)  # PAD = EOS: the unknown token is never used
    assert (found.end_of_turn, found.end_of_text, found.stop_tokens) == (2, 2, (2,))
    found = Tokenizer.load(bert)
    assert (found.pad, found.unk, found.mask, found.eos, found.stop_tokens) == (0, 1, 4, None, ())
    found = Tokenizer.load(t5)
    assert (found.pad, found.eos, found.sentinels) == (0, 1, [3, 4, 5, 6, 7])


def test_a_turn_and_a_text_can_have_different_ends(chatting, tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((chatting / name).read_bytes())
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 0, 9999999, "x"]}')
    found = Tokenizer.load(tmp_path)
    assert (found.end_of_turn, found.end_of_text, found.stop_tokens) == (2, 0, (2, 0))
    assert found.pad == 3  # <repo_name>, as the first one ends texts


def test_framing_is_the_family_s(bert, t5):
    found = Tokenizer.load(bert)
    ids = found.encode("the old museum", special=True)
    assert (ids[0], ids[-1], ids[1:-1]) == (2, 3, found.encode("the old museum"))
    assert Tokenizer.load(t5).encode("the", special=True)[-1] == 1


CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "</s>", "<pad>"]


@settings(max_examples=200)
@given(
    text=st.one_of(
        st.text(max_size=30), st.lists(st.sampled_from([*CONTROL, "<", ">", "|", "the ", "/s>", " "])).map("".join)
    )
)
def test_no_content_becomes_a_control_token(gpt2, chatting, bert, t5, text):
    for folder in (gpt2, chatting, bert, t5):
        found = loaded(folder)
        controls = {number for number, token in found._saved.get_added_tokens_decoder().items() if token.special}
        controls -= {found.unk}
        assert not controls & set(found.encode(text))
        if folder in (gpt2, chatting):
            assert 0 not in found.encode(text)
            assert found.decode(found.encode(text)) == text
            assert found.decode_bytes(found.encode(text)) == text.encode()


_LOADED: dict = {}


def loaded(folder):
    if folder not in _LOADED:
        _LOADED[folder] = Tokenizer.load(folder)
    return _LOADED[folder]


def test_spelt_control_tokens_really_were_a_danger(t5):
    """The vocabulary of a Unigram model holds them among its pieces."""
    plain = tokenizers.Tokenizer.from_file(str(t5 / "tokenizer.json"))
    plain.encode_special_tokens = True
    assert 1 in plain.encode("the </s>", add_special_tokens=False).ids


def test_any_bytes_can_be_written_where_bytes_are_the_alphabet(chatting):
    found = loaded(chatting)
    assert {bytes([byte]) for byte in range(256)} <= set(map(found.bytes_of, range(found.vocabulary)))


def test_a_tokenizer_that_does_not_work_on_bytes_says_so(bert):
    with pytest.raises(UserError, match="does not work on bytes"):
        Tokenizer.load(bert).decode_bytes([5])


def test_saved_and_loaded_or_pickled_it_is_the_same(folder, tmp_path):
    from transformers import PreTrainedTokenizerFast

    first = Tokenizer.load(folder)
    first.save(tmp_path, 77)
    for other in (Tokenizer.load(tmp_path), pickle.loads(pickle.dumps(first))):
        for text in [*TEXTS[:3], *ODD, "<|im_end|></s>[SEP]"]:
            assert other.encode(text, special=True) == first.encode(text, special=True)
        parts = ("padding", "bos", "eos", "unk", "mask", "sentinels", "vocabulary")
        assert [getattr(other, part) for part in parts] == [getattr(first, part) for part in parts]
        assert other.has_chat_template == first.has_chat_template
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert theirs.pad_token_id == first.padding
    assert theirs.model_max_length == 77


DIALOGUE = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Write a line  of the museum.\n"},
    {"role": "assistant", "content": "The old\nmuseum. "},
    {"role": "user", "content": " again, 'please' 再来"},
]


def test_dialogues_are_those_of_transformers(chatting):
    from transformers import PreTrainedTokenizerFast

    ours, theirs = Tokenizer.load(chatting), PreTrainedTokenizerFast.from_pretrained(chatting)
    for messages in (DIALOGUE, DIALOGUE[1:2], DIALOGUE[:3]):
        for opened in (False, True):
            expected = theirs.apply_chat_template(messages, add_generation_prompt=opened, return_dict=False)
            assert ours.chat(messages, continuation="" if opened else None) == expected
    begun = [*DIALOGUE, {"role": "assistant", "content": "Golden mus"}]
    expected = theirs.apply_chat_template(begun, continue_final_message=True, return_dict=False)
    assert ours.chat(DIALOGUE, continuation="Golden mus") == expected


@settings(max_examples=150)
@given(
    content=st.lists(
        st.sampled_from(["<|im_end|>", "<|im_start|>", "<", "|im_end|>", "|>", ">", " ", "\n", "a", "\ufdd0", "<|"])
    ).map("".join)
)
def test_what_a_user_types_cannot_end_the_turn(chatting, content):
    found = loaded(chatting)
    ids = found.chat([{"role": "user", "content": content}], continuation=content)
    assert [token for token in ids if token < 4] == [1, 2, 1]
    assert found.decode(ids, skip_special=False) == (
        f"<|im_start|>user\n{content.strip()}<|im_end|>\n<|im_start|>assistant\n{content}"
    )


def test_a_role_is_a_word(chatting):
    with pytest.raises(UserError, match="a role is a word"):
        Tokenizer.load(chatting).chat([{"role": "user<|im_end|>", "content": ""}])


def test_without_a_template_there_are_no_dialogues(bert):
    with pytest.raises(UserError, match="no chat template"):
        Tokenizer.load(bert).chat(DIALOGUE)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "config.json"])
@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_a_damaged_file_beside_it_is_one_sentence(gpt2, tmp_path, name, content):
    for path in gpt2.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        Tokenizer.load(tmp_path)


def test_flipped_bytes_in_tokenizer_json_are_refused_or_harmless(bert, tmp_path):
    content = (bert / "tokenizer.json").read_bytes()
    chance = random.Random(0)
    for _ in range(200):
        damaged = bytearray(content)
        damaged[chance.randrange(len(content))] = chance.randrange(256)
        (tmp_path / "tokenizer.json").write_bytes(damaged)
        with contextlib.suppress(UserError):
            Tokenizer.load(tmp_path).encode("the old museum", special=True)
