"""`headwater safety` on a tiny model, with lists of its own instead of the package's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headwater.errors import UserError
from headwater.evaluation.lexicon import Lexicon
from headwater.inspection import safety as safety_module
from headwater.inspection.safety import safety
from test_chat import make


@pytest.fixture(autouse=True)
def lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety_module, "fetch", lambda package, cache: cache / package.file)
    monkeypatch.setattr(safety_module, "read_lexicon", lambda _path: Lexicon(["grot"]))


def test_every_question_is_answered_and_kept(tmp_path: Path) -> None:
    folder, result = make(tmp_path / "m", context=128), tmp_path / "result.json"
    found = safety(folder, tmp_path, max_new_tokens=4, result=result)
    kept = json.loads(result.read_text(encoding="utf-8"))
    assert len(kept["answers"]) == 80
    assert {each["language"] for each in kept["answers"]} == {"en", "zh"}
    assert found.shares["toxic"]["zh"].total == 40
    assert kept["shares"]["refused"]["en"]["total"] == 20
    again = safety(folder, tmp_path, max_new_tokens=4)
    assert again == found


def test_no_text_and_no_place_for_the_result_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="which writes no text"):
        safety(make(tmp_path / "r", kind="reward"), tmp_path)
    with pytest.raises(UserError, match=r"There is no folder .* for the result.*--json"):
        safety(tmp_path / "m", tmp_path, result=tmp_path / "none" / "result.json")
