"""Derived rankings follow the means, mix the sentences, and are told apart from what people said."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.rated import RatedSentence
from headwater.errors import UserError
from headwater.feedback.derive import derive_rankings, group_by_mean, mix
from headwater.feedback.ratings import import_ratings
from headwater.feedback.store.store import Store


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=12), st.sampled_from([0, 0.1, 0.5, 2.0]))
def test_groups_are_apart_and_narrow(tenths: list[int], tie: float) -> None:
    means = {i: value / 10 for i, value in enumerate(tenths)}
    groups = group_by_mean(list(means.items()), tie)
    assert sorted(i for group in groups for i in group) == list(means)
    for group in groups:
        width = max(means[i] for i in group) - min(means[i] for i in group)
        assert width == 0 or width < tie - 1e-9
    for above, below in pairwise(groups):
        assert min(means[i] for i in above) > max(means[i] for i in below)
        assert round(max(means[i] for i in above) - max(means[i] for i in below), 9) >= tie


def test_small_steps_do_not_chain() -> None:
    assert group_by_mean([(1, 0.0), (2, 0.08), (3, 0.16), (4, 0.24)], 0.1) == [[3, 4], [1, 2]]
    assert group_by_mean([(1, 2.2), (2, 2.3)], 0.1) == [[2], [1]]  # 2.3 - 2.2 < 0.1 in binary
    assert group_by_mean([(2, 1.0), (1, 1.0)], 0.0) == [[1, 2]]


@given(st.integers(0, 60), st.integers(2, 9), st.integers(0, 5))
def test_every_item_is_in_exactly_one_set(n: int, answers: int, seed: int) -> None:
    sets = mix(range(n), answers, np.random.default_rng(seed))
    flat = [i for chosen in sets for i in chosen]
    assert sorted(flat) == (list(range(n)) if n >= 2 else [])
    assert all(2 <= len(chosen) <= answers + 1 for chosen in sets)


def test_sets_span_the_scale() -> None:
    for chosen in mix(range(80), 8, np.random.default_rng(0)):
        assert [i // 10 for i in chosen] == list(range(8))


def rated(n: int) -> list[RatedSentence]:
    generator = np.random.default_rng(3)
    return [
        RatedSentence(
            f"s{i}", f"text {i}", "films" if i % 4 else "shops", "train" if i % 5 else "judge",
            [int(value) for value in generator.integers(-4, 5, size=15)],
        )
        for i in range(n)
    ]  # fmt: skip


def derive(store: Store, seed: int = 1) -> int:
    return derive_rankings(store, answers=4, rankings_per_sentence=2, tie=0.1, seed=seed, made=0)


@pytest.fixture
def filled(store: Store) -> Store:
    import_ratings(store, rated(120), {"films": "Write.", "shops": "Write."})
    return store


def test_rankings_point_to_their_ratings(filled: Store) -> None:
    made = derive(filled)
    found = list(filled.rankings("train"))
    assert len(found) == made == filled.counts()["derived_ranking"]
    assert all(ranking.derived and ranking.annotator is None for ranking in found)
    assert {row["kind"] for row in filled.judgements()} == {"rating"}
    assert list(filled.rankings("judge")) == []
    assert filled.problems() == []
    by_response = {r.response: r for r in filled.mean_ratings("train")}
    times = Counter(response for ranking in found for response in ranking.responses)
    assert set(times) == set(by_response)
    assert set(times.values()) == {2}
    for ranking in found:
        assert {by_response[i].prompt for i in ranking.responses} == {ranking.prompt}
        assert ranking.means == {i: by_response[i].mean for i in ranking.responses}
        assert ranking.groups == group_by_mean(list(ranking.means.items()), 0.1)
    with filled.reading() as connection:
        rows = connection.exec_driver_sql("SELECT ranking, judgements, settings FROM derived_ranking").all()
    for ranking_text, judgements, settings in rows:
        ids = [i for group in json.loads(ranking_text) for i in group]
        assert json.loads(judgements) == sorted(j for i in ids for j in by_response[i].judgements)
        assert json.loads(settings)["tie"] == 0.1


def test_one_source_at_a_time(filled: Store) -> None:
    derive(filled)
    films = list(filled.rankings("train", "films"))
    shops = list(filled.rankings("train", "shops"))
    assert films
    assert shops
    assert [*films, *shops] == list(filled.rankings("train"))


def test_the_seed_decides(filled: Store) -> None:
    half = derive(filled, seed=1)
    derive(filled, seed=1)
    derive(filled, seed=2)
    groups = [ranking.groups for ranking in filled.rankings("train")]
    assert groups[:half] == groups[half : 2 * half] != groups[2 * half :]


def test_without_ratings_it_says_so(store: Store) -> None:
    with pytest.raises(UserError, match="no ratings"):
        derive(store)
