"""Published ratings into the feedback store: each rating of a sentence is one judgement by an anonymous rater.

In such data the k-th rating of one sentence and the k-th of the next need not be the same person's. So all ratings
belong to one annotator row of role `anonymous`, which stands for all of them, and nothing is claimed about any single
rater. A label of a data set is treated alike, under a name that says that it is no person's known opinion.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import IntegrityError

from headwater.corpus.rated import RatedSentence
from headwater.errors import UserError
from headwater.feedback.annotator_names import ANONYMOUS
from headwater.feedback.annotator_rows import anonymous_rater
from headwater.feedback.store.store import Store

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
