"""One's own exports may come back: they change nothing, whoever said what is in them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.feedback.annotator_names import ANONYMOUS
from headwater.feedback.duplicates import orders
from headwater.feedback.formats.exports import export
from headwater.feedback.importing import import_file
from headwater.feedback.judgements import Groups, Judgement, Verdict
from headwater.feedback.queue.queue import Queue
from headwater.feedback.store.store import Store


@pytest.fixture
def judged(store: Store) -> Store:
    """What two people, one of the unknown, and a model say: in tasks and without, corrected and not, with equal texts."""
    prompt = store.add_prompt([{"role": "user", "content": "写一行影评。"}], source="films", split="train")
    texts = ("好", "bad", "so so", "so so")
    a, b, c, d = (store.add_response(prompt, text, model=f"m{place}") for place, text in enumerate(texts))
    task = store.add_task("ranking", prompt, [a, b, c, d], shown=[a, b, c, d], wanted=2)
    pair = store.add_task("pair", prompt, [a, b], shown=[b, a])
    queue = Queue(store)
    ada, bo = store.add_annotator("Ada"), store.add_annotator("Bo")
    first = queue.judge(ada, task, "client 1", Verdict(ranking=[[b], [a], [c, d]]))
    queue.judge(ada, task, "client 2", Verdict(ranking=[[a], [c, d], [b]], edit="极好", edit_of=a), supersedes=first)
    queue.judge(bo, task, "client 3", Verdict(ranking=[[b], [c]]))
    queue.judge(bo, pair, "client 4", Verdict(ranking=[[b], [a]], strength=2.0))
    many = store.add_annotator(ANONYMOUS, "anonymous")
    robot = store.add_annotator("simulated:lexicon", "simulated")
    for number, (person, groups) in enumerate(((many, [[a], [b], [c]]), (robot, [[c], [a, b]]))):
        store.judge(
            Judgement(kind="ranking", client_id=f"said {number}", annotator=person, prompt=prompt, ranking=groups)
        )
    store.judge(Judgement(kind="demonstration", client_id="own", annotator=many, prompt=prompt, edit="还行"))
    return store


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("layout", ["pairs", "rankings", "sft"])
def test_an_export_brought_back_changes_nothing(judged: Store, tmp_path: Path, layout: str, ending: str) -> None:
    path = tmp_path / f"own.{ending}"
    lines = export(judged, path, layout, "train")
    assert lines > 1
    before = judged.counts()
    for _ in range(2):
        assert "0 " in import_file(judged, path)
        assert judged.counts() == before
    assert judged.problems() == []


@pytest.mark.parametrize("layout", ["pairs", "rankings"])
def test_an_export_from_before_a_correction_does_not_undo_it(store: Store, tmp_path: Path, layout: str) -> None:
    prompt = store.add_prompt([{"role": "user", "content": "Hi"}], source="mine", split="train")
    answers = [store.add_response(prompt, text, model="m") for text in ("Hello", "No")]
    task = store.add_task("ranking", prompt, answers, shown=answers)
    ada, queue = store.add_annotator("Ada"), Queue(store)
    first = queue.judge(ada, task, "client 1", Verdict(ranking=[[answers[0]], [answers[1]]]))
    export(store, tmp_path / "old.jsonl", layout, "train")
    queue.judge(ada, task, "client 2", Verdict(ranking=[[answers[1]], [answers[0]]]), supersedes=first)
    import_file(store, tmp_path / "old.jsonl")
    assert [each.groups for each in store.rankings("train")] == [[[answers[1]], [answers[0]]]]


def test_what_others_say_of_the_same_answers_comes_in(judged: Store, tmp_path: Path) -> None:
    path = tmp_path / "others.jsonl"
    export(judged, path, "rankings", "train")
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace('"Ada"', '"Eve"').replace(f'"{ANONYMOUS}"', "null").replace('"judgement": 5', '"judgement": 99'),
        "utf-8",
    )
    before = judged.counts()["judgement"]
    assert import_file(judged, path).startswith("2 rankings and pairs (3 stood")
    assert judged.counts()["judgement"] == before + 2


@given(st.permutations("abcd"), st.lists(st.booleans(), min_size=3, max_size=3), st.sets(st.sampled_from("abcd")))
def test_a_ranking_says_all_that_its_parts_say_and_nothing_else(
    letters: list[str], ties: list[bool], kept: set[str]
) -> None:
    groups: list[list[str]] = [[letters[0]]]
    for letter, tied in zip(letters[1:], ties, strict=True):
        if tied:
            groups[-1].append(letter)
        else:
            groups.append([letter])
    place = {letter: number for number, group in enumerate(groups) for letter in group}
    expected = {
        (one, other, int(place[one] < place[other]))
        for one, other in itertools.permutations("abcd", 2)
        if place[one] <= place[other]
    }
    assert orders(groups) == expected
    part = [own for group in groups if (own := [letter for letter in group if letter in kept])]
    assert orders(part) <= orders(groups)
    assert not orders(part[::-1]) <= orders(groups) or len(part) < 2


def test_groups_of_equal_texts_do_not_disturb() -> None:
    same: Groups | list[list[str]] = [["x"], ["x"], ["y"]]
    assert orders(same) == {("x", "x", 1), ("x", "y", 1)}  # type: ignore[arg-type]
