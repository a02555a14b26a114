from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.words import units


def test_words_and_characters():
    assert units("The Café's 3 cats!") == ["the", "café", "s", "3", "cats"]
    assert units("我爱Python编程。") == ["我", "爱", "python", "编", "程"]
    assert units("東京タワー") == list("東京タワー")
    assert units("… !") == []


@given(st.text())
def test_no_letter_is_lost(text):
    assert "".join(units(text)) == "".join(
        c for c in text.casefold() if c.isalnum() or c == "_" or c in "".join(units(text))
    )
