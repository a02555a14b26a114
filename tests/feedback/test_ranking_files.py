"""Rankings out of a file: what is stored, corrected, known, tied, and what is refused before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dialogues import lines
from headwater.errors import UserError
from headwater.feedback.ranking_files import import_rankings
from headwater.feedback.store.copying import copy_store, is_empty, last_word
from headwater.feedback.store.store import Store


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store with one task over three answers, one of them empty."""
    path = tmp_path / "feedback.db"
    with Store(path) as store:
        prompt = store.add_prompt([{"role": "user", "content": "Hi"}], source="prompts", split="train")
        answers = [
            store.add_response(prompt, text, model="0123", sampling={"run": "own", "stage": "sft", "round": 2})
            for text in ("Yes?", "", "No.")
        ]
        store.add_task("ranking", prompt, answers, shown=answers)
    return path


def ada(ranking: Any, **more: Any) -> dict[str, Any]:
    return {"annotator": "Ada", "task": 1, "ranking": ranking, **more}


def test_rankings_are_stored_corrected_and_known_again(place: Path, tmp_path: Path) -> None:
    with Store(place) as store:
        assert last_word(store) == ""
    file = lines(tmp_path / "r.jsonl", [ada([[1], [3, 2]]), {**ada([[3, 2, 1]]), "annotator": "Bo"}])
    said = import_rankings(str(place), file)
    assert said.startswith("2 rankings into")
    assert "2 new" in said
    assert "1 in which all answers tie" in said
    again = lines(tmp_path / "again.jsonl", [ada([[1], [2, 3]]), ada([[2], [1], [3]], note="thought better of it")])
    said = import_rankings(str(place), again)
    assert "0 new, 1 that contradict an earlier one of the same person and take its place, 1 known already" in said
    with Store(place) as store:
        assert last_word(store)
        found = {(ranking.annotator, str(ranking.groups)) for ranking in store.rankings("train")}
        assert found == {("Ada", "[[2], [1], [3]]"), ("Bo", "[[1, 2, 3]]")}
        assert {ranking.round for ranking in store.rankings("train")} == {2}
        assert len(store.judgements(superseded=True)) == 3
        assert store.problems() == []


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (ada([[1], [9]]), "line 2: The ranking names response 9, which is not among the answers"),
        (ada([[1], [1]]), "names response 1 twice"),
        (ada([]), "must be a list of groups"),
        (ada([[1], [2]], note=3), "`note` that is no text"),
        ({**ada([[1], [2]]), "task": 7}, "names the task 7, which the store does not have"),
        ({**ada([[1], [2]]), "task": True}, "names the task True"),
        ({"task": 1, "ranking": [[1], [2]]}, "does not say who judged"),
        ({**ada([[1], [2]]), "annotator": "simulated:me"}, "what is simulated is not brought in"),
    ],
)
def test_a_bad_line_is_refused_and_nothing_is_written(
    place: Path, tmp_path: Path, record: dict[str, Any], message: str
) -> None:
    file = lines(tmp_path / "r.jsonl", [ada([[1], [2, 3]]), record])
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        import_rankings(str(place), file)
    with Store(place) as store:
        assert store.judgements() == []


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no feedback store at"):
        import_rankings(str(tmp_path / "none.db"), lines(tmp_path / "r.jsonl", []))
    assert not (tmp_path / "none.db").exists()


def test_a_copy_has_the_same_rows_and_an_unbroken_diary(place: Path, tmp_path: Path) -> None:
    import_rankings(str(place), lines(tmp_path / "r.jsonl", [ada([[1], [3, 2]])]))
    with Store(place) as source, Store(tmp_path / "copy.db") as target:
        assert is_empty(target)
        copy_store(source, target)
        assert not is_empty(target)
        assert target.counts() == source.counts()
        assert target.problems() == []
        assert last_word(target) == last_word(source)
        assert list(target.rankings("train")) == list(source.rankings("train"))
