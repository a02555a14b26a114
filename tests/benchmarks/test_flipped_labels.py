"""The benchmark of wrong judgements on a run of toys."""

from __future__ import annotations

import json

import pytest

import flipped_labels
from headwater.errors import UserError
from headwater.evaluation.pairs import PairAccuracy
from headwater.feedback.derive import derive_rankings
from headwater.feedback.ratings import import_ratings, read_sentences
from headwater.feedback.store import Store
from headwater.manifest import write_manifest
from headwater.models.layout import save_model
from headwater.rlhf.settings import RewardSettings
from headwater.runs import Run
from headwater.stages.settings import SftSettings
from headwater.training.settings import OptimiserSettings
from tiny import tiny_model
from words import small_tokenizer

SOURCE = "film-reviews"


@pytest.fixture
def run(tmp_path):
    """A run whose sentences are the better the more often they say "small"."""
    folder = tmp_path / "r"
    for stage in ("samples", "sft", "feedback", "reward"):
        (folder / stage).mkdir(parents=True)
    lines = [
        {
            "id": f"{share}-{index}",
            "text": "streams carry " + "small " * (index % 4) + "matter",
            "source": SOURCE,
            "share": share,
            "mean": float(index % 4),
            "ratings": [index % 4],
        }
        for share in ("train", "prompt")
        for index in range(16)
    ]
    path = folder / "samples" / "reviews.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Store(folder / "feedback" / "feedback.db") as store:
        import_ratings(store, read_sentences(path), SftSettings().instructions)
        derive_rankings(store, answers=4, rankings_per_sentence=1, tie=0.1, seed=1)
        store.seal()
    save_model(tiny_model(vocabulary=394), folder / "sft" / "model", pad=0, eos=4)
    small_tokenizer().save(folder / "sft" / "model", 64)
    settings = {
        "sft": SftSettings(),
        "reward": RewardSettings(epochs=20, batch_rankings=1, optimiser=OptimiserSettings(learning_rate=3e-3)),
    }
    for stage, given in settings.items():
        write_manifest(folder / stage, {"settings": given.model_dump(mode="json")})
    return Run(tmp_path, "r")


def test_a_line_per_share_with_its_interval(run):
    found = flipped_labels.measure(run, [0.0, 0.4], seed=1)
    assert list(found) == [0.0, 0.4]
    for one in found.values():
        assert one.low <= one.accuracy <= one.high
        assert one.pairs == 96
    assert found[0.0].accuracy > 0.8


def test_the_table():
    lines = flipped_labels.table({0.2: PairAccuracy(0.75, 0.7, 0.8, 1234)}).splitlines()
    assert lines[-1] == "| 20% | 0.750 | 0.700 to 0.800 | 1,234 |"


def test_a_run_without_reward_stage_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no finished reward stage"):
        flipped_labels.accuracy_at(Run(tmp_path, "r"), 0.1, 1)


def test_a_run_without_rated_sentences_is_told_before_it_is_trained(run, monkeypatch):
    monkeypatch.setattr(flipped_labels, "train_reward_model", lambda *_, **__: pytest.fail("trained"))
    (run.stage("samples") / "reviews.jsonl").unlink()
    with pytest.raises(UserError, match="has no rated sentences to measure on"):
        flipped_labels.accuracy_at(run, 0.1, 1)
