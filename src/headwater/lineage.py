"""Where a model comes from: the stages it is made of, with what went in, what came out and what was chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headwater.manifest import Manifest
from headwater.progress import duration
from headwater.runs import Run
from headwater.steps import STAGES, step_of

_FIGURES = 6
"""Figures per stage that are printed; the manifest has all."""


def lineage(run: Run, stage: str | None = None) -> str:
    """A tree as text, from `stage` (or the last finished one) back to the samples. Every stage is told once."""
    if stage is None:
        finished = [name for name in STAGES if run.is_finished(name) and name != "report"]
        if not finished:
            return f"{run.name}: no stage is finished yet"
        stage = finished[-1]
    return "\n".join([f"{run.name}", *_branch(run, step_of(stage).name, None, "", "└─ ", "   ", set())])


def _branch(
    run: Run, stage: str, expected: str | None, indent: str, knot: str, below: str, told: set[str]
) -> Iterator[str]:
    """The lines of one stage and of its parents; `expected` is the content hash that its child was made from."""
    if stage not in STAGES:
        yield f"{indent}{knot}{stage} {(expected or '')[:12]}"
        return
    manifest = run.manifest(stage)
    if manifest is None:
        state = "damaged" if run.is_finished(stage) else "not there"
        yield f"{indent}{knot}{stage}: {state}"
        return
    changed = expected is not None and manifest["content_hash"] != expected
    warning = f"  ! made again since: this is not {expected[:12]}, which was used" if expected and changed else ""
    head = f"{indent}{knot}{stage} {manifest['content_hash'][:12]}{warning}"
    if stage in told:
        yield f"{head} (told above)"
        return
    told.add(stage)
    yield head
    parents = list(manifest["parents"].items())
    bar = "│  " if parents else "   "
    for line in _about(manifest):
        yield f"{indent}{below}{bar}{line}"
    for number, (parent, content_hash) in enumerate(parents, start=1):
        knot, deeper = ("└─ ", "   ") if number == len(parents) else ("├─ ", "│  ")
        yield from _branch(run, parent, content_hash, indent + below, knot, deeper, told)


def _about(manifest: Manifest) -> Iterator[str]:
    attempts = f", {manifest['attempts']} attempts" if manifest["attempts"] > 1 else ""
    yield (
        f"{manifest['finished'][:16].replace('T', ' ')} UTC, {duration(manifest['seconds'])}{attempts}, "
        f"seed {manifest['seed']}, headwater {manifest['code_version']}"
    )
    chosen = list(_chosen(manifest["stage"], manifest["settings"]))
    if chosen:
        yield "settings: " + ", ".join(chosen)
    figures = list(_figures(manifest["metrics"]))
    if figures:
        yield "figures: " + ", ".join(figures[:_FIGURES])


def _chosen(stage: str, settings: dict[str, Any]) -> Iterator[str]:
    """The settings that differ from the defaults."""
    from headwater.recipe import Recipe

    section: Any = Recipe.model_fields[stage].annotation
    defaults = section.model_construct().model_dump(mode="json", warnings=False)
    yield from _differing(settings, defaults, "")


def _differing(settings: dict[str, Any], defaults: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, value in settings.items():
        default = defaults.get(key)
        if value == default:
            continue
        if isinstance(value, dict) and isinstance(default, dict):
            yield from _differing(value, default, f"{prefix}{key}.")
        elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
            yield f"{prefix}{key}=[{', '.join(_source(inner) for inner in value)}]"
        else:
            yield f"{prefix}{key}={value}"


def _source(source: Any) -> str:
    """A corpus source by what it is called; its rules are in the run's recipe.yaml."""
    return str(source.get("samples") or source.get("folder")) if isinstance(source, dict) else str(source)


def _figures(metrics: dict[str, Any]) -> Iterator[str]:
    for key, value in metrics.items():
        if isinstance(value, float):
            yield f"{key} {value:.4g}"
        elif isinstance(value, int | str) and not isinstance(value, bool) and len(str(value)) <= 40:
            yield f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}"
        elif isinstance(value, dict) and value and all(isinstance(inner, int) for inner in value.values()):
            yield f"{key} " + " + ".join(f"{inner:,} {name}" for name, inner in value.items())
