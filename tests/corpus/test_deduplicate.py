import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.deduplicate import ExactIndex, NearIndex, shingles


def words(seed: int, count: int = 60) -> list[str]:
    generator = random.Random(seed)
    return [f"w{generator.randrange(5000)}" for _ in range(count)]


def test_exact_duplicates_are_those_of_the_key():
    index = ExactIndex()
    assert index.seen("Hello World", "a") is None
    assert index.seen("hello   world", "b") == "a"
    assert index.seen("Ｈello world\n", "c") == "a"
    assert index.seen("hello world.", "d") is None


def test_a_text_with_one_changed_word_is_near_and_another_is_not():
    text = words(1)
    changed = [*text[:30], "other", *text[31:]]
    found = NearIndex().seen([" ".join(text), " ".join(words(2)), " ".join(changed)], ["a", "b", "c"])
    assert found == [None, None, "a"]


def test_chinese_is_compared_by_characters():
    text = (
        "这座博物馆建于十九世纪，此后一直向公众开放，很少中断。第一任馆长购买了今天展出的大部分画作，并赠给了这座城市。"
    )
    text += "游客可以从河边沿着宽阔的台阶走上来，经过两只石狮子和一座没有人修理的喷泉，然后进入高大的圆形前厅。"
    assert NearIndex().seen([text, text.replace("公众", "大众") + "完"], ["a", "b"]) == [None, "a"]


def test_half_the_words_in_common_is_not_near():
    kept = 0
    for seed in range(30):
        text = words(seed)
        kept += NearIndex().seen([" ".join(text), " ".join(text[:30] + words(1000 + seed, 30))], ["a", "b"])[1] is None
    assert kept >= 28


def test_the_earliest_survives_whatever_the_batches():
    generator = random.Random(7)
    texts = []
    for seed in range(40):
        base = words(seed)
        texts += [" ".join([*base[:59], f"x{k}"]) for k in range(generator.randrange(1, 4))]
    generator.shuffle(texts)
    names = [str(i) for i in range(len(texts))]
    whole = NearIndex().seen(texts, names)
    for size in (1, 7, 33):
        index = NearIndex()
        parts = [index.seen(texts[i : i + size], names[i : i + size]) for i in range(0, len(texts), size)]
        assert [first for part in parts for first in part] == whole
    for name, first in zip(names, whole, strict=True):
        assert first is None or (int(first) < int(name) and whole[int(first)] is None)
    assert sum(first is None for first in whole) == 40


def test_no_two_survivors_share_a_band():
    texts = [" ".join(words(1)[: 40 + i]) for i in range(20)]
    names = [str(i) for i in range(20)]
    survivors = [text for text, first in zip(texts, NearIndex().seen(texts, names), strict=True) if first is None]
    assert 1 < len(survivors) < 20
    assert NearIndex().seen(survivors, survivors) == [None] * len(survivors)


def test_signatures_are_the_same_on_every_machine():
    # rensa's hash decides which documents survive: a release that changes it must be noticed.
    signature = NearIndex(2, 2, 2)._signatures(["one two three four"])
    assert signature.tolist() == [[134245321, 793773084, 2003477360, 1104275454]]


@pytest.mark.parametrize(("text", "expected"), [("a b c", ["a b", "b c"]), ("a", ["a"]), ("!!", ["!!"]), ("", [""])])
def test_shingles(text, expected):
    assert shingles(text, 2) == expected


@given(st.lists(st.text(max_size=20), max_size=8))
def test_any_texts_are_taken_and_equal_ones_found(texts):
    found = NearIndex().seen(texts + texts, [str(i) for i in range(2 * len(texts))])
    assert all(first is not None for first in found[len(texts) :])
