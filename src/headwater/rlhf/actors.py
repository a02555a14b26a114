"""Whom reinforcement learning needs: a policy and perhaps a critic, which learn; a reference and a scorer, which do not."""

from __future__ import annotations

from dataclasses import dataclass

from headwater.models.lora import adapt
from headwater.models.model import Model
from headwater.rlhf.estimators import ESTIMATORS
from headwater.rlhf.scoring import Scorer
from headwater.rlhf.settings import PpoSettings
from headwater.training.learner import Learner


@dataclass(frozen=True)
class Actors:
    """Those that a rollout asks."""

    policy: Model
    critic: Model | None
    """None where the estimator of the advantages needs none."""
    reference: Model
    """What the KL is measured to."""
    scorer: Scorer

    def __post_init__(self) -> None:
        if self.critic is not None and self.critic.answer_start != self.policy.answer_start:
            raise ValueError("policy and critic read the same rows: both are decoders, or both encoder-decoders")


def critic_for(settings: PpoSettings, start: Model, seed: int) -> Model | None:
    """A critic that starts from this model, perhaps a reward model; None where the estimator of the advantages needs none."""
    if not ESTIMATORS[settings.estimator].critic:
        return None
    critic = start.with_head("critic", seed).requires_grad_(True)
    return adapt(critic, settings.lora, seed + 1) if settings.lora else critic


def learners_of(settings: PpoSettings, policy: Model, critic: Model | None, precision: str) -> dict[str, Learner]:
    """What the engine trains."""
    learners = {"policy": Learner(policy, settings.policy_optimiser, settings.schedule, precision)}
    if critic is not None:
        learners["critic"] = Learner(critic, settings.critic_optimiser, settings.schedule, precision)
    return learners
