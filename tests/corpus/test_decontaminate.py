import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.decontaminate import Contamination

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def test_twelve_words_in_common_are_found_whatever_the_punctuation():
    contamination = Contamination([LONG])
    assert contamination.find(f"It says: {LONG.upper().replace(' ', ', ')}!") is not None
    inside = " ".join(LONG.split()[1:13])
    assert contamination.find(f"x {inside} y") == inside


def test_eleven_words_in_common_are_not():
    contamination = Contamination([LONG])
    assert contamination.find(" ".join(LONG.split()[:11]) + " other words follow") is None
    assert contamination.find(" ".join(LONG.split()[3:])) is None


def test_a_shorter_held_out_text_is_searched_for_whole():
    contamination = Contamination(["a taut and intelligent psychological drama for adults"])
    assert contamination.find("They call it a taut and intelligent psychological drama for adults indeed") is not None
    assert contamination.find("a taut and intelligent psychological drama for children") is None


def test_a_very_short_one_counts_only_as_the_whole_document():
    contamination = Contamination(["great phone", ""])
    assert contamination.find("Great phone!") == "great phone"
    assert contamination.find("a great phone it is") is None


def test_chinese_counts_characters():
    contamination = Contamination(["这座博物馆建于十九世纪此后一直向公众开放"])
    assert contamination.find("据说，博物馆建于十九世纪，此后一直没有变化") == "博 物 馆 建 于 十 九 世 纪 此 后 一"
    assert contamination.find("建于十九世纪，此后一直") is None


def test_nothing_held_out_finds_nothing():
    assert Contamination([]).find(LONG) is None


@given(st.lists(st.sampled_from("abcdefgh"), min_size=0, max_size=30), st.integers(0, 5), st.integers(0, 5))
def test_a_document_that_holds_a_whole_held_out_text_is_always_found(words, before, after):
    document = " ".join(["x"] * before + words + ["y"] * after)
    found = Contamination([" ".join(words)]).find(document)
    if len(words) >= 8 or (before == after == 0 and words):
        assert found is not None


@pytest.mark.parametrize("size", [8, 11, 12, 20])
def test_a_run_broken_at_any_place_is_not_found(size):
    words = [f"w{i}" for i in range(size)]
    contamination = Contamination([" ".join(words[:12])])
    for i in range(min(size, 12)):
        broken = [*words[:i], "other", *words[i + 1 :]]
        assert contamination.find(" ".join(broken)) is None
