"""Reading single files out of an archive that a stranger made.

Nothing is ever extracted to a path that the archive chooses: the wanted members are read into memory by their exact
names. An archive with a path that leads out of it, a wanted member that is a link, or one larger than allowed is
refused.
"""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from headwater.errors import UserError

_DAMAGES = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


def read_zip(archive: Path, wanted: Collection[str], largest: int) -> dict[str, bytes]:
    """{name: content} of the wanted members of a zip file (a wheel is one). `largest`: bytes allowed per member.

    Raises UserError where the archive is damaged, unsafe, or lacks one of them.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            found: dict[str, bytes] = {}
            for member in opened.infolist():
                _refuse_unsafe(member.filename, archive.name)
                if member.filename in wanted:
                    if stat.S_ISLNK(member.external_attr >> 16) or member.is_dir():
                        raise _refused(archive.name, member.filename, "is not a plain file")
                    _refuse_large(member.file_size, member.filename, archive.name, largest)
                    with opened.open(member) as file:
                        found[member.filename] = _bounded(
                            file.read(largest + 1), member.filename, archive.name, largest
                        )
    except _DAMAGES as error:
        raise _damaged(archive.name, error) from None
    return _all_of(wanted, found, archive.name)


def read_tar(content: bytes, name: str, wanted: Collection[str], largest: int) -> dict[str, bytes]:
    """{name: content} of the wanted members of a (compressed) tar file held in memory; `name` stands in messages.

    Raises UserError as `read_zip`.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as opened:
            found: dict[str, bytes] = {}
            for member in opened:
                _refuse_unsafe(member.name, name)
                if member.name in wanted:
                    if not member.isreg():
                        raise _refused(name, member.name, "is not a plain file")
                    _refuse_large(member.size, member.name, name, largest)
                    file = opened.extractfile(member)
                    found[member.name] = _bounded(file.read(largest + 1) if file else b"", member.name, name, largest)
    except _DAMAGES as error:
        raise _damaged(name, error) from None
    return _all_of(wanted, found, name)


def _refuse_unsafe(member: str, archive: str) -> None:
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (len(member) > 1 and member[1] == ":"):
        raise _refused(archive, member, "leads out of the archive")


def _refuse_large(size: int, member: str, archive: str, largest: int) -> None:
    if size > largest:
        raise _refused(archive, member, f"is larger than the {largest:,} bytes allowed")


def _bounded(content: bytes, member: str, archive: str, largest: int) -> bytes:
    # The size written in the header may lie, so what was read is measured too.
    _refuse_large(len(content), member, archive, largest)
    return content


def _all_of(wanted: Collection[str], found: dict[str, bytes], archive: str) -> dict[str, bytes]:
    for name in wanted:
        if name not in found:
            raise UserError(f"The archive {archive} lacks `{name}`: delete the file and fetch it again.")
    return found


def _refused(archive: str, member: str, why: str) -> UserError:
    return UserError(
        f"The archive {archive} was refused, because its member `{member}` {why}: fetch it again from its source."
    )


def _damaged(archive: str, error: BaseException) -> UserError:
    why = next((line.rstrip(": ") for line in str(error).splitlines() if line), type(error).__name__)
    return UserError(f"The archive {archive} cannot be read ({why}): delete it and fetch it again.")
