"""The gate before PPO: a reward that is not clearly better than a trivial one is not worth following."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAJORITY = 0.5
"""What always naming one side reaches: the sides of pairs are turned round, so that none is right more often."""


def beats_length(low: float, length: float) -> bool:
    """Whether the lower end of the accuracy's 95% interval lies above what length alone reaches, and above what naming one
    side does: a rule about length may be the wrong one on held-out pairs."""
    return low > max(length, MAJORITY)


def objection(measured: Mapping[str, Any]) -> str | None:
    """What speaks against following the reward model, by the metrics of its stage; None where nothing does."""
    interval, length = measured.get("accuracy_ci"), measured.get("length_baseline")
    if not interval or None in interval or length is None:
        return (
            "The reward model has no measured accuracy on held-out pairs (there are too few clear ones): add rated sentences, "
            "or set ppo.gate=false to follow it all the same."
        )
    low, high = interval
    if beats_length(low, length):
        return None
    return (
        f"The reward model puts {measured['accuracy']:.1%} of the held-out pairs in the right order (95% interval {low:.1%} "
        f"to {high:.1%}), which is not clearly above {trivial(length)} ({max(length, MAJORITY):.1%}): collect more rankings "
        "or train it longer, or set ppo.gate=false to follow it all the same."
    )


def trivial(length: float) -> str:
    """What a reward model has to beat, in words: the better of two rules that read no answer. length: accuracy of the longer."""
    return "length alone" if length >= MAJORITY else "always naming one side"
