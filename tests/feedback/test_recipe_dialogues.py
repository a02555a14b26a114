"""A recipe's own dialogues: dealt to shares, limited, with a system message, and written without loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from dialogues import comparisons, lines, requests, spoken
from headwater.errors import UserError
from headwater.feedback.comparisons import Turn, first_request
from headwater.feedback.recipe_dialogues import (
    DEMONSTRATIONS,
    PROMPTS,
    heldout_texts,
    read_comparisons,
    read_dealt,
    read_own,
    with_system,
    write_own,
)
from headwater.feedback.settings import DialogueSettings

SHARES = ("train", "select", "judge", "prompt")


def test_what_begins_alike_is_in_one_share_and_all_comes_back(tmp_path: Path) -> None:
    file = lines(tmp_path / "hh.jsonl", comparisons())
    own = read_own(DialogueSettings(comparisons=[str(file)], system="Be kind."), system_turns=False)
    write_own(own, tmp_path)
    assert len(own.demonstrations) == len(own.prompts) == len(own.comparisons) == len(requests())
    assert not own.left_out
    assert list(read_comparisons(tmp_path)) == own.comparisons
    share_of = {}
    for share in SHARES:
        for name in (DEMONSTRATIONS, PROMPTS):
            for dealt in read_dealt(tmp_path, name, share):
                assert share_of.setdefault(first_request(dealt.turns), share) == share
    for comparison in own.comparisons:
        assert comparison.prompt[0].content.startswith("Be kind.\n\nTell me")
        assert share_of[first_request(comparison.prompt)] == comparison.share
    assert set(share_of.values()) == set(SHARES)
    # The share does not depend on the system message.
    plain = read_own(DialogueSettings(comparisons=[str(file)]), system_turns=True)
    assert [each.share for each in plain.comparisons] == [each.share for each in own.comparisons]
    kept = set(heldout_texts(tmp_path, ("prompt",)))
    assert kept
    assert not kept & {
        turn.content for dealt in read_dealt(tmp_path, DEMONSTRATIONS, "train") for turn in dealt.turns[:1]
    }


def test_a_system_message_stands_first_or_in_the_user_s_words() -> None:
    turns = (Turn("user", "Hi"), Turn("assistant", "Yes?"))
    assert with_system(turns, "S", True) == (Turn("system", "S"), *turns)
    assert with_system(turns, "S", False) == (Turn("user", "S\n\nHi"), turns[1])
    own = (Turn("system", "mine"), *turns)
    assert with_system(own, "S", True) == own
    assert with_system(own, None, False)[0] == Turn("user", "mine\n\nHi")


def test_a_limit_takes_the_same_ones_every_time(tmp_path: Path) -> None:
    file = lines(tmp_path / "hh.jsonl", comparisons())
    settings = DialogueSettings(comparisons=[str(file)], limit=9)
    own = read_own(settings, system_turns=True)
    assert len(own.comparisons) == len(own.demonstrations) == len(own.prompts) == 9
    assert read_own(settings, system_turns=True) == own


def test_demonstrations_of_their_own_take_the_place_of_the_chosen_answers(tmp_path: Path) -> None:
    file = lines(tmp_path / "hh.jsonl", comparisons())
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Good day."}]
    answered = {"messages": messages}
    shown = lines(tmp_path / "own.jsonl", [answered, {"messages": messages[:1]}])
    (tmp_path / "prompts.txt").write_text("One?\nTwo?\nOne?\n")
    own = read_own(
        DialogueSettings(comparisons=[str(file)], demonstrations=[str(shown)], prompts=str(tmp_path / "prompts.txt")),
        system_turns=True,
    )
    assert [each.turns[-1].content for each in own.demonstrations] == ["Good day."]
    assert [each.turns[0].content for each in own.prompts] == ["One?", "Two?"]
    assert own.left_out == {"no answer": 1, "prompts that stand twice": 1}


def test_nothing_to_ask_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\n \n")
    with pytest.raises(UserError, match="nothing to ask in"):
        read_own(DialogueSettings(prompts=str(tmp_path / "prompts.txt")), system_turns=True)
    double = {"chosen": spoken("a", "b"), "rejected": spoken("c", "d")}
    own = read_own(DialogueSettings(comparisons=[str(lines(tmp_path / "x.jsonl", [double]))]), system_turns=True)
    assert not own.comparisons
    assert own.left_out["answers to different prompts"] == 1
