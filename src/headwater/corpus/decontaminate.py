"""Keeps texts that a model is judged on out of its training (Brown et al. 2020, appendix C: shared n-grams)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from headwater.corpus.words import units

SIZE = 12
"""Units (words, Chinese characters) of a run that a document must not share with a held-out text."""
LEAST = 8
"""A held-out text of fewer units is too common to search for: it counts only where it is the whole document."""


class Contamination:
    """The n-grams of the held-out texts."""

    def __init__(self, heldout: Iterable[str]) -> None:
        # Found by its first eight units; what must follow them is compared then, so one look-up per position is enough.
        self._tails: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        self._whole: set[tuple[str, ...]] = set()
        for text in heldout:
            words = units(text)
            if len(words) < LEAST:
                self._whole.add(tuple(words))
                continue
            for i in range(max(1, len(words) - SIZE + 1)):
                gram = words[i : i + SIZE]
                self._tails[" ".join(gram[:LEAST])].add(tuple(gram[LEAST:]))

    def find(self, text: str) -> str | None:
        """The first run of words of `text` that a held-out text has too, or None.

        A held-out text of 8 to 11 units is searched for as a whole.
        """
        words = units(text)
        if len(words) < LEAST:
            return " ".join(words) if tuple(words) in self._whole else None
        for i in range(len(words) - LEAST + 1):
            head = " ".join(words[i : i + LEAST])
            for tail in self._tails.get(head, ()):
                if tuple(words[i + LEAST : i + LEAST + len(tail)]) == tail:
                    return " ".join((head, *tail))
        return None
