"""A stage's manifest: what it was made of, the checksums of its files, and what came out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater import __version__, storage
from headwater.cores import usable_cores

if TYPE_CHECKING:
    from pydantic import BaseModel

    from headwater.recipe import Recipe

MANIFEST = "manifest.json"
VOLATILE = ("metrics.jsonl", "tensorboard", "checkpoints")
"""Files and folders, at any depth, that may differ between equal runs (times, kept checkpoints): not in the hash."""

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Identity:
    """What decides the content of a stage: its settings, its seed, and the content hashes of its parents."""

    settings: dict[str, Any]
    seed: int
    parents: dict[str, str] = field(default_factory=dict)
    other_settings: dict[str, Any] = field(default_factory=dict)
    """Settings of other sections that the stage reads, by their dotted names."""

    @classmethod
    def of(cls, recipe: Recipe, stage: str, parents: Mapping[str, str], reads: Iterable[str] = ()) -> Identity:
        """The identity that a recipe gives to a stage whose parents have these content hashes."""
        settings = settings_of(recipe, stage).model_dump(mode="json", exclude={"seed"})
        whole = recipe.model_dump(mode="json") if reads else {}
        return cls(settings, seed_of(recipe, stage), dict(parents), {name: _at(whole, name) for name in reads})

    @classmethod
    def stored(cls, stage: str, data: Mapping[str, Any], reads: Iterable[str]) -> Identity:
        """What a stage was made from, as a manifest says; `reads`: the settings of other sections that count today. A setting
        that did not exist then, or did not count, has its default: the stage was made like that."""
        known = data["other_settings"]
        others = {name: completed(name, known[name]) if name in known else default_of(name) for name in reads}
        return cls(completed(stage, data["settings"]), data["seed"], data["parents"], others)


def completed(name: str, stored: Any) -> Any:
    """A part of a recipe, by its dotted name, as it was written down, with the defaults of newer settings."""
    from pydantic import TypeAdapter, ValidationError

    from headwater.recipe import Recipe

    kind: Any = Recipe
    for key in name.split("."):
        kind = kind.model_fields[key].annotation if key in getattr(kind, "model_fields", {}) else Any
    adapter = TypeAdapter(kind)
    try:
        whole = adapter.dump_python(adapter.validate_python(stored), mode="json")
    except ValidationError:
        return stored  # something then is no longer a setting: that is a difference
    if isinstance(whole, dict) and "seed" not in stored:
        whole.pop("seed", None)
    return whole


def default_of(name: str) -> Any:
    """The default of a part of a recipe, by its dotted name; "absent" where it has none."""
    from headwater.recipe import Recipe

    section, *keys = name.split(".")
    field = Recipe.model_fields[section]
    if field.is_required():
        return "absent"
    value = field.default
    for key in keys:
        value = getattr(value, key)
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def settings_of(recipe: Recipe, stage: str) -> BaseModel:
    """A stage's section of the recipe."""
    return getattr(recipe, stage)  # type: ignore[no-any-return]


def seed_of(recipe: Recipe, stage: str) -> int:
    """A stage's own seed, or the recipe's."""
    own: int | None = getattr(settings_of(recipe, stage), "seed", None)
    return recipe.seed if own is None else own


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `manifest.json`, sealed with its own checksum: a flipped bit must not pass for other settings."""
    sealed = {**manifest, "seal": _seal(manifest)}
    storage.write_atomically(folder / MANIFEST, json.dumps(sealed, indent=2, ensure_ascii=False) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a stage's folder; None where there is none, or where it is not as it was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict) or manifest.pop("seal", None) != _seal(manifest):
        return None
    return manifest


def content_hash(checksums: Mapping[str, str]) -> str:
    """SHA-256 over the sorted checksums of what a stage made; `VOLATILE` files have no part in it."""
    lines = [f"{checksum}  {name}\n" for name, checksum in sorted(checksums.items()) if not _is_volatile(name)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def code_version() -> str:
    """The version of headwater and the start of a hash of its source, which an edited checkout changes."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return f"{__version__} (source {digest.hexdigest()[:12]})"


def machine() -> dict[str, Any]:
    """What the stage ran on: speeds, and the last bits of results, depend on it."""
    import platform

    import psutil

    return {
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": usable_cores(),
        "memory_mb": round(psutil.virtual_memory().total / 1e6),
        "python": platform.python_version(),
        "torch": _version_of("torch"),
    }


def plain(value: Any) -> Any:
    """Metrics as JSON knows them: array scalars become numbers, what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _at(settings: Any, name: str) -> Any:
    """The setting of a dotted name."""
    for key in name.split("."):
        settings = settings[key]
    return settings


def _is_volatile(name: str) -> bool:
    return not set(VOLATILE).isdisjoint(name.split("/"))


def _seal(manifest: Manifest) -> str:
    return hashlib.sha256(canonical(manifest).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Equal values as equal text."""
    return json.dumps(value, sort_keys=True)


def _version_of(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
