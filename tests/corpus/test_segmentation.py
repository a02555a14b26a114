"""Groups of tokens are whole words: in English by spaces and signs, in Chinese by segmentation."""

from __future__ import annotations

import builtins

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus import segmentation
from headwater.corpus.segmentation import chinese_words, single_characters, word_ends, word_groups
from words import CHINESE, ENGLISH, small_tokenizer


def words_of(text: str, segment=single_characters) -> list[str]:
    """The words of a text, each byte of which is a token."""
    data = text.encode()
    groups = word_groups(data, lambda byte: bytes([byte]), segment)
    return [data[group.start : group.stop].decode() for group in groups]


def test_english_words_are_led_by_their_space_and_signs_stand_alone():
    assert words_of("The committee's 12,345 shareholders (loudly).") == [
        "The", " committee", "'", "s", " 12", ",", "345", " shareholders", " (", "loudly", ")", ".",
    ]  # fmt: skip


def test_chinese_words_are_those_of_jieba():
    assert words_of("我来到北京清华大学。", chinese_words()) == ["我", "来到", "北京", "清华大学", "。"]


def test_without_jieba_each_character_is_a_word():
    assert words_of("我来到北京。") == ["我", "来", "到", "北", "京", "。"]


def test_a_segmentation_of_ones_own_is_followed():
    assert words_of("我来到北京。", lambda run: [run[:3], run[3:]]) == ["我来到", "北京", "。"]


def test_a_token_of_two_words_joins_them():
    pieces = {1: "我来".encode(), 2: "到北".encode(), 3: "京".encode(), 4: "好".encode()}
    segment = lambda _: ["我", "来到", "北京", "好"]  # noqa: E731
    assert word_groups([1, 2, 3, 4], pieces.__getitem__, segment) == [range(0, 3), range(3, 4)]


def test_control_tokens_are_in_no_group_and_end_a_word():
    tokenizer = small_tokenizer()
    word = tokenizer.encode("recommendation")
    ids = [1, *word[:2], 1, *word[2:], 1]
    groups = word_groups(ids, tokenizer.bytes_of, single_characters)
    assert groups == [range(1, 3), range(4, 2 + len(word))]


@given(st.text(max_size=60) | st.text("ab 我们大家。'\u0301é😀\n_9", max_size=60))
def test_groups_cover_every_token_once_and_cut_no_character(text):
    tokenizer = small_tokenizer()
    ids = tokenizer.encode(text)
    groups = word_groups(ids, tokenizer.bytes_of, chinese_words())
    assert [place for group in groups for place in group] == list(range(len(ids)))
    for group in groups:
        tokenizer.decode_bytes(ids[place] for place in group).decode("utf-8")  # raises within a character


@given(st.binary(max_size=60))
def test_any_bytes_are_words_to_their_end(data):
    ends = list(word_ends(data, single_characters))
    assert ends == sorted(set(ends))
    assert (ends[-1] if ends else 0) == len(data)


def test_a_letter_keeps_its_marks():
    assert [len(word) for word in words_of("e\u0301te\u0301 नमस्ते")] == [5, 7]


def test_what_is_cut_within_a_character_stays_together():
    tokenizer = small_tokenizer()
    token_of = {tokenizer.bytes_of(token): token for token in range(tokenizer.vocabulary)}
    ids = [token_of[bytes([byte])] for byte in "我们".encode()[1:-1]]
    assert word_groups(ids, tokenizer.bytes_of, single_characters) == [range(0, 4)]


def test_a_missing_jieba_is_said_once_and_single_characters_serve(monkeypatch, capsys):
    real = builtins.__import__

    def without(name, *more, **others):
        if name == "jieba":
            raise ImportError
        return real(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    chinese_words.cache_clear()
    try:
        assert segmentation.chinese_words() is single_characters
        assert segmentation.chinese_words() is single_characters
    finally:
        chinese_words.cache_clear()
    printed = "".join(capsys.readouterr())
    assert printed.count("jieba is not installed") == 1


def test_the_sample_texts_have_words_of_several_tokens():
    """Else the tests of whole words would show nothing."""
    tokenizer = small_tokenizer()
    for text in (ENGLISH, CHINESE):
        groups = word_groups(tokenizer.encode(text), tokenizer.bytes_of, chinese_words())
        assert sum(len(group) > 1 for group in groups) > len(groups) / 4


@pytest.mark.parametrize("text", ["", " ", "\n\n", "a", "我"])
def test_short_texts(text):
    assert "".join(words_of(text)) == text
