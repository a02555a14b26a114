"""Cutting a text into the units that comparisons count: words, and single characters where a script has no spaces."""

from __future__ import annotations

import re

UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""Kana and Chinese characters, as a class of a regular expression."""
CHARACTERS_PER_WORD = 1.5
"""Of Chinese: the usual mean length of a word in running text."""
UNIT = re.compile(f"[{UNSPACED}]|[^\\W{UNSPACED}]+")


def units(text: str) -> list[str]:
    """The casefolded words of a text, without punctuation; every Chinese character is a unit of its own."""
    return UNIT.findall(text.casefold())
