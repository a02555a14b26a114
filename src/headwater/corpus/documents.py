"""Where documents come from: sample sets and folders of the user's own texts.

A file or record that cannot be used is quarantined: reported with its place and reason, counted, and passed over.
Names that begin with a dot (.git, .DS_Store) are not looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from headwater.corpus.rated import REVIEWS_FILE
from headwater.corpus.readers import READERS, Fault
from headwater.corpus.samples import RATED
from headwater.corpus.settings import SourceSettings
from headwater.errors import UserError
from headwater.storage import sha256_of

Quarantine = Callable[[str, str, str], None]
"""Called with (source, place, reason) for everything that cannot be read."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text on its way from a source to a shard."""

    id: str
    text: str
    source: str
    kind: str
    licence: str
    language: str = ""
    split: str = ""
    """"train" or "heldout", once it is decided."""


def names_of_sources(sources: Sequence[SourceSettings]) -> list[tuple[str, ...]]:
    """The names under which each source's documents are counted: a sample set's own, a folder's last part."""
    names: list[tuple[str, ...]] = []
    used: Counter[str] = Counter()
    for source in sources:
        if source.samples in RATED:
            names.append(RATED[source.samples].sources)
            continue
        name = source.samples or Path(source.folder or "").resolve().name
        used[name] += 1
        names.append((name if used[name] == 1 else f"{name}-{used[name]}",))
    return names


def read_sources(
    sources: Sequence[SourceSettings], samples: Path, limit: int | None, quarantine: Quarantine
) -> Iterator[tuple[SourceSettings, Document]]:
    """Every document of every source, in order, beside its source's settings.

    samples: folder of the samples stage. limit: most documents per source. Of the review sentences only the training
    share is read: what is held out never gets in. Raises UserError where a source names nothing, or a folder is
    missing.
    """
    for source, names in zip(sources, names_of_sources(sources), strict=True):
        if (source.samples is None) == (source.folder is None):
            raise UserError("A source in corpus.sources needs either `samples` or `folder`: give one of the two.")
        if source.samples is not None:
            documents = _read_samples(source, samples)
        else:
            documents = read_folder(Path(source.folder or ""), names[0], source.kind, source.licence, quarantine)
        for document in islice(documents, limit):
            yield source, document


def _read_samples(source: SourceSettings, samples: Path) -> Iterator[Document]:
    path = samples / (REVIEWS_FILE if source.samples in RATED else f"{source.samples}.jsonl")
    try:
        lines = path.open(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"The sample set {source.samples} is not at {path}: run the samples stage of this recipe first."
        ) from None
    with lines:
        for line in lines:
            record = json.loads(line)
            if record.get("share", "train") == "train":
                yield Document(record["id"], record["text"], record["source"], source.kind, record["licence"])


def read_folder(folder: Path, source: str, kind: str, licence: str, quarantine: Quarantine) -> Iterator[Document]:
    """The documents of a folder and the folders in it, by path; a document's id is its path and, where a file holds
    many, its number in it. Raises UserError where there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: mend `folder` in corpus.sources.")
    for path in _files(folder):
        place = _name(path, folder)
        if path.exists() and not path.is_file():
            quarantine(source, place, "a link to a folder, not followed" if path.is_dir() else "not a regular file")
            continue
        reader = READERS.get(_ending(path))
        if reader is None:
            quarantine(source, place, f"no reader for {_ending(path) or 'files without ending'}")
            continue
        try:
            for number, text, own_licence in reader(
                path, lambda where, reason: quarantine(source, where, reason), place
            ):
                name = place if number is None else f"{place}#{number}"
                yield Document(f"{source}/{name}", text, source, kind, own_licence or licence)
        except Fault as fault:
            quarantine(source, place, str(fault))


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of the files that `read_folder` reads."""
    digest = hashlib.sha256()
    for path in _files(folder):
        try:
            content = sha256_of(path) if path.is_file() else "no file"
        except OSError:
            content = "cannot be read"
        digest.update(f"{content}  {_name(path, folder)}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """Every file and link below a folder, in the order of the names, whatever the file system's order is."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        linked = [name for name in folders if Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in sorted([*names, *linked]) if not name.startswith("."))


def _name(path: Path, folder: Path) -> str:
    """A file's path in its folder; bytes of a name that are no UTF-8 are written as \\xE9."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def _ending(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return "".join(suffixes) if suffixes[-1:] in ([".gz"], [".zst"]) else "".join(suffixes[-1:])
