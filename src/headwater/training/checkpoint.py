"""Checkpoints: everything that changes, in safetensors and JSON, with checksums written last.

A checkpoint is a folder `checkpoints/00000120`. It appears whole or not at all, and a damaged one is passed over for
the newest whole one. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from headwater.progress import say
from headwater.storage import checksums, finish_folder, verify

FOLDER = "checkpoints"
"""In the folder of a training."""

KEPT = 2
"""Whole checkpoints that stay."""


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes `state` (nested dicts and lists of tensors and JSON values) as `folder`/STEP, then drops the oldest ones."""
    from safetensors.torch import save_file

    final = folder / f"{step:08d}"
    work = folder / f".{step:08d}.partial"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    tensors: dict[str, Tensor] = {}
    (work / "state.json").write_text(json.dumps(_flatten(state, "", tensors)), encoding="utf-8")
    save_file(tensors, work / "tensors.safetensors")
    (work / "checksums.json").write_text(json.dumps(checksums(work)), encoding="utf-8")
    if final.exists():
        shutil.rmtree(final)
    finish_folder(work, final)
    for old in _all(folder)[:-KEPT]:
        shutil.rmtree(old)
    return final


def load_newest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """(step, state) of the newest whole checkpoint, or None. Says which damaged ones it passed over."""
    for path in reversed(_all(folder)):
        state = _load(path)
        if state is not None:
            return int(path.name), state
        say(f"The checkpoint {path} is damaged; going back to the one before it.")
        shutil.rmtree(path)  # or it would count as one of those that stay
    return None


def drop(*trainings: Path) -> None:
    """Removes the checkpoints of finished trainings, each given by its folder."""
    for folder in trainings:
        shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir()) if folder.is_dir() else []


def _load(path: Path) -> dict[str, Any] | None:
    from safetensors.torch import load_file

    try:
        expected = json.loads((path / "checksums.json").read_text(encoding="utf-8"))
        if set(expected) != {"state.json", "tensors.safetensors"} or verify(path, expected):
            return None
        tensors = load_file(path / "tensors.safetensors")
        return _restore(json.loads((path / "state.json").read_text(encoding="utf-8")), tensors)  # type: ignore[no-any-return]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


_TENSOR = "__tensor__"


def _flatten(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Moves the tensors of a nested value into `tensors`; returns the JSON that says where they were."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().contiguous().clone()
        return {_TENSOR: path}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            return {"__items__": [[key, _flatten(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
        return {key: _flatten(item, f"{path}/{key}", tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_flatten(item, f"{path}/{index}", tensors) for index, item in enumerate(value)]
    return value


def _restore(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        if "__items__" in value:
            return {key: _restore(item, tensors) for key, item in value["__items__"]}
        return {key: _restore(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_restore(item, tensors) for item in value]
    return value
