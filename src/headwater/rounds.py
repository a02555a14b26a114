"""Rounds: a finished run's policy answers, its answers are judged, and PPO goes on in a run of its own.

Round n of NAME is the run NAME-round-n. Its stages up to SFT are those of the run before; feedback, reward, ppo and
evaluate are its own, and have the run before among their parents.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import UserError
from headwater.steps import step_of

if TYPE_CHECKING:
    from headwater.recipe import Recipe
    from headwater.runs import Run

OWN = ("feedback", "reward", "ppo", "evaluate", "report")
"""Stages that a round makes; all others are those of the run before."""

_READS = {"feedback": ("feedback", "ppo"), "reward": ("ppo",), "ppo": ("ppo",), "evaluate": ("ppo",)}
"""{stage of a round: stages of the run before that it reads}."""


def outside(recipe: Recipe, stage: str) -> list[str]:
    """Parents of a round's stage that lie in the run before, such as `ppo of quickstart`."""
    of = recipe.round.of
    return [] if of is None else [f"{name} of {of}" for name in _READS.get(stage, ())]


def folder_of(parent: str, runs: Path) -> Path:
    """The folder of such a parent; `runs` holds all runs."""
    stage, _, run = parent.partition(" of ")
    return runs / run / stage


def next_round(run: Run) -> dict[str, Any]:
    """The recipe of the round after a finished run, as plain data. Raises UserError where the run is not finished."""
    from headwater.recipe import load_recipe

    recipe = load_recipe(run.folder / "recipe.yaml")
    refuse_unfinished(run)
    number = recipe.round.number + 1
    data = recipe.model_dump(mode="json")
    data["round"] |= {"of": run.name, "number": number}
    return data | {"run": name_of(run.name, number), "until": "report"}


def name_of(run: str, number: int) -> str:
    """What round `number` of a run, or of an earlier round of it, is called."""
    return f"{re.sub(r'-round-[0-9]+$', '', run)}-round-{number}"


def refuse_unfinished(run: Run) -> None:
    """Raises UserError where a run has no policy whose answers could be judged."""
    for stage in ("feedback", "ppo"):
        if not run.is_finished(step_of(stage).name):
            raise UserError(
                f"The run {run.name} has not finished `{stage}`, which a further round needs: `headwater run` goes on."
            )
        if damaged := run.damage(stage):
            raise UserError(
                f"{run.stage(stage) / damaged[0]} is damaged: `headwater run` with its recipe makes it again."
            )
