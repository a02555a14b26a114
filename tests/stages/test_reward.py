"""The reward stage's measurements: on the first source of the rated set, whether people rated it or labels say it."""

from __future__ import annotations

import json

import pytest

from headwater.recipe import validate
from headwater.rlhf.scoring import RewardEnsemble, RewardModel
from headwater.runs import Stage
from headwater.stages.reward import gate
from tiny import tiny_model
from words import small_tokenizer

PRAISE = ["今天天气很好，我们去公园散步", "语言模型很好", "大学很好，可以学习"]
BLAME = ["天气不好，公园很差", "平台很差，工作很多年", "文本很差，也不可以理解"]


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


def test_a_line_that_is_longer_than_the_positions_that_the_model_has_learnt_is_cut_as_in_training(tmp_path):
    model = tiny_model("reward", vocabulary=394, positions="learned", context=12)
    stage = stage_of(tmp_path, "reviews-zh", lines_of("reviews-zh", PRAISE + BLAME, [[1]] * 3 + [[-1]] * 3))
    found = gate(stage, RewardEnsemble([RewardModel(model, 1.0, 0.0)]), small_tokenizer())
    assert found["pairs"] == 9


def test_ratings_are_measured_on_the_first_source_and_have_a_ceiling(tmp_path, members):
    lines = [
        *lines_of("film-reviews", ["good", "fine and good", "dull", "very dull"], [[3, 2], [2, 2], [-2, -2], [-3, -3]]),
        *lines_of("shop-reviews", ["works well", "broken"], [[3, 3], [-3, -2]]),
    ]
    found = gate(stage_of(tmp_path, "reviews", lines), members, small_tokenizer())
    assert (found["accuracy_source"], found["pairs"], found["rater_ceiling"]) == ("film-reviews", 5, 1.0)
