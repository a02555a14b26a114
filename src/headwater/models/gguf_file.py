"""The container GGUF: a header of settings and a table of tensors, then their numbers (the file format of llama.cpp).

The header is read by hand and not by the `gguf` package, because a file may lie: every count and length is compared
with what is left of the file before anything of that size is made.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.errors import UserError

MAGIC = b"GGUF"
DIGEST = "headwater.sha256"
"""Key of our digest of the tensors' bytes."""

_VERSIONS = (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""{number of a type: its letter in `struct`}."""
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32
_MOST_DIMENSIONS = 4


class _Damaged(Exception):
    """What is wrong with a file, in a few words."""


@dataclass(frozen=True)
class Tensor:
    """Where a tensor is in the file. `shape`: rows first; `kind`: the number format, as GGML numbers them."""

    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


@dataclass(frozen=True)
class GGUFFile:
    """The header of a file. Arrays of numbers are numpy arrays, arrays of texts are lists."""

    path: Path
    settings: dict[str, Any]
    tensors: dict[str, Tensor]

    def numbers(self, name: str) -> npt.NDArray[np.float32]:
        """A tensor in fp32, in its shape. Raises UserError where its number format is not known."""
        tensor = self.tensors[name]
        gguf = package()
        kind = gguf.GGMLQuantizationType(tensor.kind)
        _, size = gguf.GGML_QUANT_SIZES[kind]
        data = np.memmap(self.path, mode="r", dtype=np.uint8, offset=tensor.start, shape=(tensor.size,))
        # The widest row is the last dimension; blocks of compressed numbers lie within a row.
        rows = np.asarray(data).reshape(-1, tensor.size // max(1, math.prod(tensor.shape[:-1])))
        try:
            found: npt.NDArray[np.float32] = gguf.dequantize(np.ascontiguousarray(rows), kind).astype(np.float32)
        except (NotImplementedError, ValueError):
            raise UserError(
                f"{self.path} keeps {name} in the number format {kind.name} ({size} bytes a block), which cannot be "
                "read: take a file in F16, Q8_0 or Q4_K."
            ) from None
        return found.reshape(tensor.shape)

    def check_digest(self) -> None:
        """Raises UserError where the file has our digest and its tensors another."""
        if DIGEST in self.settings:
            content = np.memmap(self.path, mode="r", dtype=np.uint8)
            parts = {name: content[tensor.start : tensor.start + tensor.size] for name, tensor in self.tensors.items()}
            if self.settings[DIGEST] != digest_of(parts):
                raise UserError(
                    f"{self.path} is damaged: its weights are not those that were written (wrong checksum); copy it anew."
                )


def digest_of(parts: Mapping[str, npt.NDArray[Any]]) -> str:
    """SHA-256, in hexadecimal, of the bytes of all tensors as they are in the file, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        digest.update(np.ascontiguousarray(parts[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def package() -> ModuleType:
    """The package `gguf`; UserError where it is not installed."""
    try:
        return importlib.import_module("gguf")
    except ImportError:
        raise UserError("GGUF files need the package gguf: `pip install 'headwater[gguf]'`.") from None


def read_gguf(path: Path) -> GGUFFile:
    """Reads the header of a GGUF file. Raises UserError where it is missing, no GGUF, cut off, or contradicts itself."""
    kinds = {int(kind): sizes for kind, sizes in package().GGML_QUANT_SIZES.items()}
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(content).file(path, kinds)
    except _Damaged as error:
        raise UserError(f"{path} is damaged or no whole GGUF file ({error}): copy it anew.") from None
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except (OSError, ValueError):  # a folder, or an empty file
        raise UserError(f"{path} is damaged or no whole GGUF file (it cannot be read): copy it anew.") from None


class _Reader:
    """Goes through a header from front to back and never past the end of the file."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.place = 0

    def file(self, path: Path, kinds: Mapping[int, tuple[int, int]]) -> GGUFFile:
        if self.take(4) != MAGIC:
            raise _Damaged("it does not begin with GGUF")
        version = self.number("I")
        if version not in _VERSIONS:
            raise _Damaged(f"its version is {version}, but only {_VERSIONS} are known")
        tensors, settings = self.number("Q"), self.number("Q")
        found = self.settings(settings)
        alignment = found.get("general.alignment", _ALIGNMENT)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise _Damaged("its alignment is no power of two")
        return GGUFFile(path, found, self.tensors(tensors, kinds, alignment))

    def settings(self, count: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self.text()
            if key in found:
                raise _Damaged(f"it says {key} twice")
            found[key] = self.value(self.number("I"))
        return found

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise _Damaged(f"a setting has the unknown type {kind}")
        return self.number(_SCALARS[kind])

    def array(self) -> Any:
        kind, count = self.number("I"), self.number("Q")
        if kind == _STRING:
            if count * 8 > self.left:
                raise _Damaged("a list is longer than the file")
            return [self.text() for _ in range(count)]
        if kind not in _SCALARS:
            raise _Damaged(f"a list has the unknown type {kind}")
        kind_of_number = np.dtype("<" + _SCALARS[kind])
        if count * kind_of_number.itemsize > self.left:
            raise _Damaged("a list is longer than the file")
        return np.frombuffer(self.take(count * kind_of_number.itemsize), kind_of_number)

    def tensors(self, count: int, kinds: Mapping[int, tuple[int, int]], alignment: int) -> dict[str, Tensor]:
        entries: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for _ in range(count):
            name, dimensions = self.text(), self.number("I")
            if dimensions > _MOST_DIMENSIONS or name in entries:
                raise _Damaged(f"the tensor {name[:80]!r} has {dimensions} dimensions, or is there twice")
            shape = tuple(self.number("Q") for _ in range(dimensions))[::-1]
            entries[name] = (shape, self.number("I"), self.number("Q"))
        first = -(-self.place // alignment) * alignment
        found = {name: self.tensor(name, entry, kinds, first) for name, entry in entries.items()}
        end = first
        for tensor in sorted(found.values(), key=lambda tensor: tensor.start):
            if tensor.start < end:
                raise _Damaged("two tensors share their bytes")
            end = tensor.start + tensor.size
        return found

    def tensor(
        self, name: str, entry: tuple[tuple[int, ...], int, int], kinds: Mapping[int, tuple[int, int]], first: int
    ) -> Tensor:
        shape, kind, offset = entry
        if kind not in kinds:
            raise _Damaged(f"the tensor {name[:80]!r} has the unknown number format {kind}")
        block, size = kinds[kind]
        if not shape or 0 in shape or shape[-1] % block:
            raise _Damaged(f"the tensor {name[:80]!r} has the shape {shape}, which its number format does not allow")
        tensor = Tensor(shape, kind, first + offset, math.prod(shape) // block * size)
        if tensor.start + tensor.size > len(self.content):
            raise _Damaged(f"it ends within the tensor {name[:80]!r}")
        return tensor

    @property
    def left(self) -> int:
        return len(self.content) - self.place

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise _Damaged("it ends within its header")
        found = self.content[self.place : self.place + size]
        self.place += size
        return found

    def number(self, letter: str) -> Any:
        return struct.unpack("<" + letter, self.take(struct.calcsize("<" + letter)))[0]

    def text(self) -> str:
        try:
            return self.take(self.number("Q")).decode("utf-8")
        except UnicodeDecodeError:
            raise _Damaged("a text in it is no UTF-8") from None
