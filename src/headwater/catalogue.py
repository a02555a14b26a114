"""Finds runs and models by what a user types: a run, RUN/STAGE, or the path of a folder."""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from pathlib import Path

from headwater import storage
from headwater.errors import UserError
from headwater.manifest import Manifest, read_manifest
from headwater.progress import duration
from headwater.runs import Run
from headwater.steps import STAGES, step_of

MODEL_STAGES = ("ppo", "sft", "pretrain")
"""Stages that make a model to talk to, the best first."""
WITH_MODEL = ("pretrain", "sft", "reward", "ppo")
"""Stages that make a model of any kind."""


def runs_root(given: Path | None = None) -> Path:
    """The folder of all runs: the one given, else $HEADWATER_RUNS, else ./runs."""
    return given or Path(os.environ.get("HEADWATER_RUNS") or "runs")


def finished_stages(run: Run) -> dict[str, Manifest]:
    """{stage: manifest} of a run's finished, undamaged stages, in order."""
    manifests = {stage: run.manifest(stage) for stage in STAGES}
    return {stage: manifest for stage, manifest in manifests.items() if manifest is not None}


def all_runs(root: Path) -> list[Run]:
    """The runs below `root`, by name."""
    if not root.is_dir():
        return []
    return [Run(root, path.name) for path in sorted(root.iterdir()) if (path / "recipe.yaml").is_file()]


def find_run(name: str, root: Path) -> Run:
    """The run of this name, or in the folder of this path. Raises UserError, with the nearest name, where none is."""
    for folder in (root / name, Path(name)):
        if folder.resolve().name and (folder / "recipe.yaml").is_file():
            return Run(folder.resolve().parent, folder.resolve().name)
    near = difflib.get_close_matches(name, [run.name for run in all_runs(root)], n=1)
    mend = f"did you mean `{near[0]}`?" if near else "`headwater runs` lists what there is."
    raise UserError(f"There is no run `{name}` in {root}; {mend}")


def model_folder(name: str, root: Path, stage: str | None = None) -> Path:
    """The folder of the model that RUN, RUN/STAGE or a path means; of a run, the model of `stage` or of the last one.

    Raises UserError where there is none, or where its files are not as they were written.
    """
    for folder in (root / name, Path(name)):
        if stage is None and (found := _model_in(folder)) is not None:
            return _whole(found)
    run, named = find_stage(name, root)
    stage = stage or named
    if stage and step_of(stage).name not in WITH_MODEL:
        raise UserError(f"The stage `{stage}` makes no model: name one of {', '.join(WITH_MODEL)}.")
    for candidate in (stage,) if stage else MODEL_STAGES:
        if (found := _model_in(run.stage(candidate))) is not None:
            return _whole(found)
    wanted = f"the stage `{stage}`" if stage else "a stage that makes a model"
    there = ", ".join(finished_stages(run)) or "none"
    raise UserError(f"The run {run.name} has not finished {wanted} (finished: {there}): `headwater run` goes on.")


def find_stage(name: str, root: Path) -> tuple[Run, str | None]:
    """The run, and the stage if one is named, that RUN or RUN/STAGE means."""
    head, slash, last = name.rstrip("/").rpartition("/")
    if slash and last in STAGES:
        return find_run(head, root), last
    return find_run(name, root), None


def command_to(verb: str, run: Run, root: Path) -> str:
    """The command line that does `verb` with a run, as the user would type it here."""
    program = sys.argv[0]
    found = shutil.which("headwater")
    if Path(program).name != "headwater" or (found and Path(found).resolve() == Path(program).resolve()):
        program = "headwater"
    return f"{program} {verb} {run.name}{_option(root)}"


def _option(root: Path) -> str:
    """What names the folder of runs on a command line; nothing where it is found without."""
    return "" if root == runs_root() else f" --runs {root}"


def table(root: Path) -> str:
    """The runs below `root`, one a line: name, finished stages, time, date; then the studies."""
    runs, studies = all_runs(root), [_study(path.parent) for path in sorted(root.glob("*/study.yaml"))]
    if not runs and not studies:
        if not root.is_dir() and root.exists():
            raise UserError(f"{root} is a file, not a folder of runs: give a folder with --runs.")
        return (
            f"There are no runs in {root} yet: `headwater run recipes/quickstart.yaml{_option(root)}` makes the first."
        )
    width = max((len(run.name) for run in runs), default=0)
    lines = []
    for run in runs:
        manifests = finished_stages(run)
        last = list(manifests)[-1] if manifests else "nothing finished"
        seconds = sum(manifest["seconds"] for manifest in manifests.values())
        date = max((manifest["finished"] for manifest in manifests.values()), default="")
        lines.append(
            f"{run.name:{width}}  {len(manifests):2} of {len(STAGES)} stages, last {last:9}"
            f"  {duration(seconds):>12}  {date[:16].replace('T', ' ')}".rstrip()
        )
    return "\n".join([*lines, *studies])


def _study(folder: Path) -> str:
    """A study as a line of the table."""
    manifests = [manifest for path in folder.glob("trials/*/") if (manifest := read_manifest(path))]
    seconds = sum(manifest["seconds"] for manifest in manifests)
    state = "finished" if (folder / "summary.json").is_file() else "not finished"
    return f"{folder.name}  study, {len(manifests)} trials, {state}  {duration(seconds)}"


def _model_in(folder: Path) -> Path | None:
    for candidate in (folder, folder / "model"):
        if (candidate / "config.json").is_file():
            return candidate
    return None


def _whole(model: Path) -> Path:
    """The model folder itself, once the checksums of the stage it belongs to, if it does, have been compared."""
    manifest = read_manifest(model.parent)
    if manifest is not None:
        prefix = f"{model.name}/"
        expected = {name: checksum for name, checksum in manifest["checksums"].items() if name.startswith(prefix)}
        if damaged := storage.verify(model.parent, expected):
            raise UserError(
                f"{model.parent / damaged[0]} is damaged: `headwater run` with the run's recipe makes it again."
            )
    return model
