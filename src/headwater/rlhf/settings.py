"""Settings of learning from judgements: the reward model, and PPO towards a reward."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from headwater.models.settings import LoraSettings
from headwater.settings import Count, Fraction, Positive, Settings, StageSettings
from headwater.training.settings import OptimiserSettings, Precision, ScheduleSettings

REWARD = re.compile(
    r"model|(?P<url>https?://\S+)|python:(?P<module>\w+(\.\w+)*):(?P<name>\w+)|(?P<path>.+\.py):(?P<function>\w+)"
)
"""What `ppo.reward` may be."""


class RewardSettings(StageSettings):
    epochs: Count = Field(2, description="Passes over the rankings.")
    batch_rankings: Count = Field(8, description="Rankings per update.")
    layers: Count | None = Field(
        None,
        description="Use only so many first blocks of the model, and so in the critic, which starts from it; the last blocks "
        "serve the prediction of words. Absent: all.",
    )
    lora: LoraSettings | None = Field(None, description="Train adapters in place of the weights. Absent: all weights.")
    optimiser: OptimiserSettings = Field(
        OptimiserSettings(learning_rate=3e-4, weight_decay=0.01), description="What moves the weights."
    )
    schedule: ScheduleSettings = Field(
        ScheduleSettings(name="cosine", warmup=0.05), description="How the learning rate goes over the updates."
    )
    precision: Precision = Field("auto", description="`auto`: bf16 where the processor multiplies it itself.")
    ties: Literal["half", "leave-out"] = Field("half", description="A tie is a target of ½, or is left out.")
    centring: Annotated[float, Field(ge=0)] = Field(0.01, description="Coefficient of (r_a + r_b)².")
    loss: Literal["pairs", "plackett-luce"] = Field(
        "pairs", description="Bradley–Terry over all pairs of a ranking, or the ranking as one sequence of choices."
    )
    margin: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="By how much scores must differ, per point that ratings (or a pair's strength) lie apart; 0: off.",
    )
    raters: bool = Field(False, description="Learn how reliable each rater is; in training only, from judged rankings.")
    members: Count = Field(
        1, description="Reward models, from seeds of their own; the mean of their scores is the reward."
    )
    pessimism: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Deviations between the members that are taken off their mean (Coste et al. 2024)."
    )
    normalise_samples: Annotated[int, Field(ge=2)] = Field(
        256, description="Answers of the SFT policy over which the reward is normalised."
    )
    checkpoint_every: Count = Field(50, description="Updates between checkpoints.")

    @model_validator(mode="after")
    def _fits_together(self) -> RewardSettings:
        if self.loss != "pairs" and (self.margin or self.raters):
            raise ValueError("`margin` and `raters` are parts of the pair loss; use `loss: pairs` or leave them out")
        if self.pessimism and self.members == 1:
            raise ValueError("`pessimism` needs several reward models; set `members` to 3, or leave it out")
        return self


class EndpointSettings(Settings):
    """How a reward behind an http(s) address is asked."""

    timeout: Positive = Field(30.0, description="Seconds after which a request without a whole answer is given up.")
    retries: Annotated[int, Field(ge=0)] = Field(
        4, description="Further attempts after no answer, a time-out, or the HTTP errors 429 and 500 to 599."
    )
    backoff: Annotated[float, Field(ge=0)] = Field(
        0.5, description="Seconds before the first of them; each next waits twice as long."
    )
    batch: Count = Field(32, description="Answers per request.")


class PretrainingMixSettings(Settings):
    """PPO-ptx (Ouyang et al. 2022): the policy goes on learning texts of pretraining, with pretraining's own objective."""

    coefficient: Positive = Field(1.0, description="Weight of their loss (nats per token) beside the policy's.")
    tokens: Count = Field(1024, description="Tokens of text in each update, in whole rows of the context.")


class PpoSettings(StageSettings):
    """Names and defaults as in the literature; `docs/rlhf.md` tells the algorithm."""

    reward: str = Field(
        "model",
        description="What is maximised: the run's reward `model`, `python:MODULE:FUNCTION`, `PATH.py:FUNCTION`, or an "
        "http(s) address.",
    )
    endpoint: EndpointSettings = Field(EndpointSettings(), description="How a reward at an address is asked.")
    normalise: bool = Field(
        True, description="Scores have mean 0 and deviation 1 over the SFT policy's answers; false: as they come."
    )
    gate: bool = Field(
        True, description="Refuse a reward model that is not clearly better than length alone, or has no normaliser."
    )
    steps: Count = Field(60, description="Iterations: one rollout and its updates each.")
    episodes: Count = Field(64, description="Episodes per iteration.")
    estimator: Literal["gae", "rloo", "grpo"] = Field(
        "gae",
        description="How good an answer was: `gae` asks a critic (PPO), `rloo` and `grpo` the other answers to its prompt.",
    )
    group: Count = Field(1, description="Answers to one prompt; at least 2 for `rloo` and `grpo`.")
    epochs: Count = Field(4, description="Passes over an iteration's episodes.")
    minibatches: Count = Field(4, description="Updates per pass.")
    max_new_tokens: Count = Field(48, description="Longest answer, in tokens.")
    temperature: Positive = Field(1.0, description="Applied alike in rollout, reference and update.")
    missing_stop_reward: float = Field(-1.0, description="Replaces the score of an answer without stop token.")
    length_control: Annotated[float, Field(ge=0)] = Field(
        0.0, description="How fast a bonus per token is steered so that answers stay as long as SFT's; 0: none."
    )
    gamma: Fraction = Field(1.0, description="Discount γ per token of a reward that comes later; 1: none.")
    lam: Fraction = Field(
        0.95, description="λ of `gae`: 0 trusts the critic's next value alone, 1 the rewards that came alone."
    )
    clip: Positive = Field(
        0.2, description="How far the ratio of new to old probability may leave 1 before a token teaches no more."
    )
    value_clip: Positive = Field(0.2, description="How far a value may move from the rollout's before it is clipped.")
    value_coefficient: Positive = Field(0.1, description="Weight of the critic's loss.")
    entropy_coefficient: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Weight of a bonus for the entropy of the policy's next tokens; 0: none."
    )
    whiten_rewards: bool = Field(
        False, description="`gae` only: an iteration's rewards keep their mean and get deviation 1."
    )
    ptx: PretrainingMixSettings | None = Field(
        None, description="Mix texts of pretraining into the updates. Absent: episodes alone."
    )
    beta: Positive = Field(0.1, description="Initial weight of the KL penalty, per nat.")
    adaptive: bool = Field(True, description="Steer β towards `target_kl`; otherwise it is fixed.")
    target_kl: Positive = Field(6.0, description="Nats, summed over an answer.")
    target_ramp: Fraction = Field(0.0, description="Share of the iterations over which the target rises from 0.")
    horizon: Count | None = Field(
        None, description="Episodes in which β can change by a factor of 1.2; absent: a tenth of the stage's."
    )
    update_kl_limit: Positive = Field(0.1, description="Mean ½(Δ log π)² past which an iteration's epochs end early.")
    critic_warmup: Annotated[int, Field(ge=0)] = Field(2, description="First iterations that train the critic alone.")
    kl_limit: Positive = Field(12.0, description="Held-out KL up to which a checkpoint may be chosen.")
    evaluate_every: Count = Field(10, description="Iterations between evaluations on the selection prompts.")
    evaluate_prompts: Count = Field(128, description="Selection prompts that each evaluation answers.")
    lora: LoraSettings | None = Field(
        None,
        description="Train adapters in place of the weights of policy and critic; the reference then is the policy "
        "without them. Absent: all weights.",
    )
    policy_optimiser: OptimiserSettings = Field(
        OptimiserSettings(learning_rate=1e-4, epsilon=1e-5), description="What moves the policy's weights."
    )
    critic_optimiser: OptimiserSettings = Field(
        OptimiserSettings(learning_rate=3e-4, epsilon=1e-5), description="What moves the critic's weights."
    )
    schedule: ScheduleSettings = Field(
        ScheduleSettings(name="linear"), description="How both learning rates go over the updates."
    )
    precision: Precision = Field("fp32", description="`auto`: bf16 where the processor multiplies it itself.")

    @field_validator("reward")
    @classmethod
    def _names_a_reward(cls, reward: str) -> str:
        if not REWARD.fullmatch(reward):
            raise ValueError("it must be `model`, `python:MODULE:FUNCTION`, `PATH.py:FUNCTION` or an http(s) address")
        return reward

    @model_validator(mode="after")
    def _groups_fit(self) -> PpoSettings:
        if self.episodes % self.group:
            raise ValueError(f"`episodes` must be a multiple of `group`: {self.episodes} is not one of {self.group}")
        if self.estimator != "gae" and self.group < 2:
            raise ValueError(f"`estimator: {self.estimator}` compares answers to one prompt: set `group` to 2 or more")
        if self.estimator != "gae" and self.whiten_rewards:
            raise ValueError("`whiten_rewards` is for `estimator: gae` only; leave it out")
        return self
