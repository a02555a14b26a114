"""The words of the pages, in English and Chinese: all of them stand in `words.yaml`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import yaml

from headwater.report.plots import number
from headwater.report.wording import NOTHING, count

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


def chinese_duration(value: object) -> str:
    """Seconds → "9 分 41 秒"."""
    found = number(value)
    if found is None:
        return NOTHING
    if found < 60:
        return f"{found:.1f} 秒"
    minutes, seconds = divmod(round(found), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} 小时 {minutes} 分" if hours else f"{minutes} 分 {seconds} 秒"


def chinese_millions(value: object) -> str:
    """4212345 → "421 万"; smaller numbers as they are."""
    found = number(value)
    if found is None or found < 10_000:
        return count(value)
    return f"{found / 1e8:.3g} 亿" if found >= 1e8 else f"{found / 1e4:,.0f} 万"


CHINESE: dict[str, Callable[[object], str]] = {"duration": chinese_duration, "millions": chinese_millions}
"""Numbers with units in Chinese, by the names of those in `report/wording.py`."""
