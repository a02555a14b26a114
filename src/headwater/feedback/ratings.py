"""Published ratings into the feedback store: each rating of a sentence is one judgement by an anonymous rater.

In such data the k-th rating of one sentence and the k-th of the next need not be the same person's. So all ratings
belong to one annotator row of role `anonymous`, which stands for all of them, and nothing is claimed about any single
rater. A label of a data set is treated alike, under a name that says that it is no person's known opinion.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import IntegrityError

from headwater.errors import UserError
from headwater.feedback.annotator_names import ANONYMOUS
from headwater.feedback.annotator_rows import anonymous_rater
from headwater.feedback.store import Store

AXIS = "sentiment"
"""What the published raters were asked: how positive a sentence is, from -4 to 4."""

PUBLISHED = 1_401_580_800
"""1 June 2014, when the ratings were published (ICWSM-14): the time of every imported judgement."""


@dataclass(frozen=True)
class PublishedSource:
    """What published judgements are in the store."""

    rater: str
    """Name of the one annotator that stands for whoever judged."""
    axis: str
    """What was asked."""
    made: int
    """When they were published, in seconds since 1970: the time of every imported judgement."""


PEOPLE = PublishedSource(ANONYMOUS, AXIS, PUBLISHED)
"""Ratings by people."""
LABELS = PublishedSource("labels of published data (no known person)", "label", 1_443_312_000)
"""Labels, 1 for praise and −1 for blame, published on 27 September 2015."""


@dataclass(frozen=True)
class RatedSentence:
    """One sentence with all its ratings; `share` becomes the split of its prompt."""

    id: str
    text: str
    source: str
    share: str
    ratings: list[float]


def read_sentences(path: Path) -> Iterator[RatedSentence]:
    """Reads {"id", "text", "source", "share", "ratings"} per line. Raises UserError with the line where one is bad."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield parse_sentence(line, f"{path}, line {number}")
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


def import_ratings(
    store: Store,
    sentences: Iterable[RatedSentence],
    instructions: Mapping[str, str],
    *,
    published: PublishedSource = PEOPLE,
) -> int:
    """Imports all sentences in one transaction and returns the number of ratings.

    One prompt per (source, share): its conversation is the source's instruction, its split the share. One response per
    sentence, written by a person. Raises UserError for a source without instruction, or where ratings are in the store.
    """
    sentences = list(sentences)
    groups = sorted({(sentence.source, sentence.share) for sentence in sentences})
    for source, _ in groups:
        if source not in instructions:
            raise UserError(f"There is no instruction for the source `{source}`: add it to `sft.instructions`.")
    prompts = [
        {"conversation": [{"role": "user", "content": instructions[source]}], "source": source, "split": share}
        for source, share in groups
    ]
    try:
        with store.writing(published.made) as writer:
            rater = anonymous_rater(writer, published.rater)
            prompt_of = dict(zip(groups, writer.insert("prompt", prompts, "import of prompts"), strict=True))
            answers = [{"prompt_id": prompt_of[s.source, s.share], "text": s.text, "origin": s.id} for s in sentences]
            ids = writer.insert("response", answers, "import of answers")
            rows = [
                row
                for response, answer, sentence in zip(ids, answers, sentences, strict=True)
                for row in rating_rows(response, answer["prompt_id"], rater, sentence, published.axis)
            ]
            writer.insert("judgement", rows, "import of ratings")
            return len(rows)
    except IntegrityError:
        raise UserError(f"Ratings are in {store.place} already, or an id stands twice: import each once.") from None


def rating_rows(
    response: int, prompt: Any, rater: int, sentence: RatedSentence, axis: str = AXIS
) -> Iterator[dict[str, Any]]:
    """The judgements of one sentence; their client ids follow from the sentence's id, so that none comes in twice."""
    for number, value in enumerate(sentence.ratings):
        yield {
            "kind": "rating",
            "prompt_id": prompt,
            "annotator_id": rater,
            "response_id": response,
            "axes": {axis: value},
            "client_id": f"{sentence.id}#{number}",
        }
