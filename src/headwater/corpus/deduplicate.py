"""The same text twice teaches nothing twice, and leaks from training into what is held out.

Exact duplicates are found by a hash of the comparison key, near ones by MinHash (Broder 1997) with banding (Leskovec,
Rajaraman and Ullman, Mining of Massive Datasets, ch. 3): two texts whose shingle sets have Jaccard similarity s share
a band with probability 1 − (1 − s^rows)^bands; with 14 bands of 8 rows that is one half at s ≈ 0.68. The earliest in
order survives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headwater.corpus.normalise import exact_key
from headwater.corpus.words import units

_SEED = 1
"""Of the hash functions; a constant, so that the same texts are duplicates in every run."""


class ExactIndex:
    """Remembers texts by 128 bits of their comparison key's hash."""

    def __init__(self) -> None:
        self._first: dict[bytes, str] = {}

    def seen(self, text: str, name: str) -> str | None:
        """The name under which the same text was seen first; None the first time: then `name` is remembered."""
        key = hashlib.blake2b(exact_key(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        first = self._first.get(key)
        self._first.setdefault(key, name)
        return first


class NearIndex:
    """Remembers texts by the bands of their MinHash signature."""

    def __init__(self, bands: int = 14, rows: int = 8, shingle: int = 5) -> None:
        self.bands = bands
        self.rows = rows
        self.shingle = shingle
        self._first: list[dict[bytes, str]] = [{} for _ in range(bands)]

    def seen(self, texts: Sequence[str], names: Sequence[str]) -> list[str | None]:
        """Per text the name of an earlier one that survived and shares a band, or None; then it is remembered.

        Only survivors are remembered, so a chain of ever less similar texts doesn't vanish behind its first.
        """
        return [self._place(row, name) for row, name in zip(self._signatures(texts), names, strict=True)]

    def _signatures(self, texts: Sequence[str]) -> npt.NDArray[np.uint32]:
        """[texts, bands × rows] MinHash values."""
        from rensa import RMinHash

        sets = [shingles(text, self.shingle) for text in texts]
        matrix = RMinHash.digest_matrix_from_token_sets(sets, self.bands * self.rows, _SEED)
        return np.asarray(matrix.to_rows(), dtype=np.uint32).reshape(len(texts), self.bands * self.rows)

    def _place(self, signature: npt.NDArray[np.uint32], name: str) -> str | None:
        data, width = signature.tobytes(), 4 * self.rows
        keys = [
            hashlib.blake2b(data[band * width : (band + 1) * width], digest_size=8).digest()
            for band in range(self.bands)
        ]
        for first, key in zip(self._first, keys, strict=True):
            if key in first:
                return first[key]
        for first, key in zip(self._first, keys, strict=True):
            first[key] = name
        return None


def shingles(text: str, size: int) -> list[str]:
    """The runs of `size` units of a text; a shorter text is one shingle, a text without letters and digits its own."""
    words = units(text)
    if len(words) < size:
        return [" ".join(words) or exact_key(text)]
    return [" ".join(words[i : i + size]) for i in range(len(words) - size + 1)]
