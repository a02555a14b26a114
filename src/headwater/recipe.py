"""A whole run's settings: typed, validated, documented once.

A recipe is a YAML file; `stage.key=value` on the command line overrides it. Each room keeps its chapter in its own
`settings.py`, where defaults stand next to the sentence that explains them: `corpus`, `models`, `training`, `feedback`, `rlhf`,
and `stages` for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from headwater.corpus.settings import CorpusSettings, SampleSettings, TokenizerSettings
from headwater.errors import UserError
from headwater.feedback.settings import DialogueSettings, RoundSettings
from headwater.models.settings import ModelSettings
from headwater.rlhf.settings import PpoSettings, RewardSettings
from headwater.settings import Count, Seed, Settings, read_with_overrides, validate_as
from headwater.stages.settings import (
    EvaluateSettings,
    FeedbackSettings,
    PretrainSettings,
    ReportSettings,
    SftSettings,
)


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
    from headwater.objectives.pretraining import check_fits
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
