"""Dialogues as spans: the assistant's turns are learnt, whatever else is said is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dialogues import comparisons, lines
from headwater.errors import UserError
from headwater.feedback.halves import half_of, halved
from headwater.feedback.own import read_own, write_own
from headwater.feedback.reader import Ranking
from headwater.feedback.settings import DialogueSettings, RoundSettings
from headwater.recipe import Recipe
from headwater.stages.reward import mixed
from headwater.tasks.dialogue import Dialogue, pairs_of, spans_of
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


def rankings(count: int = 40, derived: bool = False) -> list[Ranking]:
    return [
        Ranking(
            number, number, [{"role": "user", "content": f"Q{number}"}], {1: "good", 2: "bad", 3: "bad bad"},
            [[1], [2, 3]], {}, derived, "Ada", round=1 + number % 2,
        )
        for number in range(count)
    ]  # fmt: skip


def test_pairs_do_not_give_away_which_answer_is_better(samples: Path) -> None:
    pairs = pairs_of(rankings())
    assert len(pairs) == 80
    assert np.mean([pair.first_is_better for pair in pairs]) == 0.5
    assert all((pair.first == "good") == pair.first_is_better for pair in pairs)
    (judge,) = Dialogue(samples, small_tokenizer()).judges(rankings, None)
    good, bad = judge.score(["", ""], ["good", "bad"])
    assert good > bad


def test_the_halves_have_nothing_in_common_and_miss_nothing() -> None:
    found = {half: {each.id for each in halved(rankings(), half)} for half in ("annotator", "judge")}
    assert not found["annotator"] & found["judge"]
    assert found["annotator"] | found["judge"] == set(range(40))
    assert min(map(len, found.values())) > 8
    derived = rankings(1, derived=True)
    parts = [
        {derived[0].responses[one] for each in halved(derived, half) for group in each.groups for one in group}
        for half in ("annotator", "judge")
    ]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == {"good", "bad", "bad bad"}
    assert all(half_of(text) == "annotator" for text in parts[0])
    assert halved(rankings(), None) == rankings()


def test_rounds_weigh_what_the_recipe_says() -> None:
    given = rankings(200)
    assert mixed(given, RoundSettings()) == given
    drawn = mixed(given, RoundSettings(weights=[0.5, 2]))
    assert abs(sum(each.round == 1 for each in drawn) - 50) <= 2
    assert sum(each.round == 2 for each in drawn) == 200
    assert not [each for each in mixed(given, RoundSettings(weights=[0.0])) if each.round == 1]
