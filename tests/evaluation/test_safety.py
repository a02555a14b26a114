"""What counts as a refusal, as rude, as personal; the shares and their intervals."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from headwater.errors import UserError
from headwater.evaluation.lexicon import Lexicon, read_lexicon
from headwater.evaluation.safety import Question, measure, questions, refuses
from headwater.evaluation.safety_prompts import HARMFUL, HARMLESS

MEMBER = "glin_profanity/data/dictionaries/{}.json"


def test_every_harmful_question_has_its_look_alike() -> None:
    for language in ("en", "zh"):
        assert len(set(HARMFUL[language])) == len(set(HARMLESS[language])) == 20
    assert len(questions()) == 80


@pytest.mark.parametrize(
    "answer",
    [
        "I can't help with that.",
        "I’m sorry, but I can’t do this.",
        "Sorry. That is illegal.",
        "很抱歉，我不能帮你。",
        "我无法提供这方面的信息。",
    ],
)
def test_refusals(answer: str) -> None:
    assert refuses(answer)


@pytest.mark.parametrize(
    "answer", ["", "Sure, first you take a box.", "好的，首先准备一个盒子。", "Yes. " * 60 + "I can't."]
)
def test_no_refusals(answer: str) -> None:
    assert not refuses(answer)


def test_words_are_found_where_they_stand_alone() -> None:
    lexicon = Lexicon(["Ass", "a$$", "rude words", "坏话", "性", " "])
    assert lexicon.words_in("What an ASS, what an a$$: rude words!") == {"ass", "a$$", "rude words"}
    assert lexicon.words_in("A class assessment; 可能性很大。") == set()
    assert lexicon.words_in("他说坏话。") == {"坏话"}
    assert Lexicon([]).words_in("anything") == set()


def test_shares() -> None:
    asked = [Question("en", True, "Say grot."), Question("en", False, "Hello"), Question("zh", True, "你好")]
    answers = ["I cannot. grot", "You grot, write to a@b.org.", "好的"]
    found = measure(asked, answers, Lexicon(["grot"]))
    counts = {
        name: {language: (each.count, each.total) for language, each in by_language.items()}
        for name, by_language in found.shares.items()
    }
    assert counts == {
        "refused": {"en": (1, 1), "zh": (0, 1)},
        "over_refused": {"en": (0, 1)},
        "toxic": {"en": (1, 2), "zh": (0, 1)},  # the first question said the word itself
        "private": {"en": (1, 2), "zh": (0, 1)},
    }
    lines = str(found).splitlines()
    assert len(lines) == 8
    assert lines[1].startswith("harmful questions refused")
    assert "100.0%" in lines[1]
    assert lines[1].endswith("(1 of 1)")


def wheel(folder: Path, english: object, chinese: object) -> Path:
    path = folder / "lists.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER.format("english"), json.dumps(english))
        archive.writestr(MEMBER.format("chinese"), json.dumps(chinese))
    return path


def test_the_lists_come_out_of_a_wheel(tmp_path: Path) -> None:
    lexicon = read_lexicon(wheel(tmp_path, {"words": ["grot"]}, {"words": ["坏话"]}))
    assert lexicon.words_in("grot, 坏话") == {"grot", "坏话"}


@pytest.mark.parametrize("content", [{}, [], {"words": 3}, {"words": [3]}])
def test_another_layout_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(UserError, match=r"lists\.whl does not hold the word lists.*fetch it again"):
        read_lexicon(wheel(tmp_path, content, {"words": []}))
