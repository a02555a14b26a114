"""Where a model comes from: the stages it is made of, with what went in, what came out and what was chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from headwater.manifest import Manifest
from headwater.progress import duration
from headwater.runs import Run
from headwater.steps import STAGES, step_of

_FIGURES = 6
"""Figures per stage that are told; the manifest has all."""


@dataclass(frozen=True)
class Knot:
    """A stage in the tree, with the stages that it was made of below it.

    used      the content hash that its child was made from; None at the root
    manifest  None where it is damaged or not there, or a stage of another run (`ppo of NAME`)
    told      it stands above already, with all that is below it
    """

    stage: str
    used: str | None
    manifest: Manifest | None = None
    is_damaged: bool = False
    told: bool = False
    parents: list[Knot] = field(default_factory=list)

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is a stage of another run."""
        return self.stage not in STAGES

    @property
    def hash(self) -> str:
        """The start of its content hash."""
        return (self.manifest["content_hash"] if self.manifest else self.used or "")[:12]

    @property
    def is_changed(self) -> bool:
        """Whether it was made again since, so that it is not what its child was made from."""
        return self.used is not None and self.manifest is not None and self.manifest["content_hash"] != self.used

    @property
    def settings(self) -> list[str]:
        """The settings that differ from the defaults."""
        return [] if self.manifest is None else list(_chosen(self.manifest["stage"], self.manifest["settings"]))

    @property
    def figures(self) -> list[str]:
        """The first figures that it was measured by."""
        return [] if self.manifest is None else list(_figures(self.manifest["metrics"]))[:_FIGURES]


def tree(run: Run, stage: str | None = None) -> Knot | None:
    """The stage (or the last finished one) with all that it is made of; None where no stage is finished."""
    if stage is None:
        finished = [name for name in STAGES if run.is_finished(name) and name != "report"]
        if not finished:
            return None
        stage = finished[-1]
    return _knot(run, step_of(stage).name, None, set())


def _knot(run: Run, stage: str, used: str | None, told: set[str]) -> Knot:
    if stage not in STAGES:
        return Knot(stage, used)
    manifest = run.manifest(stage)
    if manifest is None:
        return Knot(stage, used, is_damaged=run.is_finished(stage))
    if stage in told:
        return Knot(stage, used, manifest, told=True)
    told.add(stage)
    parents = [_knot(run, parent, content_hash, told) for parent, content_hash in manifest["parents"].items()]
    return Knot(stage, used, manifest, parents=parents)


def lineage(run: Run, stage: str | None = None) -> str:
    """The tree as text. Every stage is told once."""
    root = tree(run, stage)
    if root is None:
        return f"{run.name}: no stage is finished yet"
    return "\n".join([run.name, *_branch(root, "", "└─ ", "   ")])


def _branch(knot: Knot, indent: str, sign: str, below: str) -> Iterator[str]:
    """The lines of one stage and of its parents."""
    if knot.is_elsewhere:
        yield f"{indent}{sign}{knot.stage} {knot.hash}"
        return
    if knot.manifest is None:
        yield f"{indent}{sign}{knot.stage}: {'damaged' if knot.is_damaged else 'not there'}"
        return
    used = (knot.used or "")[:12]
    warning = f"  ! made again since: this is not {used}, which was used" if knot.is_changed else ""
    head = f"{indent}{sign}{knot.stage} {knot.hash}{warning}"
    if knot.told:
        yield f"{head} (told above)"
        return
    yield head
    bar = "│  " if knot.parents else "   "
    for line in _about(knot):
        yield f"{indent}{below}{bar}{line}"
    for number, parent in enumerate(knot.parents, start=1):
        sign, deeper = ("└─ ", "   ") if number == len(knot.parents) else ("├─ ", "│  ")
        yield from _branch(parent, indent + below, sign, deeper)


def _about(knot: Knot) -> Iterator[str]:
    manifest = knot.manifest
    assert manifest is not None
    attempts = f", {manifest['attempts']} attempts" if manifest["attempts"] > 1 else ""
    yield (
        f"{manifest['finished'][:16].replace('T', ' ')} UTC, {duration(manifest['seconds'])}{attempts}, "
        f"seed {manifest['seed']}, headwater {manifest['code_version']}"
    )
    if knot.settings:
        yield "settings: " + ", ".join(knot.settings)
    if knot.figures:
        yield "figures: " + ", ".join(knot.figures)


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
