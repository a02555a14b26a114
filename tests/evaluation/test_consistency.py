"""Changes that keep the meaning, and what they do to judges whose taste is known."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.evaluation.consistency import (
    CHANGES,
    CONTRACTIONS,
    NEIGHBOURS,
    REWORDED,
    changed_texts,
    consistency,
    other_forms,
    repunctuated,
    reworded,
    with_typos,
)

TEXTS = [f"The {word} film number {number} does not end, really." for number in range(9) for word in ("good", "Fine")]


class Taste:
    """A judge by any function of one answer."""

    name = "taste"

    def __init__(self, taste) -> None:
        self.taste = taste

    def score(self, instructions: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        assert len(instructions) == len(answers)
        return np.array([self.taste(answer) for answer in answers], dtype=np.float64)


def test_neighbours_are_mutual() -> None:
    assert set(NEIGHBOURS) == set("abcdefghijklmnopqrstuvwxyz")
    assert all(letter in NEIGHBOURS[other] for letter, others in NEIGHBOURS.items() for other in others)


@given(st.text(), st.floats(0, 1), st.integers(0, 9))
def test_typos_keep_lengths_and_whatever_is_no_letter(text: str, share: float, seed: int) -> None:
    typed = with_typos(text, share, random.Random(seed))
    assert len(typed) == len(text)
    for before, after in zip(text, typed, strict=True):
        assert before == after or (after.lower() in NEIGHBOURS[before.lower()] and after.isupper() == before.isupper())
    assert with_typos(text, 0, random.Random(seed)) == text


def test_typos_hit_the_share_of_words_that_is_asked_for() -> None:
    text = "plain words " * 2000
    typed = with_typos(text, 0.25, random.Random(0)).split()
    wrong = sum(word not in ("plain", "words") for word in typed)
    assert wrong / len(typed) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("before", "after"),
    [("It is good.", "It is good"), ("Good", "Good."), ("很好，真的！", "很好,真的"), ("", "."), ("Why?!", "Why")],
)
def test_punctuation(before: str, after: str) -> None:
    assert repunctuated(before) == after


def test_contractions_go_both_ways() -> None:
    assert other_forms("Do not go; I can't.") == "Don't go; I cannot."
    assert other_forms("Nothing here") == "Nothing here"
    for long, short in CONTRACTIONS.items():
        assert other_forms(long) == short
        assert other_forms(short) == long


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Write a line of a film review.", "Could you write a line of a film review?"),
        ("What is a valve?", "Tell me: What is a valve?"),
        ("请写一句影评。", "能不能写一句影评？"),
        ("什么是阀门？", "告诉我：什么是阀门？"),
    ],
)
def test_a_request_in_other_words(before: str, after: str) -> None:
    assert reworded(before) == after


def test_a_judge_that_reads_the_request_is_told_from_one_that_does_not() -> None:
    class Reader(Taste):
        def score(self, instructions: Sequence[str], answers: Sequence[str]) -> np.ndarray:
            turn = -1 if any(text.startswith("Could you") for text in instructions) else 1
            return turn * super().score(instructions, answers)

    asked = ["Write it."] * len(TEXTS)
    by_number = lambda text: int("".join(filter(str.isdigit, text)))  # noqa: E731
    assert consistency(Reader(by_number), asked, TEXTS, reword=reworded, resamples=20)[REWORDED].order == 0
    assert consistency(Taste(by_number), asked, TEXTS, reword=reworded, resamples=20)[REWORDED].order == 1


def test_the_seed_decides() -> None:
    assert changed_texts(TEXTS, 0.5, 1) == changed_texts(TEXTS, 0.5, 1)
    assert changed_texts(TEXTS, 0.5, 1)["typos"] != changed_texts(TEXTS, 0.5, 2)["typos"]
    assert tuple(changed_texts(TEXTS, 0.5, 1)) == CHANGES


def test_a_judge_that_does_not_look_is_consistent_and_one_that_looks_is_not() -> None:
    asked = ["Review."] * len(TEXTS)
    by_place = consistency(
        Taste(lambda text: int("".join(filter(str.isdigit, text)))), asked, TEXTS, reword=reworded, resamples=20
    )
    assert all(each.order == 1 and each.shift == 0 for each in by_place.values() if each.changed)
    by_case = consistency(
        Taste(lambda text: sum(map(str.isupper, text)) + len(text) / 100), asked, TEXTS, reword=reworded, resamples=20
    )
    assert by_case["lower case"].changed == len(TEXTS)
    assert by_case["lower case"].shift > 1
    assert by_case["contractions"].order == 1


def test_only_answers_to_one_instruction_are_compared_and_little_is_no_number() -> None:
    answers = ["good film", "Bad Film", "good film", "Bad Film"]
    found = consistency(Taste(len), ["a", "b", "c", "d"], answers, reword=reworded, resamples=5)
    assert np.isnan(found["upper case"].order)  # no two answers to one instruction
    same = consistency(Taste(lambda _: 1.0), ["a"] * 4, answers, reword=reworded, resamples=5)
    assert np.isnan(same["upper case"].shift)  # no deviation to measure a shift in
    assert found["contractions"].changed == 0
