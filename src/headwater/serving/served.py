"""What is served: models found by the names that a user types, each for what it can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from headwater import catalogue, exchange
from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.models.layout import read_config, read_context
from headwater.models.model import Model
from headwater.recipe import load_recipe
from headwater.rlhf.scoring import RewardEnsemble, RewardModel, count_members, load_reward
from headwater.runs import Run

WRITES, SCORES, EMBEDS = "writes", "scores", "embeds"


@dataclass(frozen=True)
class Served:
    """A model that is served. `reward` is there where it scores."""

    name: str
    does: str
    """WRITES, SCORES or EMBEDS."""
    model: Model
    tokenizer: Tokenizer
    folder: Path
    created: int
    """When its files were written, in seconds since 1970."""
    reward: RewardModel | RewardEnsemble | None = None

    def without_paths(self, error: UserError) -> str:
        """What a client may know of an error: the model's name in place of its folder."""
        return str(error).replace(str(self.folder), self.name)

    @property
    def context(self) -> int:
        """Tokens that it reads at most."""
        return self.model.config.context


@dataclass(frozen=True)
class Unloaded:
    """A model that writes, and is loaded when it is first asked for."""

    name: str
    folder: Path
    created: int
    context: int
    load: Callable[[], Served]
    does: str = WRITES


def find(names: Sequence[str], root: Path) -> dict[str, Path]:
    """{name in the API: model folder} of RUN, RUN/STAGE or folders. A run stands for its best writer and its reward model.

    Raises UserError where there is no such model, or where two would have the same name.
    """
    found: dict[str, Path] = {}
    for name in names:
        for folder in _folders(name, root):
            called = _called(folder, name)
            if found.get(called, folder) != folder:
                raise UserError(f"Two models would be called {called}: give one of their folders another name.")
            found[called] = folder
    if not found:
        raise UserError("Nothing to serve: name a run, RUN/STAGE, or the folder of a model.")
    return found


def _folders(name: str, root: Path) -> list[Path]:
    folder = catalogue.model_folder(name, root)
    try:
        run, stage = catalogue.find_stage(name, root)
    except UserError:  # a folder of its own
        return [folder]
    reward = run.stage("reward") / "model"
    if stage is None and folder != reward and (reward / "config.json").is_file():
        return [folder, catalogue.model_folder(f"{run.folder}/reward", root)]
    return [folder]


def earlier(names: Sequence[str], root: Path) -> dict[str, Path]:
    """{name in the API: model folder} of what came before the policies of whole runs: the SFT model, and the policies of the
    rounds before, the newest first. What is not there any more is left out.
    """
    found: dict[str, Path] = {}
    for name in names:
        try:
            run, stage = catalogue.find_stage(name, root)
            models = [] if stage else [f"{run.folder}/sft", *(f"{each.folder}/ppo" for each in _rounds_before(run))]
        except UserError:  # a folder of its own
            continue
        for model in models:
            with suppress(UserError):
                folder = catalogue.model_folder(model, root)
                found[_called(folder, model)] = folder
    return found


def _rounds_before(run: Run) -> list[Run]:
    """The newest first; none where the recipe is one of another version."""
    try:
        of = load_recipe(run.folder / "recipe.yaml").round.of
    except UserError:
        return []
    if of is None or not (run.folder.parent / of / "recipe.yaml").is_file():
        return []
    before = Run(run.folder.parent, of)
    return [before, *_rounds_before(before)]


def _called(folder: Path, name: str) -> str:
    """RUN/STAGE of a run's model, else the folder's name."""
    folder = folder.resolve()
    if folder.name != "model":
        return folder.name
    if (folder.parent.parent / "recipe.yaml").is_file():
        return f"{folder.parent.parent.name}/{folder.parent.name}"
    return folder.parent.name or name


def load(name: str, folder: Path, dtype: torch.dtype) -> Served:
    """Loads a model for what it can do; writers in this number format, others in fp32.

    Raises UserError where it can do none of it, or has no tokenizer.
    """
    created = int((folder / "config.json").stat().st_mtime)
    model, tokenizer = exchange.load(folder)
    if tokenizer is None:
        raise UserError(f"{folder} has no tokenizer.json, without which a model reads no text: put it there.")
    model.requires_grad_(False)
    if model.kind == "language-model":
        return Served(name, WRITES, model.to(dtype), tokenizer, folder, created)
    if model.kind == "reward":
        return Served(name, SCORES, model, tokenizer, folder, created, _reward(folder, model))
    if model.config.form == "encoder" and model.kind in ("hidden", "masked"):
        return Served(name, EMBEDS, model, tokenizer, folder, created)
    raise UserError(
        f"{folder} is a {model.kind} model, for which there is no endpoint: name a model that writes, a reward model, or an "
        "encoder."
    )


def unloaded(name: str, folder: Path, dtype: torch.dtype) -> Unloaded:
    """A model that `load` loads later."""
    created, context = int((folder / "config.json").stat().st_mtime), read_context(folder)
    return Unloaded(name, folder, created, context, partial(load, name, folder, dtype))


def _reward(folder: Path, model: Model) -> RewardModel | RewardEnsemble:
    """The reward as the run uses it: normalised; an ensemble of all members where the stage trained several."""
    if folder.name == "model" and (members := count_members(folder.parent)) > 1:
        return load_reward(folder.parent, members, strict=False)
    normaliser = read_config(folder).get("headwater", {})
    return RewardModel(model, normaliser.get("gain", 1.0), normaliser.get("bias", 0.0))
