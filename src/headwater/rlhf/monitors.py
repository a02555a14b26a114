"""What goes wrong in PPO, told by the held-out evaluations: one rule and one sentence of advice for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from headwater.rlhf.selection import LENGTH_RANGE

Evaluation = Mapping[str, float]
"""What `Yardstick.measure` gives."""

WINDOW = 3
"""Evaluations in a row that make a trend."""
LEAST_FALL = 0.1
"""Of the selection model's score over the window, in deviations of the SFT policy's answers: less may be chance."""
MORE_REPETITION = 0.1
"""Share of repeated 3-grams above that of the SFT policy."""
ENTROPY_LEFT = 0.5
"""Share of the SFT policy's entropy."""
ENDED = 0.8
"""Least share of answers with a stop token."""


def reward_hacking(start: Evaluation, found: Sequence[Evaluation]) -> str | None:  # noqa: ARG001
    """The proxy rises while the model that chooses checkpoints falls (Gao et al., 2022)."""
    last = found[-WINDOW:]
    proxy, gold = ([one[name] for one in last] for name in ("reward", "selection_reward"))
    falls = all(later < earlier for earlier, later in pairwise(gold))
    if len(last) < WINDOW or not (proxy[-1] > proxy[0] and falls and gold[0] - gold[-1] >= LEAST_FALL):
        return None
    return (
        f"the reward rose from {proxy[0]:.2f} to {proxy[-1]:.2f} over {WINDOW} evaluations, but the selection model's score fell "
        f"from {gold[0]:.2f} to {gold[-1]:.2f}: the policy exploits its reward; lower ppo.target_kl, or use reward.members."
    )


def repetition(start: Evaluation, found: Sequence[Evaluation]) -> str | None:
    share = found[-1]["repetition"]
    if share <= start["repetition"] + MORE_REPETITION:
        return None
    return (
        f"{share:.0%} of the answers' 3-grams are repetitions (SFT: {start['repetition']:.0%}): raise ppo.beta or lower "
        "ppo.target_kl."
    )


def length_drift(
    start: Evaluation, found: Sequence[Evaluation], length_range: tuple[float, float] = LENGTH_RANGE
) -> str | None:
    """Outside this range, as shares of the SFT policy's length, no checkpoint is chosen."""
    ratio = found[-1]["length"] / start["length"]
    if length_range[0] <= ratio <= length_range[1]:
        return None
    return (
        f"answers are {ratio:.2f} times as long as the SFT model's, and checkpoints outside {length_range[0]:g} to "
        f"{length_range[1]:g} are not chosen: set ppo.length_control to 0.5, or raise it."
    )


def entropy_collapse(start: Evaluation, found: Sequence[Evaluation]) -> str | None:
    entropy = found[-1]["entropy"]
    if entropy >= ENTROPY_LEFT * start["entropy"]:
        return None
    return (
        f"the entropy fell from {start['entropy']:.2f} to {entropy:.2f} nats per token, so answers grow alike: raise "
        "ppo.entropy_coefficient (0.02, say), or lower the policy's learning rate."
    )


def endless(start: Evaluation, found: Sequence[Evaluation]) -> str | None:  # noqa: ARG001
    share = found[-1]["ended"]
    if share >= ENDED:
        return None
    return (
        f"{1 - share:.0%} of the answers have no stop token: raise ppo.max_new_tokens if they are good so far, or lower "
        "ppo.missing_stop_reward."
    )


class Monitors:
    """Hears every held-out evaluation; each rule speaks once, when it first holds.

    start: the evaluation of the SFT policy; length_range: see `length_drift`.
    """

    def __init__(self, start: Evaluation, length_range: tuple[float, float] = LENGTH_RANGE) -> None:
        self.start = start
        self.found: list[dict[str, float]] = []
        self.said: dict[str, str] = {}
        """Name of a rule → what it said."""
        self.rules: dict[str, Callable[[Evaluation, Sequence[Evaluation]], str | None]] = {
            "reward hacking": reward_hacking,
            "repetition": repetition,
            "length": lambda start, found: length_drift(start, found, length_range),
            "entropy": entropy_collapse,
            "endless answers": endless,
        }

    @property
    def warnings(self) -> list[str]:
        """All that was said so far."""
        return list(self.said.values())

    def observe(self, iteration: int, found: Evaluation) -> list[str]:
        """Takes the evaluation after an iteration; returns what is to be said now."""
        self.found.append(dict(found))
        news = []
        for name, rule in self.rules.items():
            if name not in self.said and (text := rule(self.start, self.found)):
                self.said[name] = f"Iteration {iteration}: {text}"
                news.append(self.said[name])
        return news

    def state_dict(self) -> dict[str, Any]:
        return {"found": list(self.found), "said": dict(self.said)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.found, self.said = list(state["found"]), dict(state["said"])
