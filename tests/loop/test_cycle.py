"""The loop's decisions, with work that is done at once: when it trains, what it offers, and what becomes of that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headwater.errors import UserError
from headwater.loop.cycle import Loop
from paper import Paper


def loop_of(tmp_path: Path, work: Paper, judgements: int = 4) -> Loop:
    return Loop(tmp_path / "loop.json", work, judgements)


def test_the_policy_is_asked_first_and_trained_when_enough_is_judged(tmp_path: Path) -> None:
    work = Paper()
    loop = loop_of(tmp_path, work)
    loop.advance()
    assert (work.tasks, work.trained) == ({None: 10}, [])
    work.said[None] = 3
    loop.advance()
    assert loop.status().as_dict() == {
        "phase": "waiting", "accepted": None, "offered": None, "judged": 3, "wanted": 4, "problem": None,
    }  # fmt: skip
    work.said[None] = 4
    loop.advance()
    assert work.trained == ["own"]
    assert (loop.status().phase, loop.status().offered, loop.accepted) == ("offered", "own", None)
    work.said[None] = 10
    loop.advance()
    assert work.trained == ["own"], "an offer waits for a decision"


def test_an_order_in_each_share_is_waited_for(tmp_path: Path) -> None:
    work = Paper(tasks={None: 10}, said={None: 9}, ready=False)
    loop = loop_of(tmp_path, work)
    loop.advance()
    assert work.trained == []
    work.ready = True
    loop.advance()
    assert work.trained == ["own"]


def test_an_accepted_policy_is_asked_next_and_can_be_rolled_back(tmp_path: Path) -> None:
    work = Paper(tasks={None: 10}, said={None: 5})
    loop = loop_of(tmp_path, work)
    loop.advance()
    loop.accept()
    assert loop.accepted == "own"
    loop.advance()
    work.said["own"] = 6
    loop.advance()
    assert work.trained == ["own", "own-round-2"]
    loop.accept()
    assert loop.state.accepted == ("own", "own-round-2")
    loop.roll_back()
    assert (loop.accepted, loop.state.declined) == ("own", ("own-round-2",))
    loop.advance()
    assert work.trained == ["own", "own-round-2"], "nothing new was said since"
    work.said["own"] = 10
    loop.advance()
    assert (loop.status().offered, loop.state.declined) == ("own-round-2", ())
    loop.roll_back()
    assert (loop.accepted, loop.state.offered) == (None, None)
    with pytest.raises(UserError, match="none before it"):
        loop.roll_back()


def test_what_was_declined_needs_more_judgements_and_ends_where_there_are_none(tmp_path: Path) -> None:
    work = Paper(tasks={None: 10}, said={None: 7})
    loop = loop_of(tmp_path, work)
    loop.advance()
    loop.decline()
    loop.advance()
    assert work.trained == ["own"]
    work.said[None] = 10  # three more of the four that are wanted, but no task is left
    loop.advance()
    assert work.trained == ["own", "own"]
    loop.decline()
    loop.advance()
    assert (len(work.trained), loop.status().phase) == (2, "finished")


def test_a_simulated_annotator_is_not_waited_for_and_repeats_nothing(tmp_path: Path) -> None:
    work = Paper(asks=False)
    loop = loop_of(tmp_path, work)
    loop.advance()
    assert loop.status().offered == "own"
    loop.accept()
    loop.advance()
    assert loop.status().offered == "own-round-2"
    loop.decline()
    for _ in range(3):
        loop.advance()
    assert (work.trained, loop.status().phase) == (["own", "own-round-2"], "finished")


def test_a_problem_is_shown_and_not_tried_again_until_somebody_says_so(tmp_path: Path) -> None:
    work = Paper(tasks={None: 10}, said={None: 5}, problem="The disk is full: make room.")
    loop = loop_of(tmp_path, work)
    loop.advance()
    assert (loop.status().phase, loop.status().problem) == ("failed", "The disk is full: make room.")
    work.problem = None
    loop.advance()
    assert work.trained == []
    loop.retry()
    loop.advance()
    assert loop.status().offered == "own"


def test_it_goes_on_after_a_stop(tmp_path: Path) -> None:
    work = Paper(tasks={None: 10}, said={None: 5})
    first = loop_of(tmp_path, work)
    first.advance()
    again = loop_of(tmp_path, work)
    assert again.status() == first.status()
    again.accept()
    assert loop_of(tmp_path, work).accepted == "own"


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"accepted": []})])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "loop.json").write_text(text)
    with pytest.raises(UserError, match=r"loop\.json is damaged"):
        loop_of(tmp_path, Paper())


def test_what_fails_outside_a_training_is_shown_and_stands_still(tmp_path: Path) -> None:
    work = Paper(tasks={None: 10}, said={None: 5})
    loop = loop_of(tmp_path, work)
    loop.fail("The model is damaged: make it again.")
    loop.advance()
    assert (loop.status().phase, loop.status().problem) == ("failed", "The model is damaged: make it again.")
    assert work.trained == []
