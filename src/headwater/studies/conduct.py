"""`headwater study`: reads the recipe, goes through the trials that are missing, writes the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from headwater import storage
from headwater.errors import UserError
from headwater.pipeline import first_difference
from headwater.runs import Run
from headwater.settings import read_with_overrides, validate_as
from headwater.studies.page import render
from headwater.studies.registry import definition
from headwater.studies.study import Study, StudySettings, trials_of

RECIPE = "study.yaml"
"""The resolved settings in a study's folder; a run has `recipe.yaml` there."""


def conduct(recipe: Path, overrides: Sequence[str], root: Path) -> str:
    """Runs the study of a recipe → what to tell the user at the end.

    What is finished stays: the same command goes on with the first trial that is missing. Raises UserError where the
    recipe is wrong, or the folder belongs to something else.
    """
    given = read_with_overrides(recipe, overrides)
    if "study" not in given:
        raise UserError(
            f"{recipe} is no recipe of a study: it lacks `study: NAME`. `headwater run` takes recipes of runs."
        )
    chosen = definition(given["study"], str(recipe))
    settings = validate_as(chosen.Settings, given, str(recipe), overrides)
    with Run(root, settings.run or settings.study) as place:
        _claim(place.folder, settings)
        from headwater.training.machine import prepare

        prepare(place.folder, settings.threads)
        study = Study(settings, place.folder)
        findings = chosen.run(study)
        trials = list(trials_of(place.folder))
        summary = {
            "study": settings.study,
            "run": place.name,
            "seed": settings.seed,
            **findings.summary(),
            "seconds": round(study.seconds, 1),
            "trials": {trial["trial"]: {"seconds": trial["seconds"], **trial["result"]} for trial in trials},
        }
        page = render(place.name, settings, findings, trials)
        storage.write_atomically(place.folder / "report.html", page)
        text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        storage.write_atomically(place.folder / "summary.json", text)
    lines = [f"{'holds' if claim.holds else 'FAILS'}  {claim.sentence}" for claim in findings.claims]
    return "\n".join([*lines, f"Report: {place.folder / 'report.html'}"])


def _claim(folder: Path, settings: StudySettings) -> None:
    """Writes the settings into the folder. Raises UserError where it holds a run, or a study with other settings."""
    wanted = settings.model_dump(mode="json")
    if (folder / "recipe.yaml").exists():
        raise UserError(f"{folder} is the folder of a run: give the study a name of its own with --run NAME.")
    path = folder / RECIPE
    if path.is_file():
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
        if (difference := first_difference(stored, wanted)) is not None:
            key, before, now = difference
            raise UserError(
                f"The folder {folder} is of another study: there `{key}` is {before!r}, here {now!r}; give this one a "
                f"name of its own with --run NAME, or delete {folder}."
            )
        return
    storage.write_atomically(path, yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True))
