"""Which share of the rated sentences a text belongs to: decided by its hash alone."""

from __future__ import annotations

import hashlib

from headwater.corpus.normalise import split_key

_SHARES = (("train", 50), ("select", 60), ("judge", 90), ("prompt", 100))
"""Share of the review sentences and the percentile at which it ends."""

SHARES = tuple(share for share, _ in _SHARES)

PARTS = {
    share: (end - begin) / 100 for (share, end), begin in zip(_SHARES, (0, *(end for _, end in _SHARES)), strict=False)
}
"""{share: its part of all}."""


def share_of(text: str) -> str:
    """ "train" (50%), "select" (10%), "judge" (30%) or "prompt" (10%) by hash: texts that differ only in case, white
    space or punctuation fall into the same share, today and on every machine.
    """
    percentile = hash_fraction("review share", text) * 100
    return next(share for share, end in _SHARES if percentile < end)


def hash_fraction(purpose: str, text: str) -> float:
    """A number in [0, 1) that depends on the letters and digits of a text only; another `purpose`, another number."""
    digest = hashlib.sha256(f"{purpose}\n{split_key(text)}".encode()).digest()
    return int.from_bytes(digest[:6]) / (1 << 48)
