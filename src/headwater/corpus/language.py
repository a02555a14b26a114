"""Which language a text is in, offline (py3langid: naive Bayes over byte n-grams, Lui and Baldwin 2012).

A classifier needs some text: of 14,313 English review sentences it calls 163 something else, all but one of them shorter than
100 characters and never surely. So a short text is dropped only where the classifier is sure of another language; otherwise its
script decides.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any, NamedTuple

SHORT = 100
"""A text of less weight than this is short. A Latin letter weighs 1, a Chinese character 4."""
SURE = 0.9
"""Probability from which the classifier is believed about a short text."""
_SEEN = 2_000
"""Characters that the classifier looks at; more change nothing."""

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]")
_KANA_OR_HANGUL = re.compile("[\u3040-\u30ff\uac00-\ud7af]")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_OTHER_LETTER = re.compile("[^\\W\\d_A-Za-z\u00c0-\u024f\u3400-\u4dbf\u4e00-\u9fff]")
_NOT_LATIN = {"ja", "ko", "ru", "uk", "bg", "sr", "el", "he", "ar", "fa", "hi", "bn", "ta", "th", "ka", "hy"}
_CHINESE = {"zh", "yue", "wuu", "nan", "gan", "hak", "lzh"}


class Verdict(NamedTuple):
    language: str
    """ISO 639 code."""
    kept: bool


def identify(text: str) -> tuple[str, float]:
    """(language, probability) of the likeliest language; the Chinese languages count as one, `zh`."""
    language, probability = _classifier().classify(text[:_SEEN])
    return ("zh" if language in _CHINESE else str(language)), float(probability)


def judge(text: str, languages: Collection[str], threshold: float) -> Verdict:
    """Whether a text is in one of `languages` with at least `threshold` probability; a short one: see the top of this file."""
    language, probability = identify(text)
    if _weight(text) >= SHORT:
        return Verdict(language, language in languages and probability >= threshold)
    if probability >= SURE:
        return Verdict(language, language in languages)
    fitting = [candidate for candidate in languages if _script_fits(text, candidate)]
    return Verdict(language if language in fitting or not fitting else fitting[0], bool(fitting))


def is_chinese(text: str) -> bool:
    """Whether Chinese characters carry the text: at least three in ten of its letters, and hardly any kana or hangul."""
    han = len(_HAN.findall(text))
    if han == 0 or len(_KANA_OR_HANGUL.findall(text)) > 0.1 * han:
        return False
    return han >= 0.3 * (han + len(_LATIN.findall(text)))


def _weight(text: str) -> int:
    return len(text) + 3 * len(_HAN.findall(text))


def _script_fits(text: str, language: str) -> bool:
    """Whether the letters of a text are those that a language is written with."""
    if language == "zh":
        return is_chinese(text)
    has_other = bool(_HAN.search(text) or _OTHER_LETTER.search(text))
    return has_other if language in _NOT_LATIN else not has_other


@lru_cache(maxsize=1)
def _classifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
