"""Settings of the stages `pretrain`, `sft`, `feedback`, `evaluate` and `report`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from headwater.models.settings import LoraSettings, ModelSettings
from headwater.objectives.pretraining import MASK_SHARE, PRETRAINING
from headwater.settings import Count, StageSettings
from headwater.training.settings import AveragingSettings, OptimiserSettings, Precision, ScheduleSettings


class PretrainSettings(StageSettings):
    objective: Literal["causal", "prefix", "masked", "denoising"] = Field(
        "causal",
        description="What is learnt: the next token; the next token after a prefix; masked words (encoders); spans that "
        "were cut out (encoder-decoders).",
    )
    model: ModelSettings = ModelSettings()
    mask_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        MASK_SHARE,
        description="`masked` and `denoising`: share of the tokens that are predicted in training (Devlin et al. 2019: 0.15; "
        "more learn faster, Wettig et al. 2023). Held-out loss is measured at 0.15.",
    )
    tokens: Annotated[int, Field(ge=0)] = Field(
        1_000_000, description="Tokens trained on; fixed, so that a resumed run ends the same. 0 only with a `base`."
    )
    batch_tokens: Count = Field(4096, description="Tokens per update.")
    optimiser: OptimiserSettings = OptimiserSettings(name="muon")
    schedule: ScheduleSettings = ScheduleSettings(name="linear", warmup=0.02)
    precision: Precision = Field("auto", description="`auto`: bf16 where the processor multiplies it itself.")
    averaging: AveragingSettings = AveragingSettings()
    evaluate_every: Count = Field(100, description="Steps between measurements on held-out texts.")
    patience: Annotated[int, Field(ge=0)] = Field(
        0, description="Measurements without a new best after which training ends; the best weights are kept. 0: never."
    )
    checkpoint_every: Count = Field(50, description="Steps between checkpoints.")

    @model_validator(mode="after")
    def _masks_are_masked(self) -> PretrainSettings:
        if self.mask_share != MASK_SHARE and not PRETRAINING[self.objective].masks:
            masking = " and ".join(f"`{name}`" for name, needs in PRETRAINING.items() if needs.masks)
            raise ValueError(f"`mask_share` is only for the objectives {masking}; leave it out")
        return self

    @model_validator(mode="after")
    def _best_or_mean(self) -> PretrainSettings:
        if self.patience and self.averaging.last:
            raise ValueError("`patience` keeps the best weights and `averaging.last` the mean of the last; choose one")
        return self


class SftSettings(StageSettings):
    instructions: dict[str, str] = Field(
        {"film-reviews": "Write a line of a film review.", "shop-reviews": "Write a line of a product review."},
        description="One instruction per source; the policy answers it.",
    )
    opening_words: tuple[int, int] = Field(
        (2, 4), strict=False, description="Least and most words of the prefilled opening."
    )

    examples: Count | None = Field(None, description="Learn at most so many examples, drawn by the seed. Absent: all.")
    epochs: Count = Field(2, description="Passes over the examples.")
    batch_examples: Count = Field(32, description="Examples per update.")
    lora: LoraSettings | None = Field(None, description="Train adapters in place of the weights. Absent: all weights.")
    optimiser: OptimiserSettings = Field(OptimiserSettings(learning_rate=5e-4), description="What moves the weights.")
    schedule: ScheduleSettings = Field(
        ScheduleSettings(name="cosine", warmup=0.05), description="How the learning rate goes over the updates."
    )
    precision: Precision = Field("auto", description="`auto`: bf16 where the processor multiplies it itself.")
    checkpoint_every: Count = Field(50, description="Updates between checkpoints.")

    @field_validator("opening_words")
    @classmethod
    def _in_order(cls, words: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= words[0] <= words[1]:
            raise ValueError("give the least and the most words, at least 1 each")
        return words


class FeedbackSettings(StageSettings):
    answers: Annotated[int, Field(ge=2)] = Field(8, description="Sentences per ranking derived from ratings (K).")
    rankings_per_sentence: Count = Field(2, description="In how many derived rankings a sentence stands.")
    tie: Annotated[float, Field(ge=0)] = Field(0.1, description="Mean ratings that differ by less are a tie.")
    store: str | None = Field(
        None,
        min_length=1,
        description="A feedback store in which people judge the policy's answers: an SQLite file or postgresql://…; made where "
        "it is missing.",
    )
    annotator: Literal["people", "simulated:lexicon", "simulated:judge"] = Field(
        "people",
        description="Who judges a policy's answers. Simulated ones are for demonstrations: a word list, or a reward model "
        "that learnt from one half of the judges' share.",
    )
    prompts: Count = Field(200, description="Prompts, of all shares together, that a policy answers to be judged.")
    responses: Annotated[int, Field(ge=2)] = Field(4, description="Answers to each of them.")


class EvaluateSettings(StageSettings):
    prompts: Count = Field(600, description="Held-out openings, of all sources alike, that SFT and PPO answer.")
    bootstrap: Count = Field(2000, description="Resamples of the interval.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Number format in which both policies answer.")


class ReportSettings(StageSettings):
    examples: Count = Field(12, description="Answers before and after PPO that are shown.")
