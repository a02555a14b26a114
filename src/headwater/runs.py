"""A run is a folder, `runs/NAME`; each finished stage is a folder in it, with a manifest that says what it is made of.

A stage works in `.STAGE.partial`, which gets the stage's name when all of it is on the disk, the manifest last. So a
stage that has a folder is finished, whatever happened to the process that made it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from headwater import storage
from headwater.clock import CLOCK, Clock
from headwater.errors import UserError
from headwater.manifest import (
    MANIFEST,
    Identity,
    Manifest,
    canonical,
    code_version,
    content_hash,
    machine,
    plain,
    read_manifest,
    seed_of,
    settings_of,
    write_manifest,
)
from headwater.rounds import folder_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from headwater.recipe import Recipe

EXPECTED_CURVE = "expected-curve.json"
"""In the run's folder: the recipe's curve to expect, a list of {"step", "bits_per_byte"}."""
IDENTITY = ".identity.json"
"""In a work folder: whose work this is, so that it is not continued with other settings."""
_OWN_FILES = frozenset({MANIFEST, IDENTITY, CLOCK})


@dataclass(frozen=True)
class Stage:
    """All that a stage's function needs to know; it writes its files into `folder` and returns its metrics."""

    name: str
    recipe: Recipe
    folder: Path
    """The work folder; it gets the stage's name when the function has returned."""
    parents: Mapping[str, Path] = field(default_factory=dict)
    """Folders of the finished stages that this one may read."""
    resumed: bool = False
    """An earlier attempt was interrupted; what it left in `folder` is still there if the stage can go on from it."""
    elapsed: Callable[[], float] = lambda: 0.0
    """Seconds that this stage has taken so far, earlier attempts included."""

    @property
    def settings(self) -> BaseModel:
        """The recipe's section of this stage."""
        return settings_of(self.recipe, self.name)

    @property
    def seed(self) -> int:
        """The section's own seed, or the recipe's."""
        return seed_of(self.recipe, self.name)

    def parent(self, name: str) -> Path:
        """The folder of a finished earlier stage. A KeyError is a mistake in the order of stages, not of the user."""
        return self.parents[name]

    def manifest_of(self, name: str) -> Manifest:
        """The manifest of a finished earlier stage."""
        return json.loads((self.parent(name) / MANIFEST).read_text(encoding="utf-8"))  # type: ignore[no-any-return]

    def metrics_of(self, name: str) -> dict[str, Any]:
        """What the function of a finished earlier stage returned."""
        return self.manifest_of(name)["metrics"]  # type: ignore[no-any-return]


StageFunction = Callable[[Stage], Mapping[str, Any]]


class Run:
    """The folder of a run. Reading needs no lock; `with run:` locks it for writing and mends what a kill left."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.folder = root / name
        self._lock: TextIO | None = None

    def __enter__(self) -> Run:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.folder / ".lock", self.name)
        except (FileExistsError, NotADirectoryError):
            raise UserError(
                f"{self.folder} cannot be a folder: choose another name with --run NAME, or another place with --runs."
            ) from None
        for work in self.folder.glob(f".*{storage.TEMPORARY}"):
            self._complete(work.name[1 : -len(storage.TEMPORARY)])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def stage(self, name: str) -> Path:
        """The folder of a stage once it is finished."""
        return self.folder / name

    def work(self, name: str) -> Path:
        """The folder of a stage while it is being made."""
        return self.folder / f".{name}{storage.TEMPORARY}"

    def is_finished(self, name: str) -> bool:
        return self.stage(name).is_dir()

    def manifest(self, name: str) -> Manifest | None:
        """The manifest of a finished stage; None where there is none or it is not as it was written."""
        return read_manifest(self.stage(name))

    def damage(self, name: str) -> list[str]:
        """The files of a finished stage that are not as they were written."""
        manifest = self.manifest(name)
        return [MANIFEST] if manifest is None else storage.verify(self.stage(name), manifest["checksums"])

    def started_as(self, name: str, reads: Iterable[str]) -> Identity | None:
        """The identity of the interrupted attempt at a stage, if there is one; `reads` as in `Identity.stored`."""
        try:
            return Identity.stored(name, json.loads((self.work(name) / IDENTITY).read_text(encoding="utf-8")), reads)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def set_aside(self, name: str, why: str) -> Path:
        """Gives a finished stage's folder a name that says `why` it is not used; returns the new path."""
        number = 1
        while (aside := self.folder / f"{name}.{why}-{number}").exists():
            number += 1
        self.stage(name).rename(aside)
        storage.fsync_folder(self.folder)
        return aside

    def make(self, stage: str, recipe: Recipe, identity: Identity, function: StageFunction, goes_on: bool) -> Manifest:
        """Runs a stage's function and finishes its folder; returns the manifest.

        `goes_on`: the function continues from what an interrupted attempt left; otherwise it finds an empty folder.
        """
        work = self.work(stage)
        resumed = self.started_as(stage, identity.other_settings) == identity
        if not resumed:
            shutil.rmtree(work, ignore_errors=True)
        elif not goes_on:
            _empty(work, keep=_OWN_FILES)
        work.mkdir(parents=True, exist_ok=True)
        (work / MANIFEST).unlink(missing_ok=True)
        storage.write_atomically(work / IDENTITY, canonical(asdict(identity)))
        parents = {name: folder for name in identity.parents if (folder := self._parent(name)).is_dir()}
        with Clock(work / CLOCK) as clock:
            metrics = function(Stage(stage, recipe, work, parents, resumed, clock.seconds))
        storage.remove_temporaries(work)
        storage.fsync_tree(work)
        checksums = storage.checksums(work, skip=_OWN_FILES)
        manifest: Manifest = {
            "stage": stage,
            **asdict(identity),
            "code_version": code_version(),
            "checksums": checksums,
            "content_hash": content_hash(checksums),
            "metrics": plain(metrics),
            "seconds": round(clock.seconds(), 3),
            "peak_memory_mb": round(clock.peak_memory_mb, 1),
            "attempts": clock.attempts,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
        }
        write_manifest(work, manifest)
        self._finish(stage)
        return manifest

    def _parent(self, name: str) -> Path:
        """The folder of a finished stage, of this run or, as `ppo of NAME`, of another beside it."""
        return folder_of(name, self.folder.parent) if " of " in name else self.stage(name)

    def take(self, stage: str, other: Run) -> Manifest:
        """Takes a finished stage over from another run, manifest included. Raises UserError where it is damaged."""
        damaged = other.damage(stage)
        if damaged:
            raise UserError(
                f"{other.stage(stage) / damaged[0]} is damaged: run without --reuse, or mend that run first."
            )
        work = self.work(stage)
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(other.stage(stage), work, copy_function=_link)
        storage.finish_folder(work, self.stage(stage))
        manifest = self.manifest(stage)
        assert manifest is not None
        return manifest

    def _complete(self, stage: str) -> None:
        """Finishes a work folder whose manifest is written: the process was killed just before the last step."""
        manifest = read_manifest(self.work(stage))
        if manifest is None or self.is_finished(stage) or storage.verify(self.work(stage), manifest["checksums"]):
            return
        self._finish(stage)

    def _finish(self, stage: str) -> None:
        for name in (IDENTITY, CLOCK):
            (self.work(stage) / name).unlink(missing_ok=True)
        storage.finish_folder(self.work(stage), self.stage(stage))


def _empty(folder: Path, keep: frozenset[str]) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in keep:
            path.unlink()


def _link(source: str, target: str) -> None:
    """A hard link where possible; a database is copied, as it is written in place."""
    if not source.endswith((".db", ".sqlite")):
        try:
            os.link(source, target)
            return
        except OSError:  # another disk, or a file system without links
            pass
    shutil.copy2(source, target)


def _lock(path: Path, name: str) -> TextIO:
    """The open, locked file; the lock goes when it is closed, or with the process."""
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise UserError(
            f"The run {name} is in use by process {holder}: wait for its end, or choose another name with --run NAME."
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    # A worker process that outlives a killed run must not hold the run's lock.
    os.register_at_fork(after_in_child=file.close)
    return file
