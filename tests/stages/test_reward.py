"""The reward stage measures the reward model on what its task has: rated sentences, or judged pairs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dialogues import comparisons, lines
from headwater.corpus.rated import read_rated
from headwater.feedback.derive import derive_rankings
from headwater.feedback.ratings import import_ratings
from headwater.feedback.recipe_dialogues import read_own, write_own
from headwater.feedback.settings import DialogueSettings
from headwater.feedback.store.store import STORE, Store
from headwater.models.layout import load_model, save_model
from headwater.recipe import validate
from headwater.rlhf.episodes import shuffled_prompts, start_answers
from headwater.rlhf.scoring import RewardEnsemble, RewardModel, load_reward
from headwater.runs import Stage
from headwater.stages import reward
from headwater.stages.reward import quality_of
from headwater.tasks.registry import task_of
from headwater.tasks.task import prompts_that_fit
from tiny import lively_model, same_weights, tiny_model, weights_of
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


def test_several_members_learn_apart_and_are_one_reward_with_deviation_1(tmp_path):
    told = [
        {"text": text, "source": source, "share": share, "ratings": [rating] * 2, "mean": rating}
        for share in ("train", "select", "prompt")
        for source, rated in (("film-reviews", RATED), ("shop-reviews", [("works well", 3), ("broken", -3)]))
        for text, rating in rated
    ]
    folders = {name: tmp_path / name for name in ("samples", "sft", "feedback", "reward")}
    for folder in folders.values():
        folder.mkdir()
    content = "".join(json.dumps({**line, "id": str(place)}) + "\n" for place, line in enumerate(told))
    (folders["samples"] / "reviews.jsonl").write_text(content, encoding="utf-8")
    settings = {"members": 2, "pessimism": 0.5, "normalise_samples": 8, "epochs": 1, "precision": "fp32"}
    short = {"instructions": {"film-reviews": "Write.", "shop-reviews": "Write."}, "opening_words": [1, 1]}
    changes = {"reward": settings, "ppo": {"max_new_tokens": 4}, "pretrain": {"model": {"context": 64}}, "sft": short}
    stage, tokenizer = replace(stage_of(tmp_path, **changes), parents=folders), small_tokenizer()
    save_model(lively_model(vocabulary=394), tmp_path / "sft" / "model", pad=tokenizer.pad, eos=tokenizer.end_of_turn)
    tokenizer.save(tmp_path / "sft" / "model", 64)
    with Store(tmp_path / "feedback" / STORE) as store:
        import_ratings(store, read_rated(tmp_path / "samples" / "reviews.jsonl"), short["instructions"])
        for split in ("train", "select"):
            derive_rankings(store, answers=4, rankings_per_sentence=1, tie=0.1, seed=1, split=split)
        store.seal()
    found = reward.run(stage)
    assert found["spread_sft"] > 0
    assert found["spread_heldout"] > 0
    first, second = (load_model(stage.folder / name) for name in ("model", "model-2"))
    assert not same_weights(weights_of(first), weights_of(second))
    assert not list(stage.folder.glob("*-training/checkpoints"))
    members = load_reward(stage.folder, 2, 0.5)
    task = task_of(stage.recipe, tmp_path / "samples", tokenizer)
    prompts = shuffled_prompts(prompts_that_fit(task.prompts("train"), stage.recipe, "train"), stage.seed)
    sft = load_model(tmp_path / "sft" / "model")
    answers = start_answers(prompts[:8], sft, stage.recipe.ppo, tokenizer, stage.seed)
    scores = members(answers)
    assert float(scores.mean()) == pytest.approx(0, abs=1e-3)
    assert float(scores.std()) == pytest.approx(1, abs=1e-3)
    each = members.each([answer.ids for answer in answers])
    assert found["spread_sft"] == pytest.approx(float(each.std(dim=0).mean()), rel=1e-3)
