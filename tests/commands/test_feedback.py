"""`headwater feedback …` as a user types it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dialogues import lines
from headwater import cli
from headwater.feedback.judgements import Verdict
from headwater.feedback.people import find_by_token
from headwater.feedback.queue.queue import Queue
from headwater.feedback.store.store import Store


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A store with three tasks over two answers each."""
    path = tmp_path / "feedback.db"
    with Store(path) as store:
        for number in range(3):
            prompt = store.add_prompt([{"role": "user", "content": f"Hi {number}"}], source="prompts", split="train")
            answers = [store.add_response(prompt, text) for text in ("Yes?", "No.")]
            store.add_task("ranking", prompt, answers, shown=answers)
    return str(path)


@pytest.fixture
def headwater(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def call(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["headwater", "feedback", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.build()(list(map(str, ["feedback", *arguments])))
        said = capsys.readouterr()
        assert ended.value.code == code, said.err
        return (said.out if code == 0 else said.err).strip()

    return call


def test_people(place: str, headwater) -> None:  # type: ignore[no-untyped-def]
    token = headwater("people", "add", place, "Ada", "--role", "admin")
    with Store(place) as store:
        found = find_by_token(store, token)
    assert found is not None
    assert (found.name, found.role) == ("Ada", "admin")
    assert token not in headwater("people", "list", place)
    new = headwater("people", "token", place, "Ada")
    headwater("people", "disable", place, "Ada")
    assert "admin, disabled" in headwater("people", "list", place)
    headwater("people", "enable", place, "Ada")
    with Store(place) as store:
        assert find_by_token(store, token) is None
        assert find_by_token(store, new) is not None
    assert "no role of a person" in headwater("people", "add", place, "Bo", "--role", "king", code=2)
    assert "There is no feedback store at gone.db" in headwater("people", "list", "gone.db", code=2)
    assert not Path("gone.db").exists()


def test_rankings_of_tasks_come_in_by_lines_and_by_table(place: str, headwater, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = lines(tmp_path / "r.jsonl", [{"annotator": "Ada", "task": 1, "ranking": [[1], [2]]}])
    assert "1 new" in headwater("import", place, file)
    table = tmp_path / "r.csv"
    table.write_text("annotator,task,ranking,note\nAda,1,1 > 2,\nBo,1,2>1,sure\nBo,2,3=4,\n", encoding="utf-8")
    assert "3 rankings into" in (said := headwater("import", place, table))
    assert "2 new, 1 known already, 1 in which all answers tie" in said
    assert "2 of 3 tasks are finished, with 2 of 3 judgements; 1 wait for an adjudicator." in headwater(
        "tasks", "show", place
    )
    headwater("tasks", "wanted", place, 2)
    assert "1 of 3 tasks are finished, with 3 of 6" in headwater("tasks", "show", place)
    for row, message in (
        ("Bo,2,3 or 4,", "line 2 has the ranking `3 or 4`"),
        ("Bo,x,3 > 4,", "names the task 'x'"),
        ("Bo,2,3 > 9,", "names response 9"),
        (",2,3 > 4,", "does not say who judged"),
    ):
        table.write_text(f"annotator,task,ranking,note\n{row}\n", encoding="utf-8")
        assert message in headwater("import", place, table, code=2)


def test_other_files_come_in_and_go_out(headwater, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    record = {
        "prompt": "Hi",
        "answers": ["A", "B", "C"],
        "ranking": [[3], [1, 2]],
        "annotator": "Ada",
        "split": "train",
    }
    place, out = tmp_path / "new.db", tmp_path / "out.jsonl"
    assert "1 rankings and pairs into" in headwater("import", place, lines(tmp_path / "r.jsonl", [record]))
    assert "2 lines of `pairs` of the split `train`" in headwater("export", place, out, "--split", "train")
    assert {json.loads(line)["chosen"][0]["content"] for line in out.read_text(encoding="utf-8").splitlines()} == {"C"}
    assert "1 lines of `rankings`" in headwater(
        "export", place, tmp_path / "out.parquet", "--split", "train", "--layout", "rankings"
    )
    assert "no split `judge`" in headwater("export", place, out, "--split", "judge", code=2)
    assert "--split" in headwater("export", place, out, code=2)


def test_a_store_that_is_made_is_told_and_none_is_left_by_a_bad_file(headwater, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    good = {"prompt": "Hi", "answers": ["A", "B"], "ranking": [[1], [2]]}
    place, bad = tmp_path / "new.db", lines(tmp_path / "bad.jsonl", [good, {**good, "ranking": [[3]]}])
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"prompt": 3}\n', encoding="utf-8")
    assert "line 2" in headwater("import", place, bad, code=2)
    assert "line 1" in headwater("tasks", "demonstrations", place, asked, code=2)
    assert list(tmp_path.glob("new.db*")) == []
    file, told = lines(tmp_path / "good.jsonl", [good]), f"There was no feedback store at {place}: it was made."
    assert told in headwater("import", place, file)
    assert told not in headwater("import", place, file)
    headwater("import", place, bad, code=2)
    with Store(place) as store:
        assert store.counts()["judgement"] == 1


def test_agreement_gold_and_time_are_told(place: str, headwater, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert "No task was ranked by two people" in headwater("agreement", place)
    gold = lines(tmp_path / "gold.jsonl", [{"task": 1, "ranking": [[2], [1]]}])
    assert headwater("tasks", "gold", place, gold).startswith("1 gold questions")
    for bad, message in (
        ({"task": 9, "ranking": [[2], [1]]}, "names the task 9"),
        ({"task": 2, "ranking": [[3, 4]]}, "in which some answer is better"),
    ):
        assert message in headwater("tasks", "gold", place, lines(tmp_path / "bad.jsonl", [bad]), code=2)
    headwater("tasks", "wanted", place, 2)
    with Store(place) as store:
        people = [store.add_annotator(name) for name in ("Ada", "Bo")]
        for person in people:
            for task in (1, 2, 3, 4):
                answers = [2 * task - 1, 2 * task] if task < 4 else [1, 2]
                order = (
                    [[answers[0]], [answers[1]]] if person == people[0] or task == 3 else [[answers[1]], [answers[0]]]
                )
                Queue(store).judge(person, task, f"{person} {task}", Verdict(ranking=order, milliseconds=4000))
    said = headwater("agreement", place)
    assert "Ada – Bo" in said
    assert "-0.33 [" in said  # one pair alike, two the other way round
    assert "Bo   1 of 1" in said
    assert "2 tasks wait for an adjudicator." in said


def test_prompts_to_be_answered(headwater, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "p.txt").write_text("One?\nTwo?\nOne?\n", encoding="utf-8")
    place = tmp_path / "new.db"
    assert headwater("tasks", "demonstrations", place, tmp_path / "p.txt", "--wanted", 2).startswith("2 prompts")
    assert headwater("tasks", "demonstrations", place, tmp_path / "p.txt").startswith("0 prompts")
    with Store(place) as store:
        given = Queue(store).next_task(store.add_annotator("Ada"))
    assert given is not None
    assert (given.kind, given.conversation) == ("demonstration", [{"role": "user", "content": "One?"}])


def test_a_recipe_is_still_the_stage(headwater, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert "There is no recipe at" in headwater(tmp_path / "gone.yaml", code=2)
    assert "There is no recipe at" in headwater("--run", "x", tmp_path / "gone.yaml", code=2)
    assert "import" in headwater("--help")
