"""How good each token of an answer was: what PPO, RLOO and GRPO differ in. Adding an estimator is an entry here.

Shapes: [episodes, time] for values per response token, with a mask of the real ones. Answers to one prompt stand side by
side, `settings.group` of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from headwater.rlhf.algorithm import generalised_advantages, group_normalised, leave_one_out
from headwater.rlhf.settings import PpoSettings


@dataclass(frozen=True)
class Estimator:
    """advantages: (rewards, values, mask, settings) → [episodes, time]; `values` are 0 where there is no critic."""

    advantages: Callable[[Tensor, Tensor, Tensor, PpoSettings], Tensor]
    critic: bool = False
    """It needs a critic, which is trained beside the policy."""
    whitened: bool = False
    """Advantages are whitened over the whole rollout."""
    kl_in_loss: bool = False
    """The KL penalty is a term of the loss; otherwise it is part of the rewards."""


def _gae(rewards: Tensor, values: Tensor, mask: Tensor, settings: PpoSettings) -> Tensor:
    return generalised_advantages(rewards, values, mask, settings.gamma, settings.lam)


def _rloo(rewards: Tensor, _values: Tensor, mask: Tensor, settings: PpoSettings) -> Tensor:
    return leave_one_out(rewards.sum(dim=1), settings.group)[:, None] * mask


def _grpo(rewards: Tensor, _values: Tensor, mask: Tensor, settings: PpoSettings) -> Tensor:
    return group_normalised(rewards.sum(dim=1), settings.group)[:, None] * mask


ESTIMATORS = {
    "gae": Estimator(_gae, critic=True, whitened=True),
    "rloo": Estimator(_rloo),
    "grpo": Estimator(_grpo, kl_in_loss=True),
}
"""By the name that `ppo.estimator` takes: PPO's, that of RLOO and that of GRPO."""
