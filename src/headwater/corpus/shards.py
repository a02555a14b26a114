"""Token shards on disk: opened instantly at any size, read through the page cache, checked by checksum.

A folder holds `shard-000.bin`, `shard-001.bin` … (token ids, little-endian uint16 or uint32, one document after the
other, never cut between shards), `documents.npy` (one row per document: where it starts, how many tokens and UTF-8
bytes, which source) and `index.json` (everything else, with the SHA-256 of each file; written last, so that a folder
with an index is whole).
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.errors import UserError
from headwater.storage import sha256_of, write_atomically

INDEX = "index.json"
DOCUMENTS = "documents.npy"
_VERSION = 1
_ROW = np.dtype([("start", "<u8"), ("tokens", "<u4"), ("bytes", "<u4"), ("source", "<u2")])

Tokens = npt.NDArray[np.unsignedinteger[Any]]


class TokenisedDocument(NamedTuple):
    """One document on its way to disk."""

    ids: Sequence[int]
    """Token ids, control tokens included."""
    bytes: int
    """UTF-8 bytes of the text, without control tokens: the denominator of bits per byte."""
    source: str


def write_shards(
    folder: Path, documents: Iterable[TokenisedDocument], vocabulary: int, shard_tokens: int = 1 << 26
) -> dict[str, Any]:
    """Writes documents to `folder` and returns the index: {"tokens", "bytes", "documents", "dtype", "sources",
    "shards", …}.

    A shard is closed once it holds `shard_tokens` tokens. `vocabulary` chooses the width: uint16 up to 65,536 ids.
    Raises ValueError for an id outside the vocabulary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writer = _Writer(folder, np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4"), shard_tokens)
    rows: list[tuple[int, int, int, int]] = []
    sources: dict[str, int] = {}
    start = 0
    try:
        for document in documents:
            ids = np.asarray(document.ids, dtype=np.int64)
            if ids.size and not (ids.min() >= 0 and ids.max() < vocabulary):
                raise ValueError(f"a token id lies outside the vocabulary of {vocabulary}")
            writer.append(ids)
            rows.append((start, ids.size, document.bytes, sources.setdefault(document.source, len(sources))))
            start += ids.size
    finally:
        writer.close()
    np.save(folder / DOCUMENTS, np.array(rows, dtype=_ROW), allow_pickle=False)
    index = {
        "version": _VERSION,
        "dtype": writer.dtype.name,
        "vocabulary": vocabulary,
        "documents": len(rows),
        "tokens": start,
        "bytes": sum(row[2] for row in rows),
        "sources": list(sources),
        "shards": writer.finished,
        "document_table": {"file": DOCUMENTS, "sha256": sha256_of(folder / DOCUMENTS)},
    }
    write_atomically(folder / INDEX, json.dumps(index, indent=1, ensure_ascii=False) + "\n")
    return index


class _Writer:
    """Appends to the open shard file and starts the next one when it is full."""

    def __init__(self, folder: Path, dtype: np.dtype[Any], shard_tokens: int) -> None:
        self.folder = folder
        self.dtype = dtype
        self.shard_tokens = shard_tokens
        self.finished: list[dict[str, Any]] = []
        self._open()

    def _open(self) -> None:
        self.path = self.folder / f"shard-{len(self.finished):03d}.bin"
        self.file = open(self.path, "wb")  # noqa: SIM115  (stays open over many documents)
        self.hash = hashlib.sha256()
        self.tokens = 0

    def append(self, ids: npt.NDArray[np.int64]) -> None:
        if self.tokens >= self.shard_tokens:
            self.close()
            self._open()
        data = ids.astype(self.dtype).tobytes()
        self.file.write(data)
        self.hash.update(data)
        self.tokens += ids.size

    def close(self) -> None:
        self.file.close()
        self.finished.append({"file": self.path.name, "tokens": self.tokens, "sha256": self.hash.hexdigest()})


class Shards:
    """The documents of a shard folder, memory-mapped and read-only.

    Opening checks that every file is there and has its size; `verify` reads everything and compares checksums.
    Both raise UserError that names the file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = _read_index(folder)
        self.index = index
        self.tokens: int = index["tokens"]
        """Tokens of all documents, control tokens included."""
        self.bytes: int = index["bytes"]
        """UTF-8 bytes of all documents' texts."""
        self.vocabulary: int = index["vocabulary"]
        self.sources: list[str] = index["sources"]
        self._table = _open_table(folder, index)
        self._shards = [self._map(shard) for shard in index["shards"]]
        starts = np.cumsum([0, *(shard.size for shard in self._shards)])
        self._starts: list[int] = [int(start) for start in starts[:-1]]
        if int(starts[-1]) != self.tokens or len(self._table) != index["documents"]:
            raise _damaged(folder / INDEX, "its numbers do not fit the files beside it")

    def __len__(self) -> int:
        """Number of documents."""
        return len(self._table)

    def document(self, i: int) -> Tokens:
        """Token ids of document `i`, [tokens]: a read-only view of the file, not a copy."""
        start, tokens = int(self._table["start"][i]), int(self._table["tokens"][i])
        shard = self._shard_at(start)
        offset = start - self._starts[shard]
        return self._shards[shard][offset : offset + tokens]

    def bytes_of(self, i: int) -> int:
        """UTF-8 bytes of document `i`'s text."""
        return int(self._table["bytes"][i])

    def source_of(self, i: int) -> str:
        """The name of the source that document `i` comes from."""
        return self.sources[int(self._table["source"][i])]

    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of every document, [documents]."""
        return np.asarray(self._table["tokens"], dtype=np.int64)

    def read(self, start: int, stop: int) -> Tokens:
        """Tokens `start` … `stop` − 1 of the concatenation of all documents, [stop − start]."""
        if not 0 <= start <= stop <= self.tokens:
            raise IndexError(f"tokens {start} to {stop} of {self.tokens}")
        parts = []
        while start < stop:
            shard = self._shard_at(start)
            offset = start - self._starts[shard]
            part = self._shards[shard][offset : offset + stop - start]
            parts.append(part)
            start += part.size
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, dtype=self.index["dtype"])

    def verify(self) -> None:
        """Reads every file and compares its SHA-256 with the index; UserError names the first that differs."""
        for entry in [*self.index["shards"], self.index["document_table"]]:
            path = self.folder / entry["file"]
            if not path.is_file() or sha256_of(path) != entry["sha256"]:
                raise _damaged(path, "its content is not what was written (wrong checksum)")

    def _shard_at(self, position: int) -> int:
        # The last shard that starts at or before `position`; empty shards share a start, so the rightmost is the
        # filled one.
        return bisect_right(self._starts, position) - 1

    def _map(self, entry: dict[str, Any]) -> Tokens:
        path = self.folder / entry["file"]
        dtype = np.dtype(self.index["dtype"]).newbyteorder("<")
        expected = entry["tokens"] * dtype.itemsize
        size = path.stat().st_size if path.is_file() else None
        if size != expected:
            state = "is missing" if size is None else f"has {size:,} bytes instead of {expected:,}"
            raise _damaged(path, f"it {state}")
        return np.memmap(path, dtype=dtype, mode="r") if expected else np.empty(0, dtype=dtype)


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There are no token shards in {folder}: run the tokenizer stage first.") from None
    except (OSError, ValueError):
        raise _damaged(path, "it cannot be read") from None
    keys = ("version", "dtype", "vocabulary", "documents", "tokens", "bytes", "sources", "shards", "document_table")
    if not isinstance(index, dict) or any(key not in index for key in keys) or index["version"] != _VERSION:
        raise _damaged(path, "it is not an index of this version")
    return index


def _open_table(folder: Path, index: dict[str, Any]) -> npt.NDArray[np.void]:
    path = folder / index["document_table"]["file"]
    try:
        table: npt.NDArray[np.void] = np.load(path, mmap_mode="r" if index["documents"] else None, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise _damaged(path, "it is missing or cannot be read") from None
    if table.dtype != _ROW:
        raise _damaged(path, "it does not hold a table of documents")
    return table


def _damaged(path: Path, what: str) -> UserError:
    return UserError(
        f"The token file {path} is damaged: {what}; delete the run's tokenizer folder and run the stage again."
    )
