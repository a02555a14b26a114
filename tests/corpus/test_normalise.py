import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.corpus.normalise import exact_key, normalise, split_key

MESSY = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.sampled_from("&amp;lt#x27;Ã©â€™œ\u200b\u200d\ufeff\r\n\t \u00a0\u0301\x00\x1b[31mé中文，！👩"),
    ),
    max_size=60,
)


@pytest.mark.parametrize(
    ("messy", "clean"),
    [
        ("schÃ¶n", "schön"),
        ("It‚Äôs fine", "It’s fine"),
        ("e\u0301te\u0301", "été"),
        ("a\u200bb\ufeffc\u00add", "abcd"),
        ("a\x00b\x07c", "abc"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("a  \n\n\n\n b\t\n", "a\n\n b"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("a\u00a0b", "a b"),
        ("tab\tstays", "tab\tstays"),
    ],
)
def test_what_is_mended(messy, clean):
    assert normalise(messy) == clean


@pytest.mark.parametrize(
    "text", ["x² ½ ① ﬁ", "你好，世界！（真的）", "“quoted” ‘so’", "👩‍👩‍👧 family", "ｆｕｌｌ", "π ≈ 3.14…", "plain"]
)
def test_what_is_right_stays(text):
    assert normalise(text) == text


@settings(max_examples=300)
@given(MESSY)
def test_it_is_idempotent_and_leaves_nothing_invisible(text):
    clean = normalise(text)
    assert normalise(clean) == clean
    assert not set(clean) & set("\x00\x1b\r\u200b\ufeff\u00a0\ud800")
    assert clean == clean.strip()
    clean.encode("utf-8")


@given(MESSY)
def test_keys_are_stable_under_case_and_white_space(text):
    assert exact_key(exact_key(text)) == exact_key(text)
    assert exact_key(f"  {text}\n") == exact_key(text)
    assert split_key(exact_key(text)) == split_key(text)


def test_keys():
    assert exact_key("Ｈｅｌｌｏ\n World") == exact_key("hello world")
    assert exact_key("hello world.") != exact_key("hello world")
    assert split_key("Hello, world.") == split_key("hello world") == "hello world"
    assert split_key("!!!") == "!!!"
