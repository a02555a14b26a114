"""What a reward from outside may give."""

from __future__ import annotations

from typing import Any

from headwater.errors import UserError

LARGEST = 1e18
"""Scores are fp32, and so are their squares."""

KEPT = "PPO goes on from its last checkpoint"
"""What a failing reward costs."""


def checked(scores: Any, wanted: int, place: str) -> list[float]:
    """`scores` (a list, or an array with `tolist`) as floats. Raises UserError unless it is one finite number per answer."""
    values = scores.tolist() if hasattr(scores, "tolist") else scores
    if not isinstance(values, list | tuple):
        raise UserError(f"{place} gave {type(scores).__name__} in place of a list of numbers: mend it; {KEPT}.")
    if len(values) != wanted:
        raise UserError(f"{place} gave {len(values)} scores for {wanted} answers: it must give one each; {KEPT}.")
    for number, value in enumerate(values):
        value = value.item() if hasattr(value, "item") else value  # a scalar of NumPy or torch
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
            raise UserError(f"{place} gave {value!r} for answer {number}: a score is a finite number; {KEPT}.")
    return [float(value) for value in values]
