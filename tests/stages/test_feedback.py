"""The stage writes one whole file, alike every time, and returns the metrics that the report reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headwater.errors import UserError
from headwater.feedback.store.store import Store
from headwater.recipe import Recipe
from headwater.runs import Stage
from headwater.stages import feedback

RECIPE = Recipe.model_validate({"run": "test", "corpus": {"sources": [{"samples": "reviews"}]}})


def make_stage(tmp_path: Path, name: str = "work") -> Stage:
    for folder in (tmp_path / name, tmp_path / "samples"):
        folder.mkdir(exist_ok=True)
    return Stage("feedback", RECIPE, tmp_path / name, parents={"samples": tmp_path / "samples"})


def write_reviews(folder: Path, n: int) -> None:
    generator = np.random.default_rng(0)
    with (folder / "reviews.jsonl").open("w", encoding="utf-8") as lines:
        for i in range(n):
            centre = int(generator.integers(-3, 4))
            review = {
                "id": f"film-{i}", "text": f"Line {i}.", "source": "film-reviews" if i % 3 else "shop-reviews",
                "share": ("train", "train", "judge", "prompt", "select")[i % 5],
                "ratings": [centre + int(noise) for noise in generator.integers(-1, 2, size=15)],
            }  # fmt: skip
            lines.write(json.dumps(review) + "\n")


def test_the_store_and_its_metrics(tmp_path: Path) -> None:
    stage = make_stage(tmp_path)
    write_reviews(stage.parent("samples"), 200)
    (stage.folder / "feedback.db").write_bytes(b"left by a kill")
    metrics = feedback.run(stage)
    assert [path.name for path in stage.folder.iterdir()] == ["feedback.db"]
    assert (metrics["judgements"], metrics["sentences"]) == (3000, 200)
    low, high = metrics["krippendorff_alpha_ci"]
    assert 0.7 < low < metrics["krippendorff_alpha"] < high < 1
    assert set(metrics["krippendorff_alpha_by_source"]) == {"film-reviews", "shop-reviews"}
    json.dumps(metrics)
    with Store(stage.folder / "feedback.db", read_only=True) as store:
        assert store.problems() == []
        counts = store.counts()
        assert (counts["judgement"], counts["response"], counts["derived_ranking"]) == (
            3000,
            200,
            sum(metrics["rankings_by_share"].values()),
        )
        rankings = list(store.rankings("train"))
        assert len(rankings) == metrics["rankings"] > 0
        told = {ranking.conversation[0]["content"] for ranking in rankings}
        assert told == set(RECIPE.sft.instructions.values())
        assert max(len(ranking.responses) for ranking in rankings) in (8, 9)


def test_labels_are_nobodys_opinion_and_have_no_agreement(tmp_path: Path) -> None:
    stage = make_stage(tmp_path)
    recipe = {
        "run": "test", "corpus": {"sources": [{"samples": "reviews-zh"}]},
        "sft": {"instructions": {"reviews-zh": "写一句评论。"}},
    }  # fmt: skip
    stage = replace(stage, recipe=Recipe.model_validate(recipe))
    with (stage.parent("samples") / "reviews.jsonl").open("w", encoding="utf-8") as lines:
        for i in range(120):
            share = ("train", "train", "judge", "prompt", "select")[i % 5]
            review = {"id": f"r-{i}", "text": f"第{i}句。", "source": "reviews-zh", "share": share}
            lines.write(json.dumps({**review, "ratings": [1 if i % 2 else -1]}) + "\n")
    metrics = feedback.run(stage)
    assert metrics["labelled"] is True
    assert metrics["judgements"] == metrics["sentences"] == 120
    assert "krippendorff_alpha" not in metrics
    with Store(stage.folder / "feedback.db", read_only=True) as store:
        assert store.problems() == []
        assert {tuple(said["axes"]) for said in store.judgements()} == {("label",)}
        for ranking in store.rankings("train"):
            assert len(ranking.groups) == 2  # praise above blame, and nothing between


def test_the_same_again_is_the_same_file(tmp_path: Path) -> None:
    stages = [make_stage(tmp_path, name) for name in ("one", "two")]
    write_reviews(tmp_path / "samples", 60)
    assert feedback.run(stages[0]) == feedback.run(stages[1])
    assert (tmp_path / "one/feedback.db").read_bytes() == (tmp_path / "two/feedback.db").read_bytes()


def test_without_sentences_it_says_what_to_do(tmp_path: Path) -> None:
    stage = make_stage(tmp_path)
    with pytest.raises(UserError, match="samples: reviews"):
        feedback.run(stage)
    write_reviews(tmp_path / "samples", 0)
    with pytest.raises(UserError, match="samples: reviews"):
        feedback.run(stage)
