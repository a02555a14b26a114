"""A study's surroundings: its settings, its folder, and its trials, each of which is kept as soon as it is finished."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import Field

from headwater.clock import CLOCK, Clock
from headwater.manifest import Manifest, code_version, machine, plain, read_manifest, write_manifest
from headwater.progress import duration, say
from headwater.settings import Count, Seed, Settings

TRIALS = "trials"
"""Folder, in a study's own, with one folder per trial."""


class StudySettings(Settings):
    """What every study has; its own settings come on top."""

    study: str = Field(description="Which study it is.")
    run: str | None = Field(
        None, description="Name of its folder below runs; absent: the study's.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
    )
    seed: Seed = Field(1, description="The same seed gives the same models and the same data.")
    threads: Count | None = Field(None, description="CPU threads; absent: as many as the machine has cores.")
    cache: str = Field("samples", description="Folder that keeps the fetched packages.")


Own = TypeVar("Own", bound=StudySettings)
Measure = Callable[[Path], Mapping[str, Any]]
"""Does the work of a trial in a folder of its own; what it returns is the trial's result."""


@dataclass
class Study(Generic[Own]):
    """What the function of a study is given."""

    settings: Own
    folder: Path
    seconds: float = field(default=0.0, init=False)
    """Time of all trials asked for so far, earlier attempts included."""

    @property
    def seed(self) -> int:
        return self.settings.seed

    @property
    def cache(self) -> Path:
        """Where fetched packages are."""
        return Path(self.settings.cache)

    def trial(self, name: str, measure: Measure) -> dict[str, Any]:
        """The result of a trial: the one that is kept, or else that of `measure(folder)`, which is then kept.

        `measure` may leave files in the folder, among them checkpoints, from which an interrupted trial goes on.
        """
        folder = self.folder / TRIALS / name
        manifest = read_manifest(folder)
        if manifest is None:
            say(f"{name} …")
            _seed_dropout(self.seed, name)
            manifest = _make(folder, name, measure)
            say(f"{name}: finished in {duration(manifest['seconds'])}")
        self.seconds += manifest["seconds"]
        return manifest["result"]  # type: ignore[no-any-return]


def _seed_dropout(seed: int, name: str) -> None:
    """torch's own generator, so that a trial does not depend on those before it in this process."""
    import torch

    torch.manual_seed(zlib.crc32(f"{seed} {name}".encode()))


def _make(folder: Path, name: str, measure: Measure) -> Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    with Clock(folder / CLOCK) as clock:
        result = plain(measure(folder))
    manifest = {
        "trial": name,
        "result": result,
        "seconds": round(clock.seconds(), 3),
        "peak_memory_mb": round(clock.peak_memory_mb, 1),
        "attempts": clock.attempts,
        "code_version": code_version(),
        "machine": machine(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_manifest(folder, manifest)
    (folder / CLOCK).unlink(missing_ok=True)
    return manifest


def trials_of(folder: Path) -> Iterator[Manifest]:
    """The manifests of a study's finished trials, in the order in which they were finished."""
    manifests = [read_manifest(path) for path in (folder / TRIALS).glob("*/")]
    yield from sorted((m for m in manifests if m is not None), key=lambda m: (m["finished"], m["trial"]))
