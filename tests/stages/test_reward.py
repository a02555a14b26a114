"""The reward stage's measurements: on the first source of the rated set, whether people rated it or labels say it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from headwater.feedback.derive import derive_rankings
from headwater.feedback.ratings import import_ratings, read_sentences
from headwater.feedback.store import Store
from headwater.models.layout import load_model, save_model
from headwater.recipe import validate
from headwater.rlhf.scoring import RewardEnsemble, RewardModel, load_reward
from headwater.runs import Stage
from headwater.stages import reward
from headwater.stages.feedback import STORE
from headwater.stages.reward import gate, start_answers
from tiny import lively_model, same_weights, tiny_model, weights_of
from words import small_tokenizer

PRAISE = ["今天天气很好，我们去公园散步", "语言模型很好", "大学很好，可以学习"]
BLAME = ["天气不好，公园很差", "平台很差，工作很多年", "文本很差，也不可以理解"]

SHORT = {"instructions": {"film-reviews": "Write.", "shop-reviews": "Write."}, "opening_words": [1, 1]}


def stage_of(tmp_path, samples, lines):
    folders = {name: tmp_path / name for name in ("samples", "reward")}
    for folder in folders.values():
        folder.mkdir()
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folders["samples"] / "reviews.jsonl").write_text(text, encoding="utf-8")
    recipe = {
        "run": "r", "threads": 1, "corpus": {"sources": [{"samples": samples}]},
        "sft": {"instructions": {"reviews-zh": "写一句评论。", "film-reviews": "Write.", "shop-reviews": "Write."}},
    }  # fmt: skip
    return Stage("reward", validate(recipe, "test"), folders["reward"], {"samples": folders["samples"]})


def lines_of(source, texts, ratings):
    for share in ("train", "prompt"):
        for number, (text, given) in enumerate(zip(texts, ratings, strict=True)):
            line = {"id": f"{share}-{number}", "text": text, "source": source, "share": share}
            yield {**line, "ratings": given, "mean": sum(given) / len(given)}


@pytest.fixture
def members():
    model = tiny_model("reward", vocabulary=394)
    return RewardEnsemble([RewardModel(model, 1.0, 0.0)], 0.0)


def test_labels_are_measured_on_pairs_of_different_ones_and_have_no_ceiling(tmp_path, members):
    stage = stage_of(tmp_path, "reviews-zh", lines_of("reviews-zh", PRAISE + BLAME, [[1]] * 3 + [[-1]] * 3))
    found = gate(stage, members, small_tokenizer())
    assert (found["accuracy_source"], found["pairs"], found["rater_ceiling"]) == ("reviews-zh", 9, None)
    assert found["accuracy"] == found["accuracy_all"]  # there is no other pair
    assert found["bag_of_words"] == 1.0  # it has seen them


def test_ratings_are_measured_on_the_first_source_and_have_a_ceiling(tmp_path, members):
    lines = [
        *lines_of("film-reviews", ["good", "fine and good", "dull", "very dull"], [[3, 2], [2, 2], [-2, -2], [-3, -3]]),
        *lines_of("shop-reviews", ["works well", "broken"], [[3, 3], [-3, -2]]),
    ]
    found = gate(stage_of(tmp_path, "reviews", lines), members, small_tokenizer())
    assert (found["accuracy_source"], found["pairs"], found["rater_ceiling"]) == ("film-reviews", 5, 1.0)


def test_several_members_learn_apart_and_are_one_reward_with_deviation_1(tmp_path):
    lines = [
        *lines_of("film-reviews", ["good", "fine and good", "dull", "very dull"], [[3, 2], [2, 2], [-2, -2], [-3, -3]]),
        *lines_of("shop-reviews", ["works well", "broken"], [[3, 3], [-3, -2]]),
    ]
    lines += [{**line, "share": "select"} for line in lines if line["share"] == "train"]
    lines = [{**line, "id": str(place)} for place, line in enumerate(lines)]
    stage, tokenizer = stage_of(tmp_path, "reviews", lines), small_tokenizer()
    settings = {"members": 2, "pessimism": 0.5, "normalise_samples": 8, "epochs": 1, "precision": "fp32"}
    changes = {"reward": settings, "ppo": {"max_new_tokens": 4}, "pretrain": {"model": {"context": 64}}}
    recipe = validate({**stage.recipe.model_dump(mode="json", exclude_unset=True), **changes, "sft": SHORT}, "test")
    stage = replace(stage, recipe=recipe, parents={name: tmp_path / name for name in ("samples", "sft", "feedback")})
    save_model(lively_model(vocabulary=394), tmp_path / "sft" / "model", pad=tokenizer.pad, eos=tokenizer.end_of_turn)
    tokenizer.save(tmp_path / "sft" / "model", 64)
    (tmp_path / "feedback").mkdir()
    with Store(tmp_path / "feedback" / STORE) as store:
        import_ratings(store, read_sentences(tmp_path / "samples" / "reviews.jsonl"), recipe.sft.instructions)
        for split in ("train", "select"):
            derive_rankings(store, answers=4, rankings_per_sentence=1, tie=0.1, seed=1, split=split)
        store.seal()
    found = reward.run(stage)
    assert found["spread_sft"] > 0
    assert found["spread_heldout"] > 0
    first, second = (load_model(stage.folder / name)[0] for name in ("model", "model-2"))
    assert not same_weights(weights_of(first), weights_of(second))
    assert not list(stage.folder.glob("*-training/checkpoints"))
    members = load_reward(stage.folder, 2, 0.5)
    answers = start_answers(stage, load_model(tmp_path / "sft" / "model")[0], tokenizer)
    scores = members(answers)
    assert float(scores.mean()) == pytest.approx(0, abs=1e-3)
    assert float(scores.std()) == pytest.approx(1, abs=1e-3)
    each = members.each([answer.ids for answer in answers])
    assert found["spread_sft"] == pytest.approx(float(each.std(dim=0).mean()), rel=1e-3)
