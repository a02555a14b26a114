"""The store keeps what it acknowledged, once, unchanged, and notices when somebody else changed it."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from headwater.errors import UserError
from headwater.feedback.judgements import Groups, Judgement
from headwater.feedback.store import events
from headwater.feedback.store.checks import AlreadyJudged
from headwater.feedback.store.schema import ANNOTATOR, EVENT
from headwater.feedback.store.store import Store


def weak_orders(items: list[int]) -> list[Groups]:
    """Every ranking with ties of all the items: 75 of 4."""
    if not items:
        return [[]]
    found = []
    for size in range(1, len(items) + 1):
        for top in itertools.combinations(items, size):
            rest = [item for item in items if item not in top]
            found += [[list(top), *below] for below in weak_orders(rest)]
    return found


def test_every_ranking_of_four_with_ties_comes_back(scene) -> None:
    expected = weak_orders(scene.answers)
    assert len(expected) == 75
    # Ties in any spelling, and rankings that leave answers out, are kept as they were said too.
    expected += [[list(order)] for order in itertools.permutations(scene.answers)]
    expected += [[[i] for i in order] for n in (1, 2, 3) for order in itertools.permutations(scene.answers, n)]
    for number, groups in enumerate(expected):
        scene.store.judge(scene.ranking(str(number), groups))
    assert [row["ranking"] for row in scene.store.judgements("ranking")] == expected
    read = list(scene.store.rankings("train"))
    assert [ranking.groups for ranking in read] == expected
    assert not any(ranking.derived for ranking in read)
    assert {ranking.annotator for ranking in read} == {"Ada"}
    assert read[0].responses == {id_: f"answer {i}" for i, id_ in enumerate(scene.answers)}
    assert read[0].conversation == [{"role": "user", "content": "写一行影评。"}]
    assert list(scene.store.rankings("judge")) == []


def test_a_repeated_request_is_stored_once(scene) -> None:
    said = scene.ranking("same", [[scene.answers[1]], [scene.answers[0]]], milliseconds=900)
    first = scene.store.judge(said)
    assert scene.store.judge(replace(said, milliseconds=1000)) == first
    assert scene.store.counts()["judgement"] == 1
    other = replace(said, ranking=[[scene.answers[0]], [scene.answers[1]]])
    with pytest.raises(UserError, match="stands for another judgement"):
        scene.store.judge(replace(other, annotator=scene.store.add_annotator("Bo")))
    with pytest.raises(AlreadyJudged) as refused:  # two windows that went on from one draft
        scene.store.judge(other)
    assert refused.value.earlier == first
    second = scene.store.judge(replace(other, client_id="new", supersedes=first))
    with pytest.raises(AlreadyJudged) as refused:
        scene.store.judge(other)
    assert refused.value.earlier == second


def test_a_repeated_request_from_many_threads_is_stored_once(scene) -> None:
    said = [scene.ranking(f"client {i % 5}", [[scene.answers[i % 5 % 4]]]) for i in range(25)]
    with ThreadPoolExecutor(5) as pool:
        ids = list(pool.map(scene.store.judge, said))
    assert scene.store.counts()["judgement"] == 5
    assert all(ids[i] == ids[i % 5] for i in range(25))
    assert scene.store.problems() == []


def test_a_correction_supersedes(scene) -> None:
    a, b = scene.answers[:2]
    first = scene.store.judge(scene.ranking("1", [[a], [b]]))
    second = scene.store.judge(scene.ranking("2", [[b], [a]], supersedes=first))
    assert [row["id"] for row in scene.store.judgements()] == [second]
    assert [row["id"] for row in scene.store.judgements(superseded=True)] == [first, second]
    assert [ranking.groups for ranking in scene.store.rankings("train")] == [[[b], [a]]]
    third = scene.store.judge(scene.ranking("3", [[b, a]], supersedes=second))
    with pytest.raises(AlreadyJudged) as refused:
        scene.store.judge(scene.ranking("4", [[a]], supersedes=first))
    assert refused.value.earlier == third
    other = scene.store.add_annotator("Bo")
    with pytest.raises(UserError, match="only one's own"):
        scene.store.judge(scene.ranking("4", [[a]], supersedes=second, annotator=other))
    with pytest.raises(UserError, match="no judgement 99"):
        scene.store.judge(scene.ranking("5", [[a]], supersedes=99))


def test_a_corrected_rating_leaves_the_mean(scene) -> None:
    def rating(client: str, value: float, old: int | None = None) -> int:
        said = scene.ranking(client, None, kind="rating", response=scene.answers[0], axes={"fluent": value})
        return scene.store.judge(replace(said, supersedes=old))

    rating("1", 1.0)
    rating("2", 3.0, old=rating("3", -4.0))
    (rated,) = scene.store.mean_ratings("train", "films")
    assert (rated.response, rated.prompt, rated.mean) == (scene.answers[0], scene.prompt, 2.0)
    assert [row["axes"] for row in scene.store.judgements() if row["id"] in rated.judgements] == [
        {"fluent": 1},
        {"fluent": 3},
    ]


def test_ratings_on_several_axes_need_a_name(scene) -> None:
    for client, axes in (("1", {"fluent": 1}), ("2", {"honest": 3, "fluent": 2})):
        scene.store.judge(scene.ranking(client, None, kind="rating", response=scene.answers[0], axes=axes))
    with pytest.raises(UserError, match="fluent, honest"):
        scene.store.mean_ratings()
    assert [rated.mean for rated in scene.store.mean_ratings(axis="fluent")] == [1.5]


def test_a_task_limits_what_may_be_ranked(scene) -> None:
    a, b, c, _ = scene.answers
    task = scene.store.add_task("ranking", scene.prompt, [a, b], shown=[b, a])
    with pytest.raises(UserError, match=f"response {c}"):
        scene.store.judge(scene.ranking("1", [[a], [c]], task=task))
    scene.store.judge(scene.ranking("1", [[a], [b]], task=task))
    with pytest.raises(UserError, match="shown"):
        scene.store.add_task("ranking", scene.prompt, [a, b], shown=[a])
    with pytest.raises(UserError, match="no answer to prompt"):
        scene.store.add_task("ranking", scene.prompt, [a, 99], shown=[a, 99])


def test_an_answer_to_another_prompt_cannot_be_ranked(scene) -> None:
    other = scene.store.add_prompt([{"role": "user", "content": "Another"}], source="films", split="judge")
    stranger = scene.store.add_response(other, "text")
    with pytest.raises(UserError, match=f"response {stranger}"):
        scene.store.judge(scene.ranking("1", [[scene.answers[0]], [stranger]]))
    assert scene.store.counts()["judgement"] == 0
    assert scene.store.problems() == []


def test_people(scene) -> None:
    with pytest.raises(UserError, match="already"):
        scene.store.add_annotator("Ada")
    with pytest.raises(UserError, match="simulated"):
        scene.store.add_annotator("robot", role="simulated")
    with pytest.raises(UserError, match="no role"):
        scene.store.add_annotator("Cy", role="king")
    robot = scene.store.add_annotator("simulated:length", role="simulated")
    scene.store.judge(scene.ranking("1", [[scene.answers[0]]], annotator=robot))
    assert [ranking.annotator for ranking in scene.store.rankings("train")] == ["simulated:length"]


def test_tokens_are_not_kept(tmp_path: Path) -> None:
    with Store(tmp_path / "feedback.db") as store:
        store.add_annotator("Ada", token="open sesame")
        store.seal()
    assert b"open sesame" not in (tmp_path / "feedback.db").read_bytes()


TAMPERING = {
    "a changed judgement": "UPDATE judgement SET ranking = '[[2],[1]]' WHERE id = 1",
    "a removed judgement": "DELETE FROM judgement WHERE id = 2",
    "a slipped-in prompt": "INSERT INTO prompt VALUES (99, '[]', 'films', 'train')",
    "a changed split": "UPDATE prompt SET split = 'judge'",
    "a changed answer": "UPDATE response SET text = 'praise' WHERE id = 3",
    "a changed entry": "UPDATE event SET made = made + 1 WHERE sequence = 3",
    "a removed entry": "DELETE FROM event WHERE sequence = 3",
    "a removed last entry": "DELETE FROM event WHERE sequence = (SELECT max(sequence) FROM event)",
}


@pytest.mark.parametrize("what", TAMPERING)
def test_tampering_is_found(tmp_path: Path, what: str) -> None:
    path = tmp_path / "feedback.db"
    with Store(path) as store:
        prompt = store.add_prompt([{"role": "user", "content": "?"}], source="films", split="train")
        a, b = (store.add_response(prompt, name) for name in ("one", "two"))
        store.add_response(prompt, "three")
        ada = store.add_annotator("Ada")
        for i in range(2):
            store.judge(Judgement(kind="pair", client_id=str(i), annotator=ada, prompt=prompt, ranking=[[a], [b]]))
        assert store.problems() == []
    with sqlite3.connect(path) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (trigger,) in triggers:
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(TAMPERING[what])
    with Store(path) as store:
        assert store.problems()


def test_history_cannot_be_rewritten_under_the_same_last_hash(tmp_path: Path) -> None:
    """An entry that was rewritten with a fitting hash of its own, and linked again, still shows in the next one."""
    path = tmp_path / "feedback.db"
    with Store(path) as store:
        for name in ("Ada", "Bo", "Cy"):
            store.add_annotator(name)
        with store.reading() as connection:
            entry = dict(connection.execute(select(EVENT).where(EVENT.c.sequence == 2)).mappings().one())
    forged = events.entry_hash({**entry, "made": entry["made"] + 1})
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER event_no_update")
        connection.execute("UPDATE event SET made = made + 1, hash = ? WHERE sequence = 2", (forged,))
        connection.execute("UPDATE event SET previous = ? WHERE sequence = 3", (forged,))
    with Store(path) as store:
        assert store.problems() == ["Entry 3 of the diary does not follow from the one before."]


def test_nothing_is_appended_to_a_changed_diary(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    with Store(path) as store:
        store.add_annotator("Ada")
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER event_no_update")
        connection.execute("UPDATE event SET kind = 'other'")
    with Store(path) as store, pytest.raises(UserError, match="diary was changed"):
        store.add_annotator("Bo")


def test_read_only_leaves_the_folder_alone(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    with Store(path) as store:
        store.add_annotator("Ada")
        store.seal()
    before = path.read_bytes()
    with Store(path, read_only=True) as store:
        assert store.counts()["annotator"] == 1
        assert [found.name for found in tmp_path.iterdir()] == ["feedback.db"]
        with pytest.raises(UserError, match="readonly"):
            store.add_annotator("Bo")
    assert path.read_bytes() == before


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    with Store(path) as store:
        store.add_annotator("Ada")
        store.seal()
    data = bytearray(path.read_bytes())
    data[len(data) // 4 :] = bytes(len(data) - len(data) // 4)
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged"), Store(path, read_only=True) as store:
        store.counts()


def test_a_full_disk_loses_nothing_acknowledged(tmp_path: Path) -> None:
    with Store(tmp_path / "feedback.db") as store:
        store.add_annotator("Ada")
        rows = [{"conversation": [{"role": "user", "content": "x" * 5000}], "source": "s", "split": "train"}] * 500
        with pytest.raises(UserError, match="full"):
            write_on_a_full_disk(store, rows)
        assert store.counts()["prompt"] == 0
        assert store.problems() == []
        store.add_annotator("Bo")


def write_on_a_full_disk(store: Store, rows: list[dict[str, object]]) -> None:
    with store.writing() as writer:
        writer.connection.exec_driver_sql("PRAGMA max_page_count=1")  # SQLite's own way to say that the disk is full
        writer.insert("prompt", rows, "prompts")


def test_a_half_written_transaction_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    with Store(path) as store:
        with store.writing() as writer:
            writer.insert("annotator", [{"name": "Ada", "role": "annotator"}], "annotator")
            for ending in ("", "-wal"):  # what a power cut at this moment leaves
                shutil.copy(f"{path}{ending}", tmp_path / f"cut.db{ending}")
        assert store.counts()["annotator"] == 1
    with Store(tmp_path / "cut.db") as store:
        assert store.counts()["annotator"] == 0
        assert store.problems() == []


def test_who_reads_sees_one_state_whoever_writes_meanwhile(store: Store) -> None:
    store.add_annotator("Ada")
    names = select(ANNOTATOR.c.name)
    with store.reading() as connection:
        assert connection.execute(names).scalars().all() == ["Ada"]
        store.add_annotator("Bo")
        assert connection.execute(names).scalars().all() == ["Ada"]
    with store.reading() as connection:
        assert sorted(connection.execute(names).scalars()) == ["Ada", "Bo"]
    store.add_annotator("Cy")
    assert store.problems() == []


def test_the_store_of_a_finished_run_stays_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "feedback.db"
    with Store(place) as store:
        store.add_annotator("Ada")
        store.seal()
    (tmp_path / "manifest.json").write_text("{}")
    before = place.read_bytes()
    with pytest.raises(UserError, match="a finished run learnt from"):
        Store(place)
    with Store(place, read_only=True) as store:
        assert store.counts()["annotator"] == 1
    assert place.read_bytes() == before
