import pytest

from headwater.corpus.language import identify, is_chinese, judge

ENGLISH = (
    "The museum was founded in the nineteenth century and it has been open to the public since then, with few breaks."
)
CHINESE = "这座博物馆建于十九世纪，此后一直向公众开放，很少中断，每年都有许多游客前来参观。"
GERMAN = (
    "Das Museum wurde im neunzehnten Jahrhundert gegründet und ist seither fast ohne Unterbrechung für alle geöffnet."
)
FRENCH = (
    "Le musée a été fondé au dix-neuvième siècle et il est ouvert au public depuis ce temps, presque sans interruption."
)
JAPANESE = "この博物館は十九世紀に設立され、それ以来ほとんど中断することなく一般に公開されています。"


@pytest.mark.parametrize(
    ("text", "language"), [(ENGLISH, "en"), (CHINESE, "zh"), (GERMAN, "de"), (FRENCH, "fr"), (JAPANESE, "ja")]
)
def test_running_text_is_identified(text, language):
    assert identify(text)[0] == language
    assert judge(text, ["en", "zh"], 0.5).kept == (language in ("en", "zh"))
    assert judge(text, [language], 0.5) == (language, identify(text)[1], True)


@pytest.mark.parametrize(
    "text",
    [
        "whoa.",
        "5 hours max.",
        "A vibrant, colorful, semimusical rendition.",
        "i got the 40gb jukebox zen xtra",
        "!!! :)",
    ],
)
def test_a_short_sentence_in_the_right_script_is_kept(text):
    assert judge(text, ["en", "zh"], 0.5)[::2] == ("en", True)


@pytest.mark.parametrize("text", ["你好", "这家酒店很不错", "不好。"])
def test_short_chinese_is_chinese(text):
    assert judge(text, ["en", "zh"], 0.5)[::2] == ("zh", True)
    assert not judge(text, ["en"], 0.5).kept


@pytest.mark.parametrize(
    "text",
    ["C'est un très bon film.", "Der Film ist wirklich sehr gut.", "Привет, как дела?", "東京は日本の首都です。"],
)
def test_a_short_sentence_surely_in_another_language_is_not(text):
    assert not judge(text, ["en", "zh"], 0.5).kept


def test_the_threshold_counts():
    mixed = "Lorem ipsum dolor sit amet, the museum consectetur adipiscing elit, sed do eiusmod tempor ut labore."
    probability = identify(mixed)[1]
    language = identify(mixed)[0]
    assert judge(mixed, [language], probability).kept
    assert not judge(mixed, [language], min(1.0, probability + 1e-6)).kept or probability == 1.0


def test_is_chinese():
    assert is_chinese(CHINESE)
    assert is_chinese("我用 iPhone 拍照")
    assert not is_chinese("The word 好 means good in Chinese.")
    assert not is_chinese(JAPANESE)
    assert not is_chinese("")
