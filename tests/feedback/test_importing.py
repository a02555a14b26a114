"""Files of other programs and of one's own: what is read, what is left out, and which lines are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import UserError
from headwater.feedback.agreement.rater_agreement import agreement
from headwater.feedback.formats.layouts import read_dialogues
from headwater.feedback.importing import import_file
from headwater.feedback.queue.progress import progress
from headwater.feedback.store.store import Store


def written(path: Path, *records: Any) -> Path:
    """A JSON list, as the export buttons write it."""
    path.write_text(json.dumps(list(records), ensure_ascii=False), encoding="utf-8")
    return path


def groups_of(path: Path) -> list[tuple[str | None, list[list[str]]]]:
    return [
        (each.annotator, [[each.answers[place] for place in group] for group in each.groups()])
        for each in read_dialogues(path).comparisons
    ]


FIELDS = {"prompt": "Say hello", "response-1": "Hi", "response-2": "Hello", "response-3": "No"}


def ranks(*pairs: tuple[str, int | None]) -> list[dict[str, Any]]:
    return [{"value": name} | ({} if rank is None else {"rank": rank}) for name, rank in pairs]


def test_argilla(tmp_path: Path) -> None:
    tied = ranks(("response-2", 1), ("response-1", 2), ("response-3", 2))
    record = {
        "id": "1", "status": "completed", "fields": FIELDS, "metadata": {}, "suggestions": {}, "vectors": {},
        "responses": {
            "order": [{"value": tied, "user_id": "ada"}, {"value": ["response-3", "response-1"], "user_id": "bo"}],
            "response-3_honest": [{"value": 4, "user_id": "ada"}],
            "comment": [{"value": "fine", "user_id": "ada"}],
            "topics": [{"value": ["medicine", "law"], "user_id": "ada"}],
            "mixed": [{"value": ranks(("response-1", 1), ("none", 2)), "user_id": "ada"}],
            "spans": [{"value": [{"label": "bad", "start": 0, "end": 2}], "user_id": "ada"}],
        },
    }  # fmt: skip
    old = {
        "fields": {key: FIELDS[key] for key in ("prompt", "response-1", "response-2")},
        "responses": [
            {"user_id": "cy", "status": "submitted", "values": {
                "order": {"value": ranks(("response-1", 2), ("response-2", 1))}, "best": {"value": "tie"},
                "which": {"value": "response-1"},
            }},
            {"user_id": "bo", "status": "discarded", "values": {"order": {"value": tied[:2]}}},
        ],
    }  # fmt: skip
    path = written(tmp_path / "argilla.json", record, old)
    assert groups_of(path) == [
        ("ada", [["Hello"], ["Hi", "No"]]),
        ("bo", [["No"], ["Hi"]]),
        ("cy", [["Hello"], ["Hi"]]),
        ("cy", [["Hi", "Hello"]]),
        ("cy", [["Hi"], ["Hello"]]),
    ]
    found = read_dialogues(path)
    assert [(each.answer, each.axes, each.annotator) for each in found.ratings] == [("No", {"honest": 4.0}, "ada")]
    assert found.left_out == {"answers to other questions": 4, "responses that are 'discarded'": 1}
    with Store(tmp_path / "feedback.db") as store:
        said = import_file(store, path)
        assert said.startswith("5 rankings and pairs, 1 ratings into")
        assert "4 left out: answers to other questions" in said
        assert store.problems() == []
        assert {row["axes"]["honest"] for row in store.judgements("rating")} == {4.0}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("tie", [False, True])
def test_argillas_ranks_are_read_and_not_their_places(tmp_path: Path, order: tuple[int, ...], tie: bool) -> None:
    """Argilla once wrote every ranking as 1, 2, 3: the rank beside the name is what counts, wherever it stands."""
    names = list(FIELDS)[1:]
    given = [(names[place], 1 if tie and rank == 2 else rank) for rank, place in enumerate(order, start=1)]
    record = {"fields": FIELDS, "responses": {"q": [{"value": ranks(*sorted(given)), "user_id": "x"}]}}
    ((_, found),) = groups_of(written(tmp_path / "a.json", record))
    texts = [FIELDS[names[place]] for place in order]
    assert found == ([sorted(texts[:2], key=list(FIELDS.values()).index), texts[2:]] if tie else [[t] for t in texts])


def test_label_studio(tmp_path: Path) -> None:
    items = [{"id": "a", "title": "A"}, {"id": 2, "body": "B", "title": "x"}, {"id": "c", "text": "C"}]

    def task(data: dict[str, Any], *results: dict[str, Any], by: Any = 7, **more: Any) -> dict[str, Any]:
        return {"id": 1, "data": data, "annotations": [{"completed_by": by, "result": list(results), **more}]}

    def result(kind: str, value: Any, to: str = "items") -> dict[str, Any]:
        return {"from_name": "q", "to_name": to, "type": kind, "value": value}

    ranked = {"prompt": "Say a letter", "items": items}
    two = {"prompt": "Which?", "answer1": "One", "answer2": "Two"}
    path = written(
        tmp_path / "ls.json",
        task(ranked, result("ranker", {"ranker": ["c", "a", "2"]})),
        task(ranked, result("ranker", {"ranker": {"best first": ["2", "c"], "_": ["a"]}}), by={"email": "ada@x"}),
        task(ranked, result("ranker", {"ranker": {"good": ["2"], "bad": ["c"]}})),
        task(
            ranked,
            result("ranker", {"ranker": {"_": ["a", "c"]}}),
            result("ranker", {"ranker": {"best": None, "_": []}}),
        ),
        task(two, result("pairwise", {"selected": "right"}), result("choices", {"choices": ["left"]})),
        task(two, result("choices", {"choices": ["Tie"]}), result("choices", {"choices": ["rude"]}), by=None),
        task(two, result("rating", {"rating": 4}, "answer2"), result("textarea", {"text": ["x"]})),
        task(two, result("pairwise", {"selected": "left"}), was_cancelled=True),
    )
    assert groups_of(path) == [
        ("7", [["C"], ["A"], ["B"]]),
        ("ada@x", [["B"], ["C"]]),
        ("7", [["Two"], ["One"]]),
        ("7", [["One"], ["Two"]]),
        (None, [["One", "Two"]]),
    ]
    found = read_dialogues(path)
    assert [(each.answer, each.axes) for each in found.ratings] == [("Two", {"q": 4.0})]
    assert found.left_out == {
        "rankings in several buckets": 1, "rankings of nothing": 2, "choices of no answer": 1, "results of other kinds": 1,
        "cancelled annotations": 1,
    }  # fmt: skip


def test_tables_and_lines_of_ones_own(tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text(
        "annotator,prompt,answer_1,rank_1,answer_2,rank_2,answer_3,rank_3,strength\n"
        'Ada,"Two\nlines, one prompt",好,2,"B, b",1,C,2,\n'
        ",Hi,A,1,B,2,C,,1.5\n",
        encoding="utf-8-sig",
    )
    assert groups_of(table) == [("Ada", [["B, b"], ["好", "C"]]), (None, [["A"], ["B"]])]
    assert [each.strength for each in read_dialogues(table).comparisons] == [None, 1.5]
    lines = tmp_path / "own.jsonl"
    lines.write_text(
        json.dumps({"prompt": "Hi", "answers": ["A", "B", "C"], "ranking": [[3], [1]], "annotator": "Ada"}) + "\n"
        + json.dumps({"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}],
                      "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "B"}]}) + "\n"
        + json.dumps({"prompt": "Hi", "chosen": "A", "rejected": "B", "split": "select"}) + "\n",
        encoding="utf-8",
    )  # fmt: skip
    assert groups_of(lines) == [("Ada", [["C"], ["A"]]), (None, [["A"], ["B"]]), (None, [["A"], ["B"]])]
    assert [each.split for each in read_dialogues(lines).comparisons] == [None, None, "select"]


def test_what_several_people_compared_is_one_task_so_that_they_can_be_compared(tmp_path: Path) -> None:
    record = {"prompt": "Hi", "answers": ["A", "B", "C"]}
    path = tmp_path / "own.jsonl"
    path.write_text(
        "".join(
            json.dumps(record | {"annotator": name, "ranking": ranking}) + "\n"
            for name, ranking in (("Ada", [[1], [2], [3]]), ("Bo", [[3], [2], [1]]))
        ),
        encoding="utf-8",
    )
    with Store(tmp_path / "feedback.db") as store:
        import_file(store, path)
        assert (store.counts()["task"], store.counts()["response"]) == (1, 3)
        found = agreement(store, resamples=0)
        assert found.overall.tau is not None
        assert found.overall.tau.value == -1
        assert store.problems() == []


def ranked(path: Path, *said: tuple[str, list[str], list[list[int]]]) -> Path:
    """(annotator, answers, ranking) per line."""
    lines = [{"prompt": "Hi", "annotator": who, "answers": answers, "ranking": order} for who, answers, order in said]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_people_whose_files_come_one_after_the_other_share_a_task(store: Store, tmp_path: Path) -> None:
    import_file(store, ranked(tmp_path / "ada.jsonl", ("Ada", ["A", "B", "C"], [[1], [2], [3]])))
    bo = ranked(tmp_path / "bo.jsonl", ("Bo", ["C", "B", "A"], [[1], [2], [3]]))
    import_file(store, bo)
    assert "0 rankings" in import_file(store, bo)
    assert (store.counts()["task"], store.counts()["response"], store.counts()["judgement"]) == (1, 3, 2)
    found = agreement(store, resamples=0)
    assert found.overall.tau is not None
    assert found.overall.tau.value == -1
    assert (progress(store).wanted, progress(store).judged) == (2, 2)
    assert store.problems() == []


def test_another_order_by_the_same_person_corrects_theirs(store: Store, tmp_path: Path) -> None:
    answers = ["A", "B"]
    both = [("Ada", answers, [[1], [2]]), ("Ada", answers, [[2], [1]])]
    import_file(store, ranked(tmp_path / "both.jsonl", *both))
    (said,) = store.judgements()
    assert (said["ranking"], said["supersedes"]) == ([[2], [1]], 1)
    import_file(store, ranked(tmp_path / "later.jsonl", ("Ada", answers, [[1, 2]])))
    (said,) = store.judgements()
    assert (said["ranking"], said["supersedes"]) == ([[1, 2]], 2)
    assert store.counts()["task"] == progress(store).wanted == 1
    assert store.problems() == []


def test_equal_answers_to_another_prompt_are_another_task(store: Store, tmp_path: Path) -> None:
    import_file(store, ranked(tmp_path / "a.jsonl", ("Ada", ["A", "A"], [[2], [1]]), ("Ada", ["A", "B"], [[1], [2]])))
    assert [row["ranking"] for row in store.judgements()] == [[[2], [1]], [[3], [4]]]
    assert store.counts()["task"] == 2


ANSWERS = {"prompt": "Hi", "answers": ["A", "B"]}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**ANSWERS, "ranking": [[1], [3]]}, "line 2: The ranking names response 3"),
        ({**ANSWERS, "ranking": "1>2"}, "line 2: The ranking is '1>2'"),
        ({**ANSWERS, "answers": [], "ranking": [[1]]}, "`answers` in .*line 2 is no list"),
        ({**ANSWERS, "answers": [{"id": 1}], "ranking": [[1]]}, "line 2 has no text as `text`"),
        ({**ANSWERS, "answers": [{"id": "1", "text": "A"}], "ranking": [[1]]}, "line 2 has the id '1'"),
        ({**ANSWERS, "ranking": [[1], [2]], "strength": -1}, "line 2 has a `strength`"),
        ({**ANSWERS, "ranking": [[1], [2]], "strength": 10**400}, "line 2 has a `strength`"),
        ({**ANSWERS, "ranking": [[1], [2]], "annotator": 7}, "line 2 has no text as `annotator`"),
        ({**ANSWERS, "prompt": [{"role": "assistant", "content": "x"}], "ranking": [[1]]}, "line 2 has the role"),
        ({"prompt": "Hi", "chosen": [{"role": "user", "content": "x"}], "rejected": "B"}, "`chosen` in .*line 2"),
        ({"fields": {"text": "x"}, "responses": {}}, "line 2 has no field for the prompt"),
        ({"fields": FIELDS, "responses": {"q": 3}}, "`responses` in .*line 2"),
        ({"fields": FIELDS, "responses": {"q": [{"value": ["response-1"] * 2}]}}, "line 2 names 'response-1'"),
        ({"fields": FIELDS, "responses": {"q": [{"value": ranks(("response-1", "x"))}]}}, "line 2 has the rank"),  # type: ignore[arg-type]
        ({"data": FIELDS, "annotations": 3}, "`annotations` in .*line 2"),
        ({"data": FIELDS, "annotations": [{"result": 3}]}, "line 2 has a `result`"),
        (
            {"data": FIELDS, "annotations": [{"result": [{"type": "ranker", "value": {"ranker": ["z"]}}]}]},
            "line 2 names 'z'",
        ),
        ({"what": 1}, "line 2 is of no known layout"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_stored(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({**ANSWERS, "ranking": [[1], [2]]}) + "\n" + json.dumps(record) + "\n", "utf-8")
    with Store(tmp_path / "feedback.db") as store:
        with pytest.raises(UserError, match=message):
            import_file(store, path)
        assert store.counts()["judgement"] == store.counts()["prompt"] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prompt,answer_1,rank_1\nx,y,1\n", "no column `answer_2`"),
        ("prompt,answer_1,rank_1,answer_2,rank_2\nx,a,1,b,2\nx,a,first,b,2\n", "line 3 has 'first' as `rank_1`"),
        ("prompt,answer_1,rank_1,answer_2,rank_2\n,a,1,b,2\n", "line 2 has no text as `prompt`"),
        ("", "no column `prompt`"),
    ],
)
def test_a_bad_table_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_dialogues(path)


def test_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(UserError, match="is no Parquet table"):
        read_dialogues(tmp_path / "x.parquet")
    with pytest.raises(UserError, match="There is no file"):
        read_dialogues(tmp_path / "gone.parquet")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["response-1", "response-2", "left", "tie", "a", "submitted"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([
            "value", "rank", "user_id", "status", "values", "result", "type", "ranker", "selected", "choices", "rating",
            "to_name", "id", "text", "body", "role", "content", "prompt", "items", "answers", "completed_by", "q", "_",
        ]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
KEYS = (
    ("prompt", "answers", "ranking"), ("fields", "responses"), ("data", "annotations"), ("prompt", "chosen", "rejected"),
    ("chosen", "rejected"), ("messages",),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.sampled_from(KEYS).flatmap(lambda keys: st.fixed_dictionaries(dict.fromkeys(keys, JSON))))
def test_whatever_stands_in_a_record_is_read_or_refused_in_one_sentence(tmp_path: Path, record: dict[str, Any]) -> None:
    read_or_refused(tmp_path / "x.jsonl", record)


def read_or_refused(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    refusal = ""
    try:
        found = read_dialogues(path)
    except UserError as error:
        refusal = str(error)
    if refusal:
        assert str(path) in refusal
    else:
        assert all(len(each.answers) == len(each.ranks) == len(each.writers) >= 2 for each in found.comparisons)
        assert all(isinstance(value, float) for each in found.ratings for value in each.axes.values())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    st.sampled_from(["fields", "data"]),
    st.lists(
        st.tuples(
            st.sampled_from(["ranker", "pairwise", "choices", "rating"]),
            JSON | st.dictionaries(st.sampled_from(["ranker", "selected", "choices", "rating"]), JSON, max_size=4),
            JSON,
        ),
        max_size=3,
    ),
)
def test_whatever_the_responses_hold(tmp_path: Path, kind: str, said: list[tuple[str, Any, Any]]) -> None:
    """The fields are in order here, so that the answers are reached."""
    if kind == "fields":
        record: Any = {"fields": FIELDS, "responses": {q: [{"value": value, "user_id": by}] for q, value, by in said}}
    else:
        results = [{"type": q, "value": value, "from_name": q} for q, value, _ in said]
        record = {
            "data": {name: FIELDS[name] for name in list(FIELDS)[:3]},
            "annotations": [{"result": results, "completed_by": by} for *_, by in said[:1]],
        }
    read_or_refused(tmp_path / "x.jsonl", record)
