"""Prompt files of three kinds, and what is said of a bad line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import UserError
from headwater.feedback.comparisons import Turn
from headwater.feedback.formats.prompts import read_prompts

REQUEST = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=30).filter(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(requests=st.lists(REQUEST, min_size=1, max_size=6))
def test_requests_come_back_from_every_layout(tmp_path: Path, requests: list[str]) -> None:
    (tmp_path / "a.txt").write_text("".join(f"{one}\n\n" for one in requests), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"prompt": one}) + "\n" for one in requests), encoding="utf-8")
    with (tmp_path / "c.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["number", "prompt"], *([str(n), one] for n, one in enumerate(requests))])
    for name in ("a.txt", "b.jsonl", "c.csv"):
        found = [turns for turns, _ in read_prompts(tmp_path / name)]
        assert found == [(Turn("user", one.strip()),) for one in requests]


def test_a_conversation_that_waits_for_an_answer(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "How?"},
    ]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    ((turns, place),) = read_prompts(tmp_path / "a.jsonl")
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user"]
    assert place.endswith("a.jsonl, line 1")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf", "x", "ends in .txt, .jsonl or .csv"),
        ("a.csv", "request\nHi\n", "no column `prompt`"),
        ("a.jsonl", '{"prompt": " "}\n', "line 1 has no text as `prompt`"),
        (
            "a.jsonl",
            '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n',
            "do not end",
        ),
        ("a.jsonl", '{"messages": [{"role": "assistant", "content": "b"}]}\n', "has the role 'assistant'"),
        ("a.jsonl", '{"messages": []}\n', "no list of messages"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        list(read_prompts(tmp_path / name))


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file"):
        list(read_prompts(tmp_path / "none.txt"))
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="not UTF-8"):
        list(read_prompts(tmp_path / "bad.txt"))
