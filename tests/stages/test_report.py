from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headwater.corpus.settings import CorpusSettings, SourceSettings
from headwater.recipe import Recipe
from headwater.runs import Stage
from headwater.stages import report

RECIPE = Recipe(run="small", seed=3, corpus=CorpusSettings(sources=[SourceSettings(samples="reviews")]))


def stage_in(folder: Path, seconds: float = 1.5) -> Stage:
    """The report stage of a run of which only two stages are there."""
    parents = {}
    for name, metrics in {
        "corpus": {"documents_in": 9, "documents_kept": 7},
        "ppo": {"kl": 4.2, "chosen_step": None},
    }.items():
        parents[name] = folder / name
        parents[name].mkdir(parents=True, exist_ok=True)
        manifest: dict[str, Any] = {"stage": name, "metrics": metrics, "seconds": 10.25, "peak_memory_mb": 99.0}
        (parents[name] / "manifest.json").write_text(json.dumps(manifest))
    work = folder / ".report.partial"
    work.mkdir(exist_ok=True)
    return Stage("report", RECIPE, work, parents, elapsed=lambda: seconds)


def test_writes_page_and_summary(tmp_path: Path) -> None:
    stage = stage_in(tmp_path / "mine")
    metrics = report.run(stage)
    summary = json.loads((stage.folder / "summary.json").read_text())
    page = (stage.folder / "report.html").read_text(encoding="utf-8")
    assert summary["run"] == "mine"
    assert summary["seed"] == 3
    assert summary["corpus"]["documents_kept"] == 7
    assert summary["ppo"]["kl"] == 4.2
    assert summary["seconds"] == {"corpus": 10.25, "ppo": 10.25, "report": 1.5}
    assert summary["seconds_total"] == 22.0
    assert summary["peak_memory_mb"] == 99.0
    assert "<title>mine – headwater report</title>" in page
    assert metrics["page_bytes"] == len(page.encode())


def test_running_it_again_gives_the_same_files(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        stage = stage_in(tmp_path / "mine")
        report.run(stage)
        contents.append([(stage.folder / name).read_bytes() for name in ("report.html", "summary.json")])
    assert contents[0] == contents[1]
