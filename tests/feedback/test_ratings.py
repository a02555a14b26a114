"""Published ratings come in whole, once, and alike every time."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from headwater.corpus.rated import RatedSentence
from headwater.errors import UserError
from headwater.feedback.annotator_names import ANONYMOUS
from headwater.feedback.ratings import (
    AXIS,
    PUBLISHED,
    import_ratings,
)
from headwater.feedback.store.schema import RESPONSE
from headwater.feedback.store.store import Store

INSTRUCTIONS = {"film-reviews": "Write a line of a film review.", "shop-reviews": "Write a line of a product review."}


def sentences(n: int = 12) -> list[RatedSentence]:
    shares = ("train", "select", "judge", "prompt")
    return [
        RatedSentence(
            f"film-{i}",
            f"Sentence {i}.",
            "film-reviews" if i % 3 else "shop-reviews",
            shares[i % 4],
            [i % 9 - 4, 0, -1],
        )
        for i in range(n)
    ]


def answers(store: Store) -> dict[int, tuple[str, str]]:
    """{id: (its name in the data, text)}"""
    with store.reading() as connection:
        return {row.id: (row.origin, row.text) for row in connection.execute(select(RESPONSE))}


def test_each_rating_is_one_judgement_of_nobody_in_particular(store: Store) -> None:
    assert import_ratings(store, sentences(), INSTRUCTIONS) == 36
    counts = store.counts()
    assert (counts["judgement"], counts["response"], counts["prompt"], counts["annotator"]) == (36, 12, 8, 1)
    assert (counts["event"], counts["derived_ranking"]) == (4, 0)
    assert store.problems() == []
    said = store.judgements()
    assert {row["kind"] for row in said} == {"rating"}
    assert {row["made"] for row in said} == {PUBLISHED}
    rated = store.mean_ratings()
    assert [answers(store)[r.response] for r in rated] == [(s.id, s.text) for s in sentences()]
    assert [r.mean for r in rated] == [pytest.approx(sum(s.ratings) / len(s.ratings)) for s in sentences()]
    by_id = {row["id"]: row for row in said}
    assert all(by_id[j]["response_id"] == r.response for r in rated for j in r.judgements)
    given = [[by_id[j]["axes"][AXIS] for j in r.judgements] for r in rated]
    assert given == [s.ratings for s in sentences()]


def test_a_sentence_stays_in_its_share(store: Store) -> None:
    import_ratings(store, sentences(), INSTRUCTIONS)
    for share in ("train", "select", "judge", "prompt"):
        for source in INSTRUCTIONS:
            found = {answers(store)[rated.response][0] for rated in store.mean_ratings(share, source)}
            assert found == {s.id for s in sentences() if (s.share, s.source) == (share, source)}


def test_a_second_import_of_the_same_changes_nothing(store: Store) -> None:
    import_ratings(store, sentences(), INSTRUCTIONS)
    before = store.counts()
    with pytest.raises(UserError, match="already"):
        import_ratings(store, sentences(3), INSTRUCTIONS)
    assert store.counts() == before
    more = [RatedSentence("other-1", "New.", "film-reviews", "train", [1, 2])]
    assert import_ratings(store, more, INSTRUCTIONS) == 2
    assert store.counts()["annotator"] == 1
    assert store.problems() == []


def test_a_source_needs_its_instruction(store: Store) -> None:
    with pytest.raises(UserError, match=r"shop-reviews.*sft.instructions"):
        import_ratings(store, sentences(), {"film-reviews": "Write."})


def test_the_same_import_makes_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with Store(tmp_path / name) as store:
            import_ratings(store, sentences(200), INSTRUCTIONS)
            store.seal()
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_an_interrupted_import_leaves_nothing(store: Store) -> None:
    broken = [*sentences(5), RatedSentence("film-0", "Twice.", "film-reviews", "train", [1])]
    with pytest.raises(UserError, match="twice"):
        import_ratings(store, broken, INSTRUCTIONS)
    assert set(store.counts().values()) == {0}


def test_the_name_claims_no_person() -> None:
    assert "anonymous" in ANONYMOUS
