"""The formulas of PPO with a KL penalty, and of RLOO and GRPO, but for their losses, each alone and each with its source.

Shapes: [episodes, time] for values per response token, with a mask of the real ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def kl_penalised_rewards(
    scores: Tensor, log_probabilities: Tensor, reference: Tensor, mask: Tensor, beta: float
) -> Tensor:
    """r_t = −β·(log π − log π_ref), plus the score at the last token (Ziegler et al., 2019, eq. 2).

    scores: [episodes]; the others [episodes, time]. The per-token term (k1) may be negative and is not clamped: only so
    is π_ref·exp(r/β) the optimum.
    """
    rewards = -beta * (log_probabilities - reference) * mask
    last = mask.sum(dim=1).long() - 1
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


def generalised_advantages(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """A_t = δ_t + γλ·A_{t+1}, δ_t = r_t + γV_{t+1} − V_t, V past the end = 0 (Schulman et al., 2016). [episodes, time]."""
    values = values * mask
    advantages = torch.zeros_like(rewards)
    running = torch.zeros(len(rewards))
    for time in reversed(range(rewards.shape[1])):
        following = values[:, time + 1] if time + 1 < rewards.shape[1] else torch.zeros(len(rewards))
        delta = rewards[:, time] + gamma * following - values[:, time]
        running = (delta + gamma * lam * running) * mask[:, time]
        advantages[:, time] = running
    return advantages


def leave_one_out(returns: Tensor, group: int) -> Tensor:
    """R_i − mean of the others' R in its group (RLOO: Kool et al., 2019; Ahmadian et al., 2024, eq. 8). [episodes].

    returns: [episodes], groups of at least 2 side by side.
    """
    grouped = returns.view(-1, group)
    return ((grouped - grouped.mean(dim=1, keepdim=True)) * group / (group - 1)).flatten()


def group_normalised(returns: Tensor, group: int) -> Tensor:
    """(R_i − mean) / (deviation + ε) within its group, unbiased deviation (GRPO: Shao et al., 2024, section 4.1.2). [episodes].

    returns: [episodes], groups of at least 2 side by side. Where all of a group are alike, 0.
    """
    grouped = returns.view(-1, group)
    centred = grouped - grouped.mean(dim=1, keepdim=True)
    return (centred / (grouped.std(dim=1, keepdim=True) + 1e-4)).flatten()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the positions where mask is 1."""
    return (values * mask).sum() / mask.sum()


def whiten(values: Tensor, mask: Tensor, keep_mean: bool = False) -> Tensor:
    """(x − μ)·rsqrt(var + 1e-8) over the real tokens, with unbiased variance; 0 elsewhere."""
    count = mask.sum()
    mean = masked_mean(values, mask)
    variance = (((values - mean) ** 2) * mask).sum() / (count - 1).clamp(min=1)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    return (whitened + mean if keep_mean else whitened) * mask


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 − Var(R − V) / Var(R) over the real tokens: 1 is a perfect critic, 0 one that only knows the mean."""
    real = mask.bool()
    target, error = returns[real], (returns - values)[real]
    return float(1 - error.var() / target.var().clamp(min=1e-8))


class KLController:
    """The weight β of the KL penalty: fixed, or steered towards a target (Ziegler et al., 2019, section 2.2).

    β ← β·(1 + clip(KL/target − 1, ±0.2)·min(1, n/horizon)), KL in nats summed per sequence, n episodes. Without the
    minimum a short horizon could make β negative, and the policy would be paid for leaving the reference.
    """

    def __init__(self, beta: float, target: float, horizon: float, adaptive: bool = True) -> None:
        self.beta, self.target, self.horizon, self.adaptive = beta, target, horizon, adaptive

    def update(self, kl: float, episodes: int, ramp: float = 1.0) -> None:
        """Hears the mean KL of an iteration of `episodes` episodes; `ramp` is the share of the target that holds by now.

        A policy starts at KL 0: held against the whole target from the start, β would fall long before it is reached. So β
        is only raised until the ramp is over.
        """
        if self.adaptive:
            error = min(max(kl / (self.target * ramp) - 1, -0.2 if ramp == 1 else 0.0), 0.2)
            self.beta *= 1 + error * min(1.0, episodes / self.horizon)

    def state_dict(self) -> dict[str, Any]:
        return {"beta": self.beta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.beta = state["beta"]


LOOK_AHEAD = 8
"""Iterations for which `LengthController` takes the present error to last: that damps what the sum alone would make swing."""


class LengthController:
    """Holds the mean length of the answers: a Lagrange multiplier, moved by dual ascent.

    The score of an answer gets weight·(length / typical − 1). With error = clip(1 − mean / typical, ±0.2) of each iteration,
    weight = rate·(Σ error + LOOK_AHEAD·last error): a proportional–integral controller. At a fixed weight every token is worth
    the same, so single answers stay as different in length as they were.
    """

    def __init__(self, typical: float, rate: float) -> None:
        self.typical, self.rate = typical, rate
        self.total, self.last = 0.0, 0.0

    @property
    def weight(self) -> float:
        return self.rate * (self.total + LOOK_AHEAD * self.last)

    def bonus(self, lengths: Tensor) -> Tensor:
        """What an answer of each length gets (or loses), [answers]."""
        return self.weight * (lengths / self.typical - 1)

    def update(self, mean: float) -> None:
        """Hears the mean length of an iteration, in tokens."""
        self.last = min(max(1 - mean / self.typical, -0.2), 0.2)
        self.total += self.last

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total, self.last = state["total"], state["last"]
