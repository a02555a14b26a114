"""Shares: of their sizes, and decided by a text's letters alone."""

from collections import Counter

import pytest

from headwater.corpus.shares import share_of


def test_shares_have_their_sizes_and_depend_on_letters_only():
    counts = Counter(share_of(f"sentence number {i}") for i in range(20_000))
    for share, expected in {"train": 0.5, "select": 0.1, "judge": 0.3, "prompt": 0.1}.items():
        assert counts[share] / 20_000 == pytest.approx(expected, abs=0.015)
    for i in range(200):
        assert share_of(f"Film  {i}, good!") == share_of(f"film {i} GOOD…")
    # Pinned: another hash would move sentences of existing runs from one share to another.
    assert [share_of(text) for text in ("a", "b", "c", "d", "好")] == [
        "train",
        "prompt",
        "train",
        "judge",
        "prompt",
    ]
