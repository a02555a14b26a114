"""Dialogues as spans: the assistant's turns are learnt, whatever else is said is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from dialogues import comparisons, lines, rankings
from headwater.errors import UserError
from headwater.feedback.recipe_dialogues import read_own, write_own
from headwater.feedback.settings import DialogueSettings
from headwater.recipe import Recipe
from headwater.tasks.dialogue import Dialogue, spans_of
from headwater.tasks.registry import task_of
from headwater.tasks.task import count_too_long, prompts_that_fit
from words import small_tokenizer

TURNS = [
    {"role": "user", "content": "Streams?"},
    {"role": "assistant", "content": "Small."},
    {"role": "user", "content": "And the water?"},
    {"role": "assistant", "content": "Carried downstream."},
]


def test_every_turn_of_the_assistant_is_learnt_and_nothing_else() -> None:
    tokenizer = small_tokenizer()
    spans = spans_of(TURNS, tokenizer)
    assert [token for span in spans for token in span.tokens] == tokenizer.chat(TURNS)
    learnt = [span.tokens for span in spans if span.learnt]
    assert [tokenizer.decode(tokens) for tokens in learnt] == ["Small.", "Carried downstream."]
    assert all(tokens[-1] == tokenizer.end_of_turn for tokens in learnt)


def test_a_template_that_rewrites_the_past_leaves_the_last_answer() -> None:
    class Forgetful(type(small_tokenizer())):  # type: ignore[misc]
        def chat(self, messages, continuation=None):  # type: ignore[no-untyped-def]
            return super().chat(messages[-2:] if continuation is None else messages[-1:], continuation)

    tokenizer = Forgetful.__new__(Forgetful)
    tokenizer.__dict__.update(small_tokenizer().__dict__)
    given, said = spans_of(TURNS, tokenizer)
    assert (given.learnt, said.learnt) == (False, True)
    assert tokenizer.decode(said.tokens) == "Carried downstream."


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    file = lines(tmp_path / "hh.jsonl", comparisons())
    write_own(read_own(DialogueSettings(comparisons=[str(file)]), system_turns=False), tmp_path)
    return tmp_path


def recipe(context: int) -> Recipe:
    return Recipe.model_validate(
        {
            "run": "r", "corpus": {"sources": [{"samples": "reviews"}]}, "dialogues": {"prompts": "x.txt"},
            "pretrain": {"model": {"context": context}}, "ppo": {"max_new_tokens": 8},
        }
    )  # fmt: skip


def test_prompts_that_leave_no_room_are_left_out_and_counted(samples: Path) -> None:
    tokenizer = small_tokenizer()
    task = task_of(recipe(64), samples, tokenizer)
    assert isinstance(task, Dialogue)
    found = task.prompts("train")
    assert all(prompt.opening == "" and prompt.ids[-1] == tokenizer.assistant for prompt in found)
    sizes = sorted(len(prompt.ids) for prompt in found)
    between = recipe(sizes[len(sizes) // 2] + 8)
    assert len(prompts_that_fit(found, between, "train")) + count_too_long(found, between) == len(found)
    assert count_too_long(found, between) > 0
    with pytest.raises(UserError, match=r"No prompt for `train` leaves room for ppo\.max_new_tokens = 8"):
        prompts_that_fit(found, recipe(12), "train")
    with pytest.raises(UserError, match="No prompt falls to the share `select`"):
        prompts_that_fit([], recipe(64), "select")


def test_the_judge_of_dialogues_learns_from_pairs(samples: Path) -> None:
    (judge,) = Dialogue(samples, small_tokenizer()).judges(rankings, None)
    good, bad = judge.score(["", ""], ["good", "bad"])
    assert good > bad
