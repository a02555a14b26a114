"""Who judged, as files name them."""

from __future__ import annotations

from sqlalchemy import select

from headwater.feedback.annotator_names import ANONYMOUS, is_simulated
from headwater.feedback.annotator_rows import annotators, find_or_add
from headwater.feedback.comparisons import Rated
from headwater.feedback.store.schema import ANNOTATOR
from headwater.feedback.store.store import Store


def rows(store: Store) -> list[tuple[int, str, str]]:
    query = select(ANNOTATOR.c.id, ANNOTATOR.c.name, ANNOTATOR.c.role).order_by(ANNOTATOR.c.id)
    with store.reading() as connection:
        return [(row.id, row.name, row.role) for row in connection.execute(query)]


def test_each_annotator_is_added_once_in_the_role_that_the_name_says(store: Store) -> None:
    chief = store.add_annotator("Chief", "adjudicator")
    with store.writing() as writer:
        found = find_or_add(writer, ["simulated:length", "Bo", "Chief", "Bo", "Ada"])
    assert found == {"simulated:length": chief + 1, "Bo": chief + 2, "Chief": chief, "Ada": chief + 3}
    said = [
        (1, "Chief", "adjudicator"),
        (2, "simulated:length", "simulated"),
        (3, "Bo", "annotator"),
        (4, "Ada", "annotator"),
    ]
    assert rows(store) == said
    with store.writing() as writer:
        assert find_or_add(writer, ["Ada"]) == {"Ada": 4}
        assert find_or_add(writer, []) == {}
    assert rows(store) == said
    assert store.problems() == []


def test_who_is_not_named_is_the_row_that_stands_for_all_unknown(store: Store) -> None:
    rated = [Rated((), "a", {"good": 1}, "s", "p", annotator=name) for name in ("Bo", None, "Ada", "Bo")]
    with store.writing() as writer:
        assert annotators(writer, rated) == {None: 1, "Ada": 2, "Bo": 3}
        assert annotators(writer, rated[:1]) == {None: 1, "Bo": 3}
    assert rows(store) == [(1, ANONYMOUS, "anonymous"), (2, "Ada", "annotator"), (3, "Bo", "annotator")]
    assert not is_simulated(ANONYMOUS)
