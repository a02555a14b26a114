"""Stage report: the page and the summary of a run."""

from __future__ import annotations

import json
from typing import Any

from headwater.report.material import gather
from headwater.report.page import render
from headwater.report.summary import summarise
from headwater.runs import EXPECTED_CURVE, Stage
from headwater.stages.settings import ReportSettings
from headwater.storage import write_atomically

PAGE, SUMMARY = "report.html", "summary.json"


def run(stage: Stage) -> dict[str, Any]:
    """Writes report.html and summary.json; the pipeline copies both into the run's folder when the stage is finished.

    The report's own time is what it has taken when the summary is written, all attempts included. Since a finished
    stage does not run again, a rerun leaves both files as they are.
    """
    settings = stage.settings
    assert isinstance(settings, ReportSettings)
    name = stage.folder.parent.name
    material = gather(name, stage.parents, stage.folder.parent / EXPECTED_CURVE)
    page = render(material, summarise(material.manifests), settings.examples)
    # Only now: drawing the page is most of this stage's time, and belongs into the summary.
    own = {"seconds": stage.elapsed(), "metrics": {}}
    summary = {
        "run": name,
        "seed": stage.recipe.seed,
        **summarise({**material.manifests, stage.name: own}),
    }
    contents = {PAGE: page, SUMMARY: json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"}
    for file, content in contents.items():
        write_atomically(stage.folder / file, content)
    return {"page": PAGE, "summary": SUMMARY, "page_bytes": len(page.encode("utf-8"))}
