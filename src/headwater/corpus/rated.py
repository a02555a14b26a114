"""Rated sentences, as the samples stage keeps them: one per line, with all its ratings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.errors import UserError

REVIEWS_FILE = "reviews.jsonl"
"""In the folder of a run's samples, whichever rated set it learns from."""


@dataclass(frozen=True)
class RatedSentence:
    """One sentence with all its ratings. `share` says what it may be used for: train, select, judge or prompt."""

    id: str
    text: str
    source: str
    share: str
    ratings: list[float]

    @property
    def mean(self) -> float:
        return sum(self.ratings) / len(self.ratings)


def read_rated(path: Path, share: str | None = None) -> Iterator[RatedSentence]:
    """The sentences of one share, or of all, in the file's order: {"id", "text", "source", "share", "ratings"} per line.

    Raises UserError with the line where one is bad.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    sentence = parse_sentence(line, f"{path}, line {number}")
                    if share in (None, sentence.share):
                        yield sentence
    except FileNotFoundError:
        raise UserError(f"There are no rated sentences at {path}: add the source `samples: reviews`.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: convert the file and try again.") from None


def parse_sentence(line: str, place: str) -> RatedSentence:
    """One line of JSON, checked; `place` is named in the error."""
    try:
        data = json.loads(line)
    except ValueError:
        raise UserError(f"{place} is not valid JSON: mend or remove the line.") from None
    if not isinstance(data, dict):
        raise UserError(f"{place} is no JSON object: mend or remove the line.")
    for name in ("id", "text", "source", "share"):
        if not isinstance(data.get(name), str) or not data[name].strip():
            raise UserError(f"{place} has no `{name}`: mend or remove the line.")
    ratings = data.get("ratings")
    if not isinstance(ratings, list) or not ratings or not all(is_rating(value) for value in ratings):
        raise UserError(f"{place} has no list of numbers as `ratings`: mend or remove the line.")
    return RatedSentence(data["id"], data["text"], data["source"], data["share"], ratings)


def is_rating(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
