"""Text as it should look: mojibake mended, NFC, one kind of line end, nothing invisible.

NFKC would damage text (x² → x2, ½ → 1⁄2, ，→ ,), so it is used for comparison keys only. Curly quotes, ligatures and
full-width punctuation stay as they are: they are right in Chinese and in print.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

_MOST_PASSES = 20

# Zero-width, direction marks, soft hyphen, byte-order mark, interlinear and tag characters: invisible, yet they split
# words.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
# The zero-width joiner stays where it builds an emoji out of several.
_EMOJI = "\u2600-\u27bf\ufe0f\U0001f000-\U0001faff"
_JOINER = re.compile(f"(?<![{_EMOJI}])\u200d|\u200d(?![{_EMOJI}])")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LINE_END = re.compile("\r\n|[\r\u0085\u2028\u2029]")
_SPACES_AT_END = re.compile(r"[^\S\n]+(?=\n|$)")
_BLANK_LINES = re.compile(r"\n{3,}")
_NOT_PLAIN = re.compile(r"[^\n -~]|&")
_WHITE_SPACE = re.compile(r"\s+")
_NO_WORD = re.compile(r"[\W_]+")


def normalise(text: str) -> str:
    """Mends and tidies a text; applied to its own result it changes nothing."""
    for _ in range(_MOST_PASSES):
        before = text
        # Plain ASCII has nothing that could be mended; most English text is, and this is the fast way past.
        text = _tidy(text if _NOT_PLAIN.search(text) is None else _mend(text))
        if text == before:
            break
    return text


def exact_key(text: str) -> str:
    """What two texts share that differ only in case, width, compatibility forms and white space (NFKC, casefolded)."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _WHITE_SPACE.sub(" ", folded).strip()


def split_key(text: str) -> str:
    """What decides on which side of a split a text falls: letters and digits only, so that punctuation does not
    matter.
    """
    key = exact_key(text)
    return _NO_WORD.sub(" ", key).strip() or key


def _mend(text: str) -> str:
    import ftfy

    mended = ftfy.fix_text(_LINE_END.sub("\n", text), _mending())
    visible = _JOINER.sub("", _INVISIBLE.sub("", mended))
    return unicodedata.normalize("NFC", _CONTROL.sub("", visible).replace("\u00a0", " "))


def _tidy(text: str) -> str:
    return _BLANK_LINES.sub("\n\n", _SPACES_AT_END.sub("", text)).strip()


@lru_cache(maxsize=1)
def _mending() -> Any:
    import ftfy

    return ftfy.TextFixerConfig(
        uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False, normalization="NFC", explain=False
    )
