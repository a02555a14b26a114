"""The runs: which there are, how far each is, its curves while they grow, what it wrote, its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response

from headwater import catalogue
from headwater.errors import UserError
from headwater.manifest import Manifest
from headwater.report.material import answer_parts, evenly, read_json, read_lines
from headwater.runs import Run
from headwater.serving.pages import curves
from headwater.serving.pages.signing import Entered, Refused
from headwater.serving.pages.site import HEADERS, REPORT_POLICY, OfSite, Site, Whole, page
from headwater.steps import STAGES

router = APIRouter()
State = Literal["finished", "live", "stopped", "todo"]

EXAMPLES = 6
"""Answers before and after PPO that are shown."""


@dataclass(frozen=True)
class StageState:
    """How far a stage is."""

    name: str
    state: State
    manifest: Manifest | None


def run_of(site: Site, name: str) -> Run:
    """The run of this name, and never a path of somebody's choice."""
    for run in catalogue.all_runs(site.root):
        if run.name == name:
            return run
    raise Refused(404, "runs.no_such")


def stages_of(run: Run) -> list[StageState]:
    """All stages in their order. A stage whose work folder is there is live, or stopped where nobody works on the run."""
    busy = is_running(run)
    found = []
    for name in STAGES:
        manifest = run.manifest(name)
        state: State = "todo"
        if manifest is not None:
            state = "finished"
        elif run.work(name).is_dir():
            state = "live" if busy else "stopped"
        found.append(StageState(name, state, manifest))
    return found


def is_running(run: Run) -> bool:
    """Whether a process holds the run's lock; read from the system's list, so that nobody is kept from locking it."""
    try:
        inode = (run.folder / ".lock").stat().st_ino
        locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return any(len(parts := line.split()) > 5 and parts[5].rpartition(":")[2] == str(inode) for line in locks)


@router.get("/runs")
def show_all(request: Request, site: OfSite, _: Entered) -> Response:
    """The list of runs."""
    rows = []
    for run in catalogue.all_runs(site.root):
        stages = stages_of(run)
        made = [stage.manifest for stage in stages if stage.manifest is not None]
        rows.append(
            {
                "name": run.name,
                "stages": stages,
                "finished": len(made),
                "live": next((stage.name for stage in stages if stage.state == "live"), None),
                "seconds": sum(manifest["seconds"] for manifest in made),
                "when": max((manifest["finished"] for manifest in made), default="")[:16].replace("T", " "),
            }
        )
    rows.sort(key=lambda row: (row["live"] is None, row["when"] == "", _reversed(str(row["when"]))))
    return page(request, "runs.html", rows=rows, root=site.root)


@router.get("/runs/{name}")
def show(request: Request, name: str, site: OfSite, _: Entered) -> Response:
    """One run."""
    run = run_of(site, name)
    stages = stages_of(run)
    return page(
        request,
        "run.html",
        section="runs",
        name=run.name,
        stages=stages,
        live=any(stage.state == "live" for stage in stages),
        tiles=tiles(run),
        charts={stage.name: curves.CHARTS[stage.name] for stage in stages if _has_curves(stage)},
        samples=samples(run),
        answers=[answer_parts(row) for row in evenly(read_lines(run.stage("evaluate") / "answers.jsonl"), EXAMPLES)],
        has_report=(run.folder / "report.html").is_file(),
        models=[stage for stage in catalogue.WITH_MODEL if run.is_finished(stage)],
    )


@router.get("/runs/{name}/curves/{stage}")
def rows(name: str, stage: str, site: OfSite, _: Entered, after: Whole = 0) -> dict[str, Any]:
    """What a stage has measured from a place in its file on; a browser asks again from `next`."""
    if stage not in curves.CHARTS:
        raise UserError(f"The stage `{stage}` has no curves: name one of {', '.join(curves.CHARTS)}.")
    run = run_of(site, name)
    folder = run.stage(stage) if run.is_finished(stage) else run.work(stage)
    found = curves.read_from(folder / "metrics.jsonl", after, stage)
    return {**found, "live": not run.is_finished(stage) and is_running(run)}


@router.get("/runs/{name}/report.html")
def report(name: str, site: OfSite, _: Entered) -> Response:
    """The run's report as it was written."""
    path = run_of(site, name).folder / "report.html"
    if not path.is_file():
        raise Refused(404, "runs.no_report")
    return FileResponse(path, media_type="text/html", headers={**HEADERS, "Content-Security-Policy": REPORT_POLICY})


def tiles(run: Run) -> list[tuple[str, str, Any]]:
    """(words, form, value) of the figures that say most; those that there are."""
    summary = read_json(run.folder / "summary.json", {})
    wanted = (
        ("runs.win_rate", "percent", ("evaluation", "win_rate", "reward_model")),
        ("runs.reward_accuracy", "percent", ("reward", "accuracy")),
        ("runs.bits", "bits", ("pretrain", "bits_per_byte")),
        ("runs.parameters", "millions", ("pretrain", "parameters")),
        ("runs.time", "duration", ("seconds_total",)),
    )
    found = ((words, form, _at(summary, path)) for words, form, path in wanted)
    return [each for each in found if each[2] is not None]


def samples(run: Run) -> list[tuple[int, str]]:
    """(step, text) of what the model wrote while it was pretrained, the last ones."""
    for folder in (run.stage("pretrain"), run.work("pretrain")):
        rows = [row for row in read_lines(folder / "metrics.jsonl") if isinstance(row.get("sample"), str)]
        if rows:
            return [(row["step"], row["sample"]) for row in rows[-4:]]
    return []


def _has_curves(stage: StageState) -> bool:
    return stage.name in curves.CHARTS and stage.state != "todo"


def _at(values: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _reversed(text: str) -> list[int]:
    """A key by which the latest date comes first."""
    return [-ord(character) for character in text]
