"""The words of the pages, in English and Chinese: all of them stand in `words.yaml`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path

import yaml

from headwater.report.plots import number
from headwater.report.wording import count, duration

LANGUAGES = {"en": "English", "zh": "中文"}
"""The languages of the interface, each by its own name."""


@cache
def every() -> dict[str, dict[str, str]]:
    """{key: {language: words}}; a key is `section.name`."""
    text = (Path(__file__).parent / "words.yaml").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, dict[str, str]]] = yaml.safe_load(text)
    return {f"{section}.{name}": said for section, names in loaded.items() for name, said in names.items()}


def of(language: str, sections: Iterable[str]) -> dict[str, str]:
    """{key: words} of these sections."""
    wanted = set(sections)
    return {key: said[language] for key, said in every().items() if key.partition(".")[0] in wanted}


def sayer(language: str) -> Callable[..., str]:
    """say(key, name=value, …): the words of a key, with `{name}` filled in."""

    def say(key: str, **filled: object) -> str:
        said = every()[key][language]
        for name, value in filled.items():
            said = said.replace(f"{{{name}}}", str(value))
        return said

    return say


def translated(sentence: str, language: str) -> str:
    """What the store, a model or the loop refuses, which they say in English, in the reader's language.

    The section `error` of the words has each of these sentences in both languages: which one it is, and what fills its places,
    is told from the English. What stands in a place and is a sentence of that section itself is translated, too. A sentence
    that is not there stays as it is, after a word in the reader's language that something did not work.
    """
    found = None if language == "en" else _found(sentence, language)
    if language == "en" or found is not None:
        return found or sentence
    return sayer(language)("all.not_translated", sentence=sentence)


def _found(sentence: str, language: str) -> str | None:
    for pattern, key in _errors():
        if (match := pattern.fullmatch(sentence)) is not None:
            places = {name: _found(value, language) or value for name, value in match.groupdict().items()}
            return sayer(language)(key, **places)
    return None


@cache
def _errors() -> list[tuple[re.Pattern[str], str]]:
    """(what a sentence in English looks like, its key), those first that say most by themselves."""
    keys = [key for key in every() if key.startswith("error.")]
    keys.sort(key=lambda key: -len(re.sub(r"\{\w+\}", "", every()[key]["en"])))
    return [(_pattern(every()[key]["en"]), key) for key in keys]


def _pattern(text: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", text)
    escaped = [f"(?P<{part}>.*?)" if place % 2 else re.escape(part) for place, part in enumerate(parts)]
    return re.compile("".join(escaped), re.DOTALL)


def preferred(accepted: str) -> str:
    """The first language of an Accept-Language header, by its weights, that is known; English where none is."""
    weighed = []
    for place, part in enumerate(accepted.split(",")):
        tag, _, parameter = part.strip().partition(";")
        try:
            weight = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            weight = 0.0
        weighed.append((-weight, place, tag.strip().lower().partition("-")[0]))
    return next((tag for weight, _, tag in sorted(weighed) if weight < 0 and tag in LANGUAGES), "en")


def chinese_millions(value: object) -> str:
    """4212345 → "421 万"; smaller numbers as they are."""
    found = number(value)
    if found is None or found < 10_000:
        return count(value)
    return f"{found / 1e8:.3g} 亿" if found >= 1e8 else f"{found / 1e4:,.0f} 万"


CHINESE: dict[str, Callable[[object], str]] = {
    "duration": partial(duration, units=("小时", "分", "秒")),
    "millions": chinese_millions,
}
"""Numbers with units in Chinese, by the names of those in `report/wording.py`."""
