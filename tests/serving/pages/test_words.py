"""The words of the interface: all there, in both languages, and used."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import headwater.serving.pages as package
from browsing import Visitor
from headwater.serving.pages import words

FOLDER = Path(package.__file__).parent
SOURCES = [*FOLDER.glob("templates/*.html"), *FOLDER.glob("static/*.js"), *FOLDER.glob("*.py")]
NAMED = re.compile(r"""["'`]([a-z]+\.[a-z_0-9]+)["'`]""")
BEGUN = re.compile(r"""["'`]([a-z]+\.[a-z_]+_|[a-z]+\.)(?:["'] ~|["'] \+|\$\{)""")


def test_both_languages_have_all_words_and_the_same_places_to_fill() -> None:
    for key, said in words.every().items():
        assert said.keys() == words.LANGUAGES.keys(), key
        assert all(text.strip() for text in said.values()), key
        places = [set(re.findall(r"\{\w+\}", text)) for text in said.values()]
        english, chinese = places
        assert chinese == english or (chinese < english and key.startswith("error.")), (
            key
        )  # ids say nothing to a reader


def test_every_key_that_is_used_has_words_and_every_word_is_used() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    sections = {key.partition(".")[0] for key in words.every()}
    used = {key for key in NAMED.findall(text) if key.partition(".")[0] in sections}
    files = re.compile(r"\.(js|css|html|svg|db|md|py|yaml|json|jsonl|onnx)$|^chat\.(state)$")
    missing = {key for key in used - words.every().keys() if not files.search(key)}
    assert not {key for key in missing if not any(other.startswith(key) for other in words.every())}
    begun = tuple(BEGUN.findall(text))
    unused = {key for key in words.every().keys() - used if not key.startswith(begun)}
    unused = {key for key in unused if not key.startswith("error.")}  # found by their English: see test_refusals.py
    # A page's title is asked for by its section; those of others are never shown.
    assert not {key for key in unused if not key.endswith((".title", ".nothing", ".nothing_note"))}


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("de, en;q=0.5, zh;q=0.7", "zh"), ("de-DE", "en"), ("", "en"), ("en;q=0,zh;q=x", "en"), ("*", "en")],
)  # fmt: skip
def test_the_browsers_language_is_taken(accepted: str, language: str) -> None:
    assert words.preferred(accepted) == language


def test_a_language_that_was_chosen_stays(visit: Callable[..., Visitor]) -> None:
    visitor = visit(locale="en-US")
    page = visitor.page
    page.goto("/runs")
    assert page.locator("h1").inner_text() == "Runs"
    page.get_by_role("button", name="中文").click()
    page.wait_for_url("**/runs")
    assert page.locator("h1").inner_text() == "训练"
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    page.goto("/")
    assert page.locator("h1").inner_text() == "您想做什么？"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("duration", 2.04, "2.0 秒"), ("duration", 2576, "42 分 56 秒"), ("duration", 7260, "2 小时 1 分"), ("duration", None, "–"),
     ("millions", 9_999, "9,999"), ("millions", 3_704_320, "370 万"), ("millions", 7e9, "70 亿"), ("millions", "x", "–")],
)  # fmt: skip
def test_numbers_have_chinese_units(name: str, value: object, said: str) -> None:
    assert words.CHINESE[name](value) == said
