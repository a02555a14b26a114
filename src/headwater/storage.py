"""Files that survive a crash: a reader finds the old content or the new, never half of one.

The order is always the same: write to a temporary name, fsync, rename, fsync the folder. Checksums catch what a disk
changes later.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from headwater.errors import UserError

TEMPORARY = ".partial"
"""Ending of a name that is not finished yet."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_TEXTS = ("No space left on device", "database or disk is full", "Disk quota exceeded", "File too large")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Writes `content` (text as UTF-8) so that `path` holds all of it or what it held before, even after a power cut.

    Raises UserError where the disk is full; what was there stays, and the temporary file is removed.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if is_disk_full(error):
            raise disk_full(path) from error
        raise


def write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """JSON Lines, one record per line, as `write_atomically` writes them."""
    write_atomically(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file that `write_json_lines` wrote."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def fsync_file(path: Path) -> None:
    """Waits until the content of a file is on the disk."""
    _fsync(path, os.O_RDONLY)


def fsync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def fsync_tree(folder: Path) -> None:
    """Waits until every file and folder below `folder`, and itself, is on the disk."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            fsync_file(Path(parent, name))
        fsync_folder(Path(parent))


def finish_folder(work: Path, final: Path) -> None:
    """Makes the finished folder `work` appear as `final`, all or nothing. `final` must not exist, or be empty.

    Raises UserError where the disk is full; `work` stays, so that the same command can go on.
    """
    try:
        fsync_tree(work)
        os.rename(work, final)
        fsync_folder(final.parent)
        if work.parent != final.parent:
            fsync_folder(work.parent)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(final) from error
        raise


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(folder: Path, skip: Collection[str] = ()) -> dict[str, str]:
    """{path relative to `folder`, with "/": SHA-256} of every file below it but `skip`, sorted by path."""
    return {name: sha256_of(folder / name) for name in sorted(_files(folder)) if name not in skip}


def verify(folder: Path, expected: Mapping[str, str]) -> list[str]:
    """The paths of `expected` that are missing, unreadable, or hold something else than the checksum says; sorted."""
    return [name for name, checksum in sorted(expected.items()) if not _is_whole(folder / name, checksum)]


def remove_temporaries(folder: Path) -> None:
    """Removes the temporary files that a killed process left below `folder`."""
    for name in list(_files(folder)):
        path = folder / name
        if path.name.startswith(".") and path.name.endswith(TEMPORARY):
            path.unlink()


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an exception, or one that it came from, says that the disk or a quota is full.

    Libraries in C or Rust report it in words, without errno.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if isinstance(error, Exception) and any(text in str(error) for text in _FULL_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def disk_full(path: Path | str) -> UserError:
    """The sentence for a full disk."""
    return UserError(
        f"The disk is full, so {path} could not be written: free some space and give the same command again; "
        "nothing that was finished is lost."
    )


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent, name).relative_to(folder).as_posix()


def _is_whole(path: Path, checksum: str) -> bool:
    try:
        return sha256_of(path) == checksum
    except OSError:
        return False
