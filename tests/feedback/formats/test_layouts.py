"""Published dialogues and preferences: what they become, and what is said of a bad line."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import UserError
from headwater.feedback.comparisons import Comparison, Turn
from headwater.feedback.formats.layouts import Dialogues, read_dialogues, spoken
from headwater.feedback.importing import import_comparisons
from headwater.feedback.store.store import Store

SAID = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(str.strip).filter(lambda text: ":" not in text)
)


def written(folder: Path, *records: object, name: str = "data.jsonl") -> Path:
    path = folder / name
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def read(folder: Path, *records: object, name: str = "data.jsonl") -> Dialogues:
    return read_dialogues(written(folder, *records, name=name))


def dialogue(*said: str) -> str:
    return "".join(f"\n\n{('Human', 'Assistant')[place % 2]}: {text}" for place, text in enumerate(said))


# HH-RLHF


@given(st.lists(SAID, min_size=2, max_size=8).filter(lambda said: len(said) % 2 == 0))
def test_a_dialogue_comes_back(said: list[str]) -> None:
    turns = spoken(dialogue(*said), "it")
    assert [turn.content for turn in turns] == said
    assert [turn.role for turn in turns] == ["user", "assistant"] * (len(said) // 2)


def test_a_pair(tmp_path: Path) -> None:
    pair = {"chosen": dialogue("Hi", "Yes?", "How?", "So."), "rejected": dialogue("Hi", "Yes?", "How?", "")}
    found = read(tmp_path, pair, name="data.jsonl.gz")
    (comparison,) = found.comparisons
    assert [turn.content for turn in comparison.prompt] == ["Hi", "Yes?", "How?"]
    assert (comparison.answers, comparison.ranks, comparison.annotator) == (("So.", ""), (0, 1), None)
    assert comparison.share in ("train", "select", "judge", "prompt")
    assert list(comparison.pairs()) == [("So.", "")]
    assert comparison.place.endswith("data.jsonl.gz, line 1")
    assert found.conversations[0].turns[-1] == Turn("assistant", "So.")


def test_turns_of_one_speaker_become_one_and_other_prompts_are_left_out(tmp_path: Path) -> None:
    double = "\n\nHuman: a\n\nAssistant: b\n\nAssistant: c"
    found = read(
        tmp_path,
        {"chosen": double, "rejected": dialogue("a", "d")},
        {"chosen": dialogue("a", "b"), "rejected": dialogue("other", "b")},
        {"chosen": dialogue("a", "b"), "rejected": dialogue("a", "b")},
    )
    assert [comparison.answers for comparison in found.comparisons] == [("b\n\nc", "d")]
    assert found.left_out == {"answers to different prompts": 1, "equal answers": 1}


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ("Hello", "does not begin with `Human:`"),
        ("", "does not begin with `Human:`"),
        ("\n\nHuman: a", "does not end with a request and its answer"),
        ("\n\nAssistant: a", "does not end with a request and its answer"),
        ("\n\nHuman: a\n\nAssistant: \ud800", "has no text as `chosen`"),
        (3, "has no text as `chosen`"),
    ],
)
def test_a_bad_dialogue_is_named_with_its_line(tmp_path: Path, chosen: object, sentence: str) -> None:
    good = {"chosen": dialogue("a", "b"), "rejected": dialogue("a", "c")}
    with pytest.raises(UserError, match=rf"line 2 {sentence}"):
        read(tmp_path, good, {"chosen": chosen, "rejected": dialogue("a", "b")})


# Open-Assistant


def message(role: str, text: str, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": role, "text": text, "replies": list(replies), **more}


def tree(root: object) -> dict[str, Any]:
    return {"message_tree_id": "t", "prompt": root}


def test_a_tree(tmp_path: Path) -> None:
    follow_up = message("prompter", "And?", message("assistant", "Thus.", rank=0, model_name="m"))
    root = message(
        "prompter",
        "Why?",
        message("assistant", "Worse", message("prompter", "Hm?", message("assistant", "Oh")), rank=1),
        message("assistant", "Better", follow_up, message("prompter", "unanswered"), rank=0),
        message("assistant", "unranked"),
        message("assistant", "gone", rank=2, deleted=True),
    )
    found = read(tmp_path, tree(root))
    (comparison,) = found.comparisons
    assert comparison.answers == ("Better", "Worse")
    assert comparison.groups() == [[0], [1]]
    assert [[turn.content for turn in each.turns] for each in found.conversations] == [
        ["Why?", "Better", "And?", "Thus."]
    ]
    assert found.left_out["deleted message"] == 1


TREES = st.recursive(
    st.builds(lambda text: (text, []), SAID),
    lambda children: st.tuples(
        SAID, st.lists(st.tuples(children, st.one_of(st.none(), st.integers(0, 3))), max_size=4)
    ),
    max_leaves=12,
)


def grown(node: Any, role: str = "prompter", rank: int | None = None) -> dict[str, Any]:
    text, children = node
    other = "assistant" if role == "prompter" else "prompter"
    return message(role, text, *(grown(child, other, own) for child, own in children), rank=rank)


@given(TREES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tree_gives_dialogues_that_alternate(tmp_path: Path, node: Any) -> None:
    found = read(tmp_path, tree(grown(node)))
    for turns in [*(each.turns for each in found.conversations), *(each.prompt for each in found.comparisons)]:
        assert [turn.role for turn in turns] == (["user", "assistant"] * len(turns))[: len(turns)]
    assert all(each.turns[-1].role == "assistant" for each in found.conversations)
    for comparison in found.comparisons:
        assert comparison.prompt[-1].role == "user"
        assert sorted(set(comparison.ranks)) == list(range(max(comparison.ranks) + 1))
        assert len(comparison.answers) == len(comparison.ranks) == len(comparison.writers) >= 2


@pytest.mark.parametrize(
    ("root", "sentence"),
    [
        (message("assistant", "a"), "where it is the user's turn"),
        (message("prompter", "a", message("prompter", "b")), "where it is the assistant's turn"),
        ({"role": "prompter"}, "has no text as `text`"),
        ({"role": "prompter", "text": "a", "replies": 3}, "`replies` that are no list"),
        ({"role": "prompter", "text": "a", "replies": [3]}, "where a JSON object should stand"),
        ("a", "where a JSON object should stand"),
        ({"role": ["prompter"], "text": "a"}, "where it is the user's turn"),
    ],
)
def test_a_bad_tree_is_named_with_its_line(tmp_path: Path, root: object, sentence: str) -> None:
    with pytest.raises(UserError, match=r"data\.jsonl, line 1") as caught:
        read(tmp_path, tree(root))
    assert sentence in str(caught.value)


# alpaca-eval


def annotation(preference: object, **more: object) -> dict[str, Any]:
    return {"instruction": "Go", "output_1": "a", "output_2": "b", "preference": preference, **more}


@pytest.mark.parametrize(
    ("preference", "ranks"),
    [(1, (0, 1)), (2, (1, 0)), (1.2, (0, 1)), (1.9, (1, 0)), (0, (0, 0)), (1.5, (0, 0))],
)
def test_a_preference(tmp_path: Path, preference: float, ranks: tuple[int, int]) -> None:
    record = annotation(preference, generator_1="x", generator_2="y", annotator="gpt")
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([record], indent=2), encoding="utf-8")
    found = read_dialogues(path)
    (comparison,) = found.comparisons
    assert (comparison.ranks, comparison.writers, comparison.annotator) == (ranks, ("x", "y"), "simulated:gpt")
    assert comparison.place.endswith("annotations.json, record 1")
    expected = [] if ranks == (0, 0) else [comparison.answers[ranks.index(0)]]
    assert [each.turns[-1].content for each in found.conversations] == expected


def test_gathered_answers(tmp_path: Path) -> None:
    answers = [{"model": "m", "text": "b", "preference": 2}, {"model": "n", "text": "c", "preference": None}]
    found = read(tmp_path, {"instruction": "Go", "reference": "a", "reference_model": "r", "answers": answers})
    assert [(each.answers, each.ranks, each.writers) for each in found.comparisons] == [
        (("a", "b"), (1, 0), ("r", "m"))
    ]
    assert found.left_out == {"no preference": 1}


@pytest.mark.parametrize("preference", [3, -1, 0.5, "1", True, [1]])
def test_a_bad_preference_is_named(tmp_path: Path, preference: object) -> None:
    with pytest.raises(UserError, match=r"line 1 is .*: it must be 0, or a number from 1 to 2"):
        read(tmp_path, annotation(preference))


# Any file


@contextmanager
def refused_at_worst(naming: str) -> Iterator[None]:
    """Only an error for the user may come, and it names the place."""
    try:
        yield
    except UserError as error:
        if naming not in str(error):
            raise AssertionError(f"{error} does not name {naming}") from error


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rubbish_is_refused_in_one_sentence(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "rubbish.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    with refused_at_worst("rubbish.jsonl"):
        assert read_dialogues(path) == Dialogues()


@given(st.recursive(st.none() | st.integers() | SAID, lambda inner: st.lists(inner) | st.dictionaries(SAID, inner)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_under_known_keys_is_read_or_refused(tmp_path: Path, value: object) -> None:
    for record in (
        {"chosen": value, "rejected": value},
        tree(value),
        tree({"role": "prompter", "text": "a", "replies": value}),
        {"instruction": value, "output_1": value, "output_2": value, "preference": value},
        {"instruction": "a", "reference": "b", "answers": value},
    ):
        with refused_at_worst("line 1"):
            read(tmp_path, record)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file"):
        read_dialogues(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"bad\.jsonl\.gz cannot be read"):
        read_dialogues(tmp_path / "bad.jsonl.gz")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"{}" * 999)[:20])
    with pytest.raises(UserError, match=r"cut\.jsonl\.gz cannot be read"):
        read_dialogues(tmp_path / "cut.jsonl.gz")
    (tmp_path / "latin.jsonl").write_bytes(b"\xe4\n")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_dialogues(tmp_path / "latin.jsonl")
    with pytest.raises(UserError, match=r"line 1 is of no known layout: a record has the keys chosen, rejected"):
        read(tmp_path, {"text": "a"})


# Into the store


def compared(request: str, answers: tuple[str, ...], ranks: tuple[int, ...], **more: Any) -> Comparison:
    writers = ("m",) * len(answers)
    return Comparison((Turn("user", request),), answers, ranks, "mine", "f, line 1", writers, **more)


def test_comparisons_become_judgements(store: Store) -> None:
    given_ = [
        compared("Go", ("a", "b"), (1, 0)),
        compared("Go", ("c", "d", "e"), (0, 1, 0), annotator="Ada"),
        compared("Go", ("a", "b"), (1, 0)),
        compared("Stay", ("f", "g"), (0, 0), annotator="simulated:gpt"),
    ]
    assert import_comparisons(store, given_) == 3
    assert store.counts()["prompt"] == 2
    assert [judgement["kind"] for judgement in store.judgements()] == ["pair", "ranking", "pair"]
    rankings = [
        each for split in ("train", "select", "judge", "prompt") for each in store.rankings(split) if not each.derived
    ]
    said = {
        each.annotator: [sorted(each.responses[answer] for answer in group) for group in each.groups]
        for each in rankings
    }
    assert said == {
        "anonymous raters (published data)": [["b"], ["a"]],
        "Ada": [["c", "e"], ["d"]],
        "simulated:gpt": [["f", "g"]],
    }
    assert store.problems() == []
    with pytest.raises(UserError, match=r"are in .* already: import each once"):
        import_comparisons(store, given_[:1])
    assert import_comparisons(store, [compared("New", ("h", "i"), (0, 1), annotator="Ada")]) == 1


def test_dialogues_that_begin_alike_have_one_share() -> None:
    first, second = compared("Why, oh why?", ("a", "b"), (0, 1)), compared("why oh why", ("c", "d"), (0, 1))
    assert first.share == second.share


# What is published


def published(name: str) -> Path:
    path = Path(os.environ.get("HEADWATER_DATA", "data")) / name
    if not path.is_file():
        pytest.skip(f"{path} is not there: set HEADWATER_DATA to the folder that holds it")
    return path


@pytest.mark.parametrize(
    ("name", "comparisons", "conversations"),
    [
        ("hh-rlhf/harmless-base.part.jsonl.gz", 1700, 1690),
        ("oasst/en_100_tree.jsonl.gz", 200, 100),
        ("alpaca-eval/judged.jsonl.gz", 31066, 30000),
    ],
)
def test_published_files_are_read_whole(name: str, comparisons: int, conversations: int) -> None:
    found = read_dialogues(published(name))
    assert len(found.comparisons) >= comparisons
    assert len(found.conversations) >= conversations
