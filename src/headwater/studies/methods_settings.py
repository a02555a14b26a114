"""Settings of the study `methods`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from headwater.settings import Count, Positive
from headwater.settings import Settings as Section
from headwater.studies.study import StudySettings
from headwater.training.settings import OptimiserSettings

Several = Annotated[int, Field(ge=2)]


class GroupSettings(Section):
    """RLOO and GRPO; all else is as in the run's own PPO."""

    group: Several = Field(4, description="Answers to one prompt; the run's ppo.episodes must be a multiple of it.")
    epochs: Count = Field(1, description="Passes over an iteration's episodes.")
    learning_rate: Positive | None = Field(None, description="Of the policy; absent: that of the run's PPO.")


class DirectPreferenceSettings(Section):
    """DPO on pairs of the SFT policy's answers, ranked by the reward model."""

    answers: Several = Field(4, description="Answers per prompt; the best and the worst are a pair.")
    beta: Positive = Field(0.1, description="How dear it is to leave the SFT policy, per nat.")
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.0, description="Share of pairs taken to be the wrong way round."
    )
    epochs: Count = 1
    batch_pairs: Count = 16
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=3e-4)


class RejectionSettings(Section):
    """Rejection sampling: the best of several answers are learnt, round after round."""

    answers: Several = Field(8, description="Answers per prompt, of which the best is learnt.")
    rounds: Count = 4
    epochs: Count = 2
    batch_examples: Count = 32
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=1e-3)


class OveroptimisationSettings(Section):
    """PPO with a weak, fixed KL penalty, for long, towards a reward that learnt from little."""

    rankings: Count | None = Field(
        12,
        description="Rankings that the reward learns from: of few, it is wrong in many places. Absent: the run's reward.",
    )
    beta: Positive = Field(0.005, description="Weight of the KL penalty, per nat; it stays.")
    length: Positive = Field(2.0, description="Iterations, as a multiple of those of the run's own PPO.")
    measurements: Several = Field(24, description="Points of the curve.")


class Settings(StudySettings):
    """Sizes of the study `methods`."""

    of: str = Field("quickstart", description="A finished run, whose SFT model, reward models and judges are used.")
    seeds: Count = Field(3, description="How many seeds; every method is trained with all of them.")
    compute: Positive = Field(1.0, description="Compute of each training, as a multiple of that of the run's own PPO.")
    measurements: Count = Field(8, description="How often a policy in training is measured, to keep the best.")
    best_of: Several = Field(16, description="Answers of best-of-n at decoding.")
    rloo: GroupSettings = GroupSettings()
    grpo: GroupSettings = GroupSettings()
    dpo: DirectPreferenceSettings = DirectPreferenceSettings()
    rejection: RejectionSettings = RejectionSettings()
    overoptimisation: OveroptimisationSettings = OveroptimisationSettings()
