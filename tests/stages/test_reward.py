"""The reward stage measures the reward model on what its task has: rated sentences, or judged pairs."""

from __future__ import annotations

import json

import pytest

from dialogues import comparisons, lines
from headwater.feedback.recipe_dialogues import read_own, write_own
from headwater.feedback.settings import DialogueSettings
from headwater.recipe import validate
from headwater.rlhf.scoring import RewardEnsemble, RewardModel
from headwater.runs import Stage
from headwater.stages.reward import quality_of
from headwater.tasks.registry import task_of
from tiny import tiny_model
from words import small_tokenizer

RATED = [("good", 3), ("fine and good", 2), ("dull", -2), ("very dull", -3)]


@pytest.fixture
def members():
    return RewardEnsemble([RewardModel(tiny_model("reward", vocabulary=394), 1.0, 0.0)])


def stage_of(tmp_path, **recipe):
    given = {"run": "r", "threads": 1, "corpus": {"sources": [{"samples": "reviews"}]}} | recipe
    return Stage("reward", validate(given, "test"), tmp_path / "reward", {"samples": tmp_path})


def measured(stage, members, rankings):
    tokenizer = small_tokenizer()
    return quality_of(stage, task_of(stage.recipe, stage.parent("samples"), tokenizer), members, rankings, tokenizer)


def test_rated_sentences_by_their_ratings(tmp_path, members):
    told = [
        {"id": f"{share}-{text}", "text": text, "source": "film-reviews", "share": share}
        | {"ratings": [rating] * 2, "mean": rating}
        for share in ("train", "prompt")
        for text, rating in RATED
    ]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told), encoding="utf-8")
    assert measured(stage_of(tmp_path), members, {}).gate == "ratings"


def test_dialogues_by_what_was_judged(tmp_path, members):
    file = lines(tmp_path / "hh.jsonl", comparisons())
    write_own(read_own(DialogueSettings(comparisons=[str(file)]), system_turns=False), tmp_path)
    stage = stage_of(tmp_path, dialogues={"comparisons": [str(file)]})
    assert measured(stage, members, {"train": [], "prompt": []}).gate == "pairs"
