"""Cutting a text into the units that comparisons count: words, and single characters where a script has no spaces."""

from __future__ import annotations

import re

# Parts of classes of regular expressions.
KANA = "\u3040-\u30ff"
HANGUL = "\uac00-\ud7af"
BASIC_HAN = "\u4e00-\u9fff"
"""The Chinese characters of nearly every text."""
HAN_EXTENSION_A = "\u3400-\u4dbf"
HAN = f"{HAN_EXTENSION_A}{BASIC_HAN}\uf900-\ufaff\U00020000-\U0003134f"
"""All Chinese characters, those of compatibility and the extensions up to G included."""
UNSPACED = f"{KANA}{HAN}"
"""What is written without spaces."""
CHARACTERS_PER_WORD = 1.5
"""Of Chinese: the usual mean length of a word in running text."""
UNIT = re.compile(f"[{UNSPACED}]|[^\\W{UNSPACED}]+")


def units(text: str) -> list[str]:
    """The casefolded words of a text, without punctuation; every Chinese character is a unit of its own."""
    return UNIT.findall(text.casefold())
