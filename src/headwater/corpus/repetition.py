"""Gopher's limits on texts that say the same thing over and over (Rae et al. 2021, table A1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from headwater.corpus.words import units

DUPLICATE_LINES = 0.30
DUPLICATE_LINE_CHARACTERS = 0.20
TOP_RUNS = {2: 0.20, 3: 0.18, 4: 0.16}
"""Words of a run → largest share of the characters that the most frequent run may hold."""
DUPLICATE_RUNS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
"""Words of a run → largest share of the characters that lie in runs which occur more than once."""


def excess(text: str, lines: Sequence[str], scale: float = 1.0) -> str | None:
    """Which limit a text exceeds, or None. `scale`: units per word (1.5 where a unit is a Chinese character)."""
    if duplicate_share(lines) > DUPLICATE_LINES:
        return "duplicate lines"
    if duplicate_characters(lines) > DUPLICATE_LINE_CHARACTERS:
        return "characters in duplicate lines"
    paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
    if duplicate_share(paragraphs) > DUPLICATE_LINES or duplicate_characters(paragraphs) > DUPLICATE_LINE_CHARACTERS:
        return "duplicate paragraphs"
    words = units(text)
    for size, limit in TOP_RUNS.items():
        if top_run(words, round(size * scale)) > limit:
            return f"one run of {size} words"
    for size, limit in DUPLICATE_RUNS.items():
        share = duplicate_runs(words, round(size * scale))
        if share > limit:
            return f"repeated runs of {size} words"
        if share == 0:  # then no longer run is repeated either
            break
    return None


def duplicate_share(items: Sequence[str]) -> float:
    """Share of the items that occurred before."""
    return 1 - len(set(items)) / len(items) if items else 0.0


def duplicate_characters(items: Sequence[str]) -> float:
    """Share of the characters that stand in items that occurred before."""
    total = sum(map(len, items))
    return 1 - sum(map(len, set(items))) / total if total else 0.0


def top_run(words: Sequence[str], size: int) -> float:
    """Share of the characters that the most frequent run of `size` words holds; 0 where no run occurs twice."""
    runs = Counter(zip(*(words[i:] for i in range(size)), strict=False))
    if not runs:
        return 0.0
    # Among equally frequent runs the longest counts, so that the result doesn't hang on their order.
    most = max(runs.values())
    if most == 1:
        return 0.0
    longest = max(sum(map(len, run)) for run, count in runs.items() if count == most)
    return min(1.0, most * longest / max(sum(map(len, words)), 1))


def duplicate_runs(words: Sequence[str], size: int) -> float:
    """Share of the characters that lie in a run of `size` words which occurred before; overlaps count once."""
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    for i, run in enumerate(zip(*(words[i:] for i in range(size)), strict=False)):
        if run in seen:
            covered.update(range(i, i + size))
        seen.add(run)
    return sum(len(words[i]) for i in covered) / max(sum(map(len, words)), 1)
