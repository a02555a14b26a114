"""An answer's text while it comes: whole characters, cut before a stop string, no part of one ever shown."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel

from headwater.models.transcript import Transcript

TEXT = "今天钻到三千米。The bit stopped at 3,000 m — 换钻头!"


def from_bytes(tokens):
    """A token is a byte."""
    return bytes(tokens).decode("utf-8", "replace")


def shown_after_each(tokens, decode, stops=()):
    transcript = Transcript(decode, stops)
    shown = []
    for token in tokens:
        transcript.add(token)
        shown.append(transcript.text)
        if transcript.stopped:
            break
    transcript.finish()
    return [*shown, transcript.text], transcript.stopped


def test_only_whole_characters_are_shown_and_all_of_them():
    shown, stopped = shown_after_each(TEXT.encode(), from_bytes)
    assert shown[-1] == TEXT
    assert not stopped
    for text in shown:
        assert TEXT.startswith(text)
        assert "\ufffd" not in text
    assert shown[2] == "今"
    assert shown[1] == ""


def test_half_a_character_at_the_end_is_not_shown():
    shown, _ = shown_after_each("钻头".encode()[:-1], from_bytes)
    assert shown[-1] == "钻"


def test_bytes_that_are_no_character_are_shown_as_such_once_more_comes():
    shown, _ = shown_after_each(b"a\xffb\xe4\xba", from_bytes)
    assert shown == ["a", "a", "a\ufffdb", "a\ufffdb", "a\ufffdb", "a\ufffdb"]


@pytest.mark.parametrize(
    "stops", [("3,000",), ("换钻头",), ("xx", "bit", " stopped"), ("。",), ("never",), ("!", "头!")]
)
def test_the_text_is_cut_before_the_earliest_stop_string(stops):
    places = [TEXT.find(stop) for stop in stops if stop in TEXT]
    expected = TEXT[: min(places)] if places else TEXT
    shown, stopped = shown_after_each(TEXT.encode(), from_bytes, stops)
    assert shown[-1] == expected
    assert stopped == bool(places)
    assert all(expected.startswith(text) for text in shown), "no part of a stop string is ever shown"


def test_what_might_be_a_stop_string_waits_until_it_is_known():
    shown, stopped = shown_after_each(b"one EN two END three", from_bytes, ("END",))
    assert stopped
    assert shown[5] == "one "  # "one EN": the last two letters are held back
    assert shown[6] == "one EN "
    assert shown[-1] == "one EN two "
    shown, stopped = shown_after_each(b"the EN", from_bytes, ("END",))
    assert (shown[-2], shown[-1], stopped) == ("the ", "the EN", False)


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(["a", "b", "ab", "aab", "钻", "é", "ba钻"]), max_size=12),
    st.lists(st.text("ab钻é", min_size=1, max_size=5), max_size=3),
    st.data(),
)
def test_any_text_in_any_pieces_with_any_stop_strings(pieces, stops, data):
    """Tokens are runs of bytes that may begin and end within a character."""
    raw = "".join(pieces).encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(raw) - 1)), max_size=8))) if len(raw) > 1 else []
    parts = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]

    def decode(tokens):
        return b"".join(parts[token] for token in tokens).decode("utf-8", "replace")

    shown, stopped = shown_after_each(range(len(parts)), decode, stops)
    whole = raw.decode()
    reached = decode(range(len(shown) - 1)).rstrip("\ufffd")
    places = [reached.find(stop) for stop in stops if stop in reached]
    assert stopped == any(stop in whole for stop in stops)
    assert shown[-1] == (reached[: min(places)] if places else whole)
    assert all(later.startswith(earlier) for earlier, later in pairwise(shown))


def test_spaces_that_stand_in_the_tokens_stay():
    """Tokenizers of SentencePiece's kind leave out the first token's space; the others keep theirs."""
    words = ["▁one", "▁two", "x", "▁", "three", "▁END"]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="x"))
    tokenizer.decoder = decoders.Metaspace()
    for tokens in ([0, 1, 2, 3, 4], [4, 3, 0, 1, 1], [3, 0, 2, 2, 1]):
        shown, _ = shown_after_each(tokens, tokenizer.decode)
        assert shown[-1] == tokenizer.decode(tokens)
    shown, stopped = shown_after_each([0, 1, 5, 0], tokenizer.decode, (" END",))
    assert (shown[-1], stopped) == ("one two", True)
