"""Files of weights: `model.safetensors`, whole or in shards. Nothing is ever unpickled.

What we write carries a digest of its numbers, so that a bit that a disk or a network flips later is noticed. Files of
others have none; their headers are checked all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headwater.errors import UserError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DIGEST = "headwater_sha256"
"""Key of the digest in a file's metadata."""

_FORMATS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Number formats by their names in a safetensors file."""
_PICKLES = ("pytorch_model*.bin", "pytorch_model.bin.index.json", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_LFS_POINTER = b"version https://git-lfs"


def read_weights(folder: Path) -> dict[str, Tensor]:
    """{name: tensor} of the weights in a model folder, in the number formats of the file.

    The tensors may be views of the file: copy them before it is changed. Raises UserError where there are none, where
    only a pickle is there (it is not opened), or where a file is damaged, lies about its sizes or has another digest.
    """
    if (folder / WEIGHTS).is_file():
        return _read_file(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    for pattern in _PICKLES:
        for path in sorted(folder.glob(pattern)):
            raise UserError(
                f"{path} is a pickle, which can run any program when it is opened, so it was left closed: fetch or "
                f"convert the model as {WEIGHTS}."
            )
    raise UserError(f"There are no weights at {folder / WEIGHTS}: the folder is no whole model.")


def write_weights(weights: Mapping[str, Tensor], path: Path, dtype: torch.dtype | None = None) -> None:
    """Writes a safetensors file with its digest. `dtype`: the number format of all weights; None keeps each one's.

    The same weights give the same bytes: the library's own writer puts the metadata in an order of chance, and files
    are compared by their checksums here.
    """
    ready = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in weights.items()
    }
    header: dict[str, Any] = {"__metadata__": {"format": "pt", DIGEST: digest_of(ready)}}
    end = 0
    # Wide numbers first, so that each tensor begins at a multiple of its number's size.
    names = sorted(ready, key=lambda name: (-ready[name].element_size(), name))
    for name in names:
        start, end = end, end + ready[name].nbytes
        header[name] = {
            "dtype": _FORMATS[ready[name].dtype],
            "shape": list(ready[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(_bytes_of(ready[name]))


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """SHA-256, in hexadecimal, of the bytes of all tensors (little-endian, row after row), in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(_bytes_of(weights[name]))
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else memoryview(b"")


def _read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file, whose digest, where it has one, is compared."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"There are no weights at {path}: the folder is no whole model.") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        raise _damaged(path) from None
    if DIGEST in metadata and metadata[DIGEST] != digest_of(weights):
        raise UserError(
            f"{path} is damaged: its weights are not those that were written (wrong checksum); copy it anew."
        )
    return weights


def _damaged(path: Path) -> UserError:
    try:
        with open(path, "rb") as file:
            beginning = file.read(len(_LFS_POINTER))
    except OSError:
        beginning = b""
    if beginning == _LFS_POINTER:
        return UserError(f"{path} is only a pointer of Git LFS to the weights: run `git lfs pull` in its repository.")
    return UserError(f"{path} is damaged or no safetensors file: copy it anew, or restore it from its run.")


def _read_shards(folder: Path) -> dict[str, Tensor]:
    """The tensors of all files that the index names; each file must hold exactly what the index says."""
    place = folder / INDEX
    files: dict[str, set[str]] = {}
    for name, file in _weight_map(place).items():
        files.setdefault(file, set()).add(name)
    weights: dict[str, Tensor] = {}
    for file, names in sorted(files.items()):
        found = _read_file(folder / file)
        for name in sorted(names ^ found.keys()):
            raise UserError(
                f"{place} does not fit {file}: only {'the file has' if name in found else 'the index names'} the weight "
                f"{name} there; copy the model anew."
            )
        weights |= found
    return weights


def _weight_map(place: Path) -> dict[str, str]:
    """{weight: file beside the index}, or a UserError."""
    damaged = UserError(f"{place} is damaged or no index of weights: copy it anew.")
    try:
        index = json.loads(place.read_text(encoding="utf-8"), object_pairs_hook=_without_duplicates)
    except (OSError, ValueError, RecursionError):
        raise damaged from None
    found = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(found, dict) or not found:
        raise damaged
    for file in found.values():
        if not isinstance(file, str):
            raise damaged
        if not file.endswith(".safetensors") or Path(file).name != file or "\\" in file or "\0" in file:
            raise UserError(f"{place} names the file {file!r}: only safetensors files beside it are read.")
    return found


def _without_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key} is there twice")
        found[key] = value
    return found
