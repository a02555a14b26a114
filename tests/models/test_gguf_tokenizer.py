"""Tokenizers of GGUF files: the ids of transformers' own reading, for each way of cutting words."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.models.gguf_file import read_gguf
from headwater.models.gguf_tokenizer import WHOLE, tokenizer_settings, word_cutters, write_tokenizer

TRAINING = [
    f"The {noun} of the {place} was number {i * 37}, and it's told that THEY'LL see 这座博物馆{i}。\n\n    return x ** {i}\r\n"
    for i in range(6)
    for noun in ("museum", "river", "library", "theatre")
    for place in ("town", "country", "university")
]
TEXTS = [
    *TRAINING[:3],
    "  two  spaces\n\nlines\t tabs \r\n and\u00a0more   ",
    "def f(x):\n    return x ** 2  # naïve\n\tif x:\n\n\n        pass",
    "图书馆里的书很多，我们每天都去。Ünïcödé 😀👍🏽",
    "It's they'll WE'VE don't I'm 'quoted' \"text\" -- (a_b) <html> https://x.y/z?q=1",
    "1234567 12,345.67 ٣٤ Ⅷ ½",
    "",
    " ",
    "\n",
]
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


def train(kind: str) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = word_cutters()[kind]
    inner.decoder = decoders.ByteLevel()
    special = [AddedToken(name, special=True, normalized=False) for name in CONTROL]
    trainer = trainers.BpeTrainer(
        vocab_size=500, show_progress=False, special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    inner.train_from_iterator(TRAINING, trainer)
    return inner


def written(kind: str, folder: Path, **changes) -> Path:
    """A GGUF file with nothing but such a tokenizer."""
    train(kind).save(str(folder / "tokenizer.json"))
    found = tokenizer_settings(folder, 500) | {
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.chat_template": CHAT,
        "tokenizer.ggml.add_bos_token": False,
    }
    del found[WHOLE]
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    for key, value in (found | changes).items():
        add = {list: writer.add_array, bool: writer.add_bool, int: writer.add_uint32, str: writer.add_string}
        add[type(value)](key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "model.gguf"


def read(path: Path) -> tuple[Tokenizer, list[int]]:
    folder = path.parent / "read"
    folder.mkdir(exist_ok=True)
    ends = write_tokenizer(read_gguf(path).settings, folder, 64, path)
    return Tokenizer.load(folder), ends


KINDS = ["gpt-2", "llama-bpe", "qwen2", "smollm"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """{way of cutting: (ours, transformers')}."""
    from transformers.integrations.gguf import convert_gguf_tokenizer, get_gguf_tokenizer

    found = {}
    for kind in KINDS:
        path = written(kind, tmp_path_factory.mktemp("gguf"))
        architecture, theirs, _ = get_gguf_tokenizer(str(path))
        found[kind] = (read(path)[0], convert_gguf_tokenizer(architecture, theirs)[0], train(kind))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_tokenizer_that_was_written(pairs, kind):
    ours, _, original = pairs[kind]
    for text in TEXTS:
        assert ours.encode(text) == original.encode(text, add_special_tokens=False).ids
        assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_ids_are_those_of_transformers(pairs, kind):
    ours, theirs, _ = pairs[kind]
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def test_of_smollm_transformers_does_not_know_that_each_digit_is_a_word(pairs):
    ours, theirs, _ = pairs["smollm"]
    for text in TEXTS:
        if not any(character.isnumeric() for character in text):
            assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    assert [ours.decode([token]) for token in ours.encode("1237")] == ["1", "2", "3", "7"]


@settings(max_examples=150)
@given(text=st.text(max_size=40))
def test_any_text_reads_as_in_transformers(pairs, text):
    import unicodedata

    for kind in ("gpt-2", "llama-bpe", "qwen2"):
        ours, theirs, _ = pairs[kind]
        plain = unicodedata.normalize("NFC", text) if kind == "qwen2" else text
        assert ours.encode(text) == theirs.encode(plain, add_special_tokens=False).ids


def test_special_tokens_template_and_ends(tmp_path):
    path = written("smollm", tmp_path, **{"tokenizer.ggml.eot_token_id": 0, "tokenizer.ggml.padding_token_id": 2})
    found, ends = read(path)
    assert (found.bos, found.eos, found.unk) == (1, 2, None)
    assert ends == [2, 0]
    assert found.has_chat_template
    assert not {0, 1, 2} & set(found.encode("".join(CONTROL)))
    assert found.encode("a", special=True) == found.encode("a")


@pytest.mark.parametrize("kind", ["llama-bpe", "gpt-2"])
def test_a_beginning_is_added_where_the_file_says_so(tmp_path, kind):
    path = written(kind, tmp_path, **{"tokenizer.ggml.add_bos_token": True})
    found, _ = read(path)
    assert found.encode("a", special=True) == [1, *found.encode("a")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tokenizer.ggml.model": "bert"}, "of the kind bert/smollm"),
        ({"tokenizer.ggml.pre": "tekken"}, "of the kind gpt2/tekken"),
        ({"tokenizer.ggml.merges": ["a"]}, "do not fit"),
        ({"tokenizer.ggml.merges": ["qqq zzz"]}, "do not fit"),
        ({"tokenizer.ggml.token_type": [1, 1]}, "do not fit"),
        ({"tokenizer.ggml.tokens": ["a", "a"]}, "do not fit"),
        ({"tokenizer.ggml.tokens": 7}, "has no tokenizer.ggml.tokens"),
        ({WHOLE: "{}"}, "cannot be read"),
    ],
)
def test_lists_that_do_not_fit_each_other_are_one_sentence(tmp_path, changes, expected):
    with pytest.raises(UserError) as caught:
        read(written("smollm", tmp_path, **changes))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_tokenizers_that_contradict_each_other_are_refused(tmp_path):
    other = train("smollm")
    other.add_tokens(["more"])
    with pytest.raises(UserError, match="contradict each other"):
        read(written("smollm", tmp_path, **{WHOLE: other.to_str()}))


# SentencePiece


def pieces(folder: Path, **changes) -> Path:
    """A GGUF file with a tokenizer as Llama 2 has it: BPE of SentencePiece, bytes for what no piece has."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.train_from_iterator(TRAINING, trainers.BpeTrainer(vocab_size=200, show_progress=False))
    learnt = sorted(inner.get_vocab().items(), key=lambda entry: entry[1])
    extra = [
        token for token in ("</", "s>", "</s") if token not in inner.get_vocab()
    ]  # that `</s>` could be joined from
    tokens = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *extra,
        *(token for token, _ in learnt),
    ]
    kinds = [2, 3, 3, *[6] * 256, *[1] * (len(extra) + len(learnt))]
    settings = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.scores": [0.0] * 259 + [-float(rank) for rank in range(len(tokens) - 259)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    for key, value in (settings | changes).items():
        add = {list: writer.add_array, bool: writer.add_bool, int: writer.add_uint32, str: writer.add_string}
        add[type(value)](key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "model.gguf"


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory):
    from transformers.integrations.gguf import convert_gguf_tokenizer, get_gguf_tokenizer

    path = pieces(tmp_path_factory.mktemp("gguf"))
    architecture, theirs, _ = get_gguf_tokenizer(str(path))
    return read(path)[0], convert_gguf_tokenizer(architecture, theirs)[0]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_those_of_transformers(sentencepiece, text):
    ours, theirs = sentencepiece
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    # A first space counts as the one that stands before every text.
    assert ours.decode(ours.encode(text)) == text.removeprefix(" ")


@settings(max_examples=100)
@given(text=st.text(max_size=30))
def test_any_text_round_trips_in_pieces(sentencepiece, text):
    ours, theirs = sentencepiece
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    if "\u2581" not in text:  # which stands for a space
        assert ours.decode(ours.encode(text)) == text.removeprefix(" ")


def test_pieces_begin_with_their_token_and_never_become_control(sentencepiece, tmp_path):
    ours, _ = sentencepiece
    assert ours.encode("the", special=True) == [1, *ours.encode("the")]
    assert not {0, 1, 2} & set(ours.encode("<s> </s> <unk>"))
    plain, _ = read(
        pieces(tmp_path, **{"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_space_prefix": False})
    )
    assert plain.encode("the", special=True) == plain.encode("the") != ours.encode("the")


def test_scores_that_do_not_fit(tmp_path):
    with pytest.raises(UserError, match="scores"):
        read(pieces(tmp_path, **{"tokenizer.ggml.scores": [0.0]}))
