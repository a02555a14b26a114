"""What counts as a new word of somebody's, for which a stage is run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from dialogues import lines
from headwater.corpus.rated import RatedSentence
from headwater.feedback.comparisons import Comparison, Turn
from headwater.feedback.importing import import_comparisons, import_file
from headwater.feedback.ratings import LABELS, PEOPLE, PublishedSource, import_ratings
from headwater.feedback.store.copying import NO_TIME, last_word
from headwater.feedback.store.store import Store

HI = {"prompt": "Hi", "annotator": "Ada"}


@pytest.mark.parametrize(
    "record",
    [
        {**HI, "answers": ["A", "B"], "ranking": [[1], [2]]},
        {"fields": {"prompt": "Hi", "answer": "A"}, "responses": {"honest": [{"value": 4, "user_id": "ada"}]}},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}]},
    ],
    ids=["comparisons", "ratings", "demonstrations"],
)
def test_what_somebody_imports_is_a_new_word(store: Store, tmp_path: Path, record: dict[str, object]) -> None:
    assert last_word(store) == ""
    import_file(store, lines(tmp_path / "first.jsonl", [record]))
    first = last_word(store)
    assert first
    import_file(store, lines(tmp_path / "again.jsonl", [record]))
    assert last_word(store) == first


@pytest.mark.parametrize("published", [PEOPLE, LABELS])
def test_the_ratings_that_a_stage_brings_are_none(store: Store, published: PublishedSource) -> None:
    import_ratings(
        store, [RatedSentence("1", "Good.", "films", "train", [1])], {"films": "Write."}, published=published
    )
    assert store.counts()["judgement"] == 1
    assert last_word(store) == ""


def test_the_comparisons_that_a_stage_brings_are_none(store: Store) -> None:
    asked = (Turn("user", "Hi"),)
    import_comparisons(store, [Comparison(asked, ("A", "B"), (0, 1), "own", "line 1", (None, None))], made=NO_TIME)
    assert last_word(store) == ""
