"""Is this a text that a model should learn from? Published rules, each a pure function with its own limit.

Gopher: Rae et al. 2021, appendix A.1.1. C4: Raffel et al. 2020, section 2.2. FineWeb: Penedo et al. 2024, section
3.5. Their limits were made for English web pages; a recipe sets them per source. Chinese has no spaces: there a word
counts as 1.5 characters, rules on the form of words don't apply, and runs of n words are runs of 1.5 n characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from headwater.corpus import repetition
from headwater.corpus.language import is_chinese
from headwater.corpus.settings import QualitySettings
from headwater.corpus.words import CHARACTERS_PER_WORD, HAN

WEB_KINDS = frozenset({"web", "news", "blog"})
"""Kinds of sources whose pages carry notices and lists beside the text."""

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
"""Gopher's eight: every running English text has some of them. Nothing is removed; their presence is tested."""
CHINESE_STOP_WORDS = frozenset("的是在了和有不我这這也为為与與之就以而于於其")

_HAN = re.compile(f"[{HAN}]")
_SYMBOL = re.compile(r"#|\.\.\.|…")
_BULLETS = ("•", "●", "‣", "·", "-", "*", "◦", "▪")
_TERMINAL = tuple(".!?\"'”’。！？…；」』）)")
_NOTICES = (
    "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies",
    "隐私政策", "隱私政策", "使用条款", "使用條款",
)  # fmt: skip
_SHORT_LINE = 30
_DUPLICATE_LINE_CHARACTERS = 0.01
_NEWLINES_PER_WORD = 0.3


@dataclass(frozen=True)
class Page:
    """A text, cut once for all rules."""

    text: str
    lines: Sequence[str]
    """Without empty ones, stripped."""
    words: Sequence[str]
    """Split at white space."""
    chinese: bool
    count: float
    """Number of words; for Chinese as the top of this file says."""


def page_of(text: str) -> Page:
    lines = [line for raw in text.split("\n") if (line := raw.strip())]
    words = text.split()
    chinese = is_chinese(text)
    count = float(len(words))
    if chinese:
        spaced = _HAN.sub(" ", text).split()
        count = len(_HAN.findall(text)) / CHARACTERS_PER_WORD + sum(1 for word in spaced if any(map(str.isalnum, word)))
    return Page(text, lines, words, chinese, count)


def reason_to_drop(text: str, settings: QualitySettings, kind: str) -> str | None:
    """Why a text fails, as a few words that can be counted, or None where it passes every rule that is on."""
    page = page_of(text)
    return next((reason for reason, fails in _rules(settings, kind) if fails(page)), None)


def _rules(settings: QualitySettings, kind: str) -> Iterator[tuple[str, Callable[[Page], bool]]]:
    """(reason, test) of every rule that is on, the cheap ones first."""
    s = settings
    if s.minimum_words:
        yield "too few words", lambda page: page.count < s.minimum_words
    if s.maximum_words:
        yield "too many words", lambda page: page.count > s.maximum_words
    if any(s.mean_word_length):
        yield "mean word length", lambda page: not fits_word_length(page, *s.mean_word_length)
    if s.maximum_symbol_ratio:
        yield "too many symbols", lambda page: symbol_ratio(page) > s.maximum_symbol_ratio
    if s.maximum_bullet_lines:
        yield "mostly bullet points", lambda page: bullet_lines(page) > s.maximum_bullet_lines
    if s.maximum_ellipsis_lines:
        yield "lines cut off by …", lambda page: ellipsis_lines(page) > s.maximum_ellipsis_lines
    if s.minimum_alphabetic_words:
        yield "words without letters", lambda page: alphabetic_words(page) < s.minimum_alphabetic_words
    if s.minimum_stop_words:
        yield "no running text (stop words)", lambda page: stop_words(page) < s.minimum_stop_words
    if s.terminal_punctuation:
        yield "lines without end punctuation", lambda page: terminal_lines(page) < s.terminal_punctuation
    if s.maximum_short_lines:
        yield "mostly short lines", lambda page: short_lines(page) > s.maximum_short_lines
    yield "lorem ipsum", lambda page: "lorem ipsum" in page.text.casefold()
    if kind in WEB_KINDS:
        yield "a list, not a text", lambda page: newlines_per_word(page) > _NEWLINES_PER_WORD
        yield (
            "repeated lines (FineWeb)",
            lambda page: repetition.duplicate_characters(page.lines) > _DUPLICATE_LINE_CHARACTERS,
        )
    if s.repetition:
        scale = CHARACTERS_PER_WORD
        yield (
            "repetition",
            lambda page: repetition.excess(page.text, page.lines, scale if page.chinese else 1.0) is not None,
        )


def without_notices(text: str) -> str:
    """A web page without the lines that speak of scripts, cookies and policies (C4)."""
    lines = text.split("\n")
    kept = [line for line in lines if not any(notice in line.casefold() for notice in _NOTICES)]
    return text if len(kept) == len(lines) else "\n".join(kept).strip()


def fits_word_length(page: Page, least: float, most: float) -> bool:
    """Gopher: the mean word has between `least` and `most` characters (either 0: no limit). Chinese passes."""
    if page.chinese or not page.words:
        return True
    mean = sum(map(len, page.words)) / len(page.words)
    return mean >= least and (not most or mean <= most)


def symbol_ratio(page: Page) -> float:
    """Gopher: hash signs and ellipses per word."""
    return len(_SYMBOL.findall(page.text)) / max(page.count, 1)


def bullet_lines(page: Page) -> float:
    """Gopher: share of lines that begin with a bullet point."""
    return _share(page.lines, lambda line: line.startswith(_BULLETS))


def ellipsis_lines(page: Page) -> float:
    """Gopher: share of lines that end in an ellipsis."""
    return _share(page.lines, lambda line: line.endswith(("...", "…")))


def alphabetic_words(page: Page) -> float:
    """Gopher: share of words with at least one letter; for Chinese, of characters other than white space that are
    letters or punctuation.
    """
    if page.chinese:
        return _share(
            "".join(page.words), lambda character: not character.isdigit() and character not in "#*_=|~+<>/\\"
        )
    return _share(page.words, lambda word: word.isalpha() or any(map(str.isalpha, word)))


def stop_words(page: Page) -> int:
    """Gopher: how many different stop words occur, English or (simplified or traditional) Chinese."""
    english = len(STOP_WORDS.intersection(word.strip(".,;:!?\"'()").casefold() for word in page.words))
    return english + len(CHINESE_STOP_WORDS.intersection(page.text))


def terminal_lines(page: Page) -> float:
    """FineWeb: share of lines that end in a mark of punctuation that ends a sentence or a quotation."""
    return _share(page.lines, lambda line: line.endswith(_TERMINAL))


def short_lines(page: Page) -> float:
    """FineWeb: share of lines of at most 30 characters (for Chinese 10: as many words)."""
    limit = _SHORT_LINE // 3 if page.chinese else _SHORT_LINE
    return _share(page.lines, lambda line: len(line) <= limit)


def newlines_per_word(page: Page) -> float:
    """FineWeb: line ends per word."""
    return page.text.count("\n") / max(page.count, 1)


def _share(items: Sequence[str], test: Callable[[str], bool]) -> float:
    """Share of the items that pass a test; 0 where there are none."""
    return sum(1 for item in items if test(item)) / len(items) if items else 0.0
