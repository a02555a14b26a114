"""What can be counted in answers without understanding them: variety, length, repetition.

A unit is a word in scripts that write spaces, and a single character of Chinese, Japanese or Korean.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from headwater.corpus.words import HAN, HANGUL, KANA

_CJK = f"{KANA}{HAN}{HANGUL}\U00031350-\U0003fffd"
"""With the places of Chinese characters that Unicode has yet to name."""
_UNIT = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])\w)+(?:['’](?:(?![{_CJK}])\w)+)*")
"""One character of a script without spaces, or a word with its apostrophes; punctuation is no unit."""


@dataclass(frozen=True)
class Variety:
    """Distinct n-grams over all n-grams, pooled, of the answers before and after; `ratio` = after / before."""

    before: float
    after: float
    ratio: float


def answer_units(text: str) -> list[str]:
    """A text's words (lower-cased) and CJK characters, in order."""
    return _UNIT.findall(text.lower())


def grams(items: Sequence[Hashable], n: int) -> Iterator[tuple[Hashable, ...]]:
    return (tuple(items[start : start + n]) for start in range(len(items) - n + 1))


def distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    """Distinct n-grams over all n-grams of texts given as units; 0 where there are none."""
    all_grams = [gram for text in texts for gram in grams(text, n)]
    return len(set(all_grams)) / len(all_grams) if all_grams else 0.0


def variety(before: Sequence[str], after: Sequence[str], n: int = 2) -> Variety:
    """distinct-n (Li et al. 2016) of two models' answers to the same prompts.

    The share of distinct n-grams falls with the amount of text; so both answers to a prompt are cut to the units of the
    shorter one first, and both models are measured on equally many n-grams. No n-gram before: the ratio is NaN.
    """
    cut_before, cut_after = [], []
    for old, new in zip(before, after, strict=True):
        old_units, new_units = answer_units(old), answer_units(new)
        shorter = min(len(old_units), len(new_units))
        cut_before.append(old_units[:shorter])
        cut_after.append(new_units[:shorter])
    share_before, share_after = distinct(cut_before, n), distinct(cut_after, n)
    return Variety(share_before, share_after, share_after / share_before if share_before else float("nan"))


def lengths(texts: Sequence[str]) -> list[int]:
    """Number of units of each text."""
    return [len(answer_units(text)) for text in texts]


def mean_length(texts: Sequence[str]) -> float:
    """Mean number of units; 0 where there are no texts."""
    return sum(lengths(texts)) / len(texts) if texts else 0.0


def length_ratio(before: Sequence[str], after: Sequence[str]) -> float:
    """Mean length after over mean length before; NaN where all answers before are empty."""
    old = mean_length(before)
    return mean_length(after) / old if old else float("nan")


def repetition(texts: Sequence[str], n: int = 3) -> float:
    """Share of the n-grams that stood in the same answer before, pooled over the answers; 0 where there are none."""
    return repeated_share([answer_units(text) for text in texts], n)


def repeated_share(texts: Sequence[Sequence[Hashable]], n: int) -> float:
    """The same of texts given as units or token ids."""
    per_text = [list(grams(text, n)) for text in texts]
    total = sum(len(found) for found in per_text)
    return 1 - sum(len(set(found)) for found in per_text) / total if total else 0.0
