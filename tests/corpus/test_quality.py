"""Every rule: a text that passes, and one that only this rule drops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus import quality, repetition
from headwater.corpus.settings import QualitySettings

PARAGRAPH = (
    "The museum was founded in the nineteenth century and has been open to the public with few breaks since then. "
    "Its first director bought most of the paintings that can be seen there, and gave them to the city in his will. "
    "Visitors reach the building from the river by a wide stair, past two stone lions and a fountain nobody repairs."
)
CHINESE = (
    "这座博物馆建于十九世纪，此后一直向公众开放，很少中断。第一任馆长购买了今天展出的大部分画作，并在遗嘱中把它们赠给了这座城市。"
    "游客可以从河边沿着宽阔的台阶走上来，经过两只石狮子和一座没有人修理的喷泉，然后进入高大的圆形前厅，那里总是十分凉爽。"
)
DEFAULT = QualitySettings()


def test_good_texts_pass():
    assert quality.reason_to_drop(PARAGRAPH, DEFAULT, "web") is None
    assert quality.reason_to_drop(CHINESE, DEFAULT, "web") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PARAGRAPH[:120], "too few words"),
        (CHINESE[:40], "too few words"),
        (" ".join(["a", "b", "c", "of", "the", "to"] * 20 + PARAGRAPH.split()[:20]), "mean word length"),
        (PARAGRAPH + " #fun" * 12, "too many symbols"),
        ("\n".join("- " + s for s in PARAGRAPH.split(". ")), "mostly bullet points"),
        (PARAGRAPH.replace(". ", "...\n"), "lines cut off by …"),
        (PARAGRAPH + " 1990 2001 3.5 17" * 6, "words without letters"),
        (
            " ".join(w for w in PARAGRAPH.split() if w.lower() not in quality.STOP_WORDS) * 2,
            "no running text (stop words)",
        ),
        (PARAGRAPH.replace(". ", "\n").rstrip("."), "lines without end punctuation"),
        (PARAGRAPH + "\nHome.\nNews.\nSport.\nAbout us.\nContact.", "mostly short lines"),
        (PARAGRAPH + " Lorem ipsum dolor.", "lorem ipsum"),
        (PARAGRAPH + "\nThis line of the page stands here twice." * 2, "repeated lines (FineWeb)"),
        (PARAGRAPH + " Then the rain came down on the old town." * 4, "repetition"),
    ],
)
def test_each_rule_drops(text, reason):
    assert quality.reason_to_drop(text, DEFAULT, "web") == reason


def test_a_list_is_no_text():
    words = PARAGRAPH.split()
    lines = "\n".join(" ".join(words[i : i + 3]) + "." for i in range(0, len(words), 3))
    settings = QualitySettings(maximum_short_lines=0.0)
    assert quality.reason_to_drop(lines, settings, "web") == "a list, not a text"
    assert quality.reason_to_drop(lines, settings, "book") is None


def test_too_many_words():
    assert quality.reason_to_drop(PARAGRAPH, QualitySettings(maximum_words=20), "web") == "too many words"


def test_rules_can_be_switched_off():
    lenient = QualitySettings(
        minimum_words=0, maximum_words=0, mean_word_length=(0.0, 0.0), maximum_symbol_ratio=0.0,
        maximum_bullet_lines=0.0, maximum_ellipsis_lines=0.0, minimum_alphabetic_words=0.0, minimum_stop_words=0,
        repetition=False, terminal_punctuation=0.0, maximum_short_lines=0.0,
    )  # fmt: skip
    for text in ("whoa", "# # #", "- a\n- a\n- a", "1 2 3 ...", "ha ha ha ha ha ha"):
        assert quality.reason_to_drop(text, lenient, "review") is None


def test_a_kind_that_is_no_web_page_keeps_its_short_lines_and_refrains():
    poem = "\n".join(
        [
            *PARAGRAPH.replace(", ", "\n").replace(". ", "\n").split("\n"),
            "And the river goes by",
            "And the river goes by",
        ]
    )
    settings = QualitySettings(terminal_punctuation=0.0, maximum_short_lines=0.0)
    assert quality.reason_to_drop(poem, settings, "book") is None
    assert quality.reason_to_drop(poem, settings, "web") == "repeated lines (FineWeb)"


def test_chinese_words_are_counted_by_characters():
    assert quality.page_of("今天天气很好").count == pytest.approx(4)
    assert quality.page_of("我用 Python 写程序").count == pytest.approx(5 / 1.5 + 1)
    assert quality.page_of("three small words").count == 3


def test_single_rules():
    page = quality.page_of("# one ... two\n- three…\nfour.")
    assert quality.symbol_ratio(page) == pytest.approx(3 / 7)
    assert quality.bullet_lines(page) == pytest.approx(1 / 3)
    assert quality.ellipsis_lines(page) == pytest.approx(1 / 3)
    assert quality.terminal_lines(page) == pytest.approx(2 / 3)
    assert quality.newlines_per_word(page) == pytest.approx(2 / 7)
    assert quality.stop_words(quality.page_of("The cat and the dog")) == 2
    assert quality.stop_words(quality.page_of("我的书在这里")) == 4


def test_notices_go_and_the_rest_stays():
    page = "Real text here.\nPlease enable JavaScript to continue.\nMore text.\nSee our Privacy Policy"
    assert quality.without_notices(page) == "Real text here.\nMore text."
    assert quality.without_notices(PARAGRAPH) is PARAGRAPH


def test_repetition_formulas():
    assert repetition.duplicate_share(["a", "b", "a", "a"]) == 0.5
    assert repetition.duplicate_characters(["aaa", "b", "aaa"]) == pytest.approx(3 / 7)
    assert repetition.top_run(["a", "b", "a", "b", "c"], 2) == pytest.approx(4 / 5)
    assert repetition.top_run(["a", "b", "c", "d"], 2) == 0
    # "a b c" occurs again once: three of its seven words repeat what was there.
    assert repetition.duplicate_runs(["a", "b", "c", "x", "a", "b", "c"], 3) == pytest.approx(3 / 7)
    # Overlapping repeats count once.
    assert repetition.duplicate_runs(["a", "a", "a", "a", "a"], 2) == pytest.approx(4 / 5)
    assert repetition.duplicate_runs([], 5) == 0


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_repetition_of_long_runs_is_seen(scale):
    words = PARAGRAPH.split()
    text = " ".join([*words, *words[:25]])
    assert repetition.excess(text, [text], scale) is not None
    assert repetition.excess(PARAGRAPH, [PARAGRAPH], scale) is None


@given(st.text(alphabet=st.sampled_from("ab ，好.\n#-…1"), max_size=80), st.sampled_from(["web", "review"]))
def test_any_text_gets_a_verdict(text, kind):
    reason = quality.reason_to_drop(text, DEFAULT, kind)
    assert reason is None or reason
    for share in (repetition.top_run(text.split(), 2), repetition.duplicate_runs(text.split(), 2)):
        assert 0 <= share <= 1
