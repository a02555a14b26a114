"""The benchmark of wrong judgements on a run of toys, and the pairs that it turns round: as many as wanted, the same every time."""

from __future__ import annotations

import json

import pytest
import torch

import flipped_labels
from headwater.corpus.rated import read_rated
from headwater.errors import UserError
from headwater.evaluation.pairs import PairAccuracy
from headwater.feedback.derive import derive_rankings
from headwater.feedback.ratings import import_ratings
from headwater.feedback.store.store import Store
from headwater.manifest import write_manifest
from headwater.models.layout import save_model
from headwater.objectives.preference import Preference
from headwater.rlhf.settings import RewardSettings
from headwater.runs import Run
from headwater.stages.settings import SftSettings
from headwater.training.batch import collate
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
        import_ratings(store, read_rated(path), SftSettings().instructions)
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


def batch(places=(0, 1, 2, 3, 4, 4), rankings=40):
    texts = [[5 + place, 6, 7] for place in range(len(places))]
    groups = [Preference().prepare(texts, places, index) for index in range(rankings)]
    return collate([row for group in groups for row in group])


def turned_round(objective, given):
    first, second, _ = objective.pairs(given)
    place = given.per_row["place"]
    return place[first] > place[second]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
def test_the_share_is_the_one_wanted(share):
    given = batch()
    flipped = turned_round(flipped_labels.FlippedPairs("leave-out", share=share, flips=3), given)
    assert float(flipped.float().mean()) == pytest.approx(share, abs=0.05)
    assert bool(flipped.any()) == (share > 0)


def test_nothing_but_the_order_within_pairs_changes():
    given = batch()
    plain, flipped = Preference().pairs(given), flipped_labels.FlippedPairs(share=0.3, flips=3).pairs(given)
    assert torch.equal(torch.stack(plain[:2]).sort(dim=0).values, torch.stack(flipped[:2]).sort(dim=0).values)
    assert torch.equal(plain[2], flipped[2])


def test_a_pair_is_turned_round_in_every_epoch_or_in_none():
    """Whatever else is in the batch."""
    objective, given = flipped_labels.FlippedPairs("leave-out", share=0.3, flips=3), batch()
    alone = batch(rankings=1)
    count = len(objective.pairs(alone)[0])
    assert torch.equal(turned_round(objective, alone), turned_round(objective, given)[:count])
    other = flipped_labels.FlippedPairs("leave-out", share=0.3, flips=4)
    assert not torch.equal(turned_round(objective, given), turned_round(other, given))


def test_a_whole_ranking_is_no_pair():
    with pytest.raises(ValueError, match="pairs"):
        flipped_labels.FlippedPairs(loss="plackett-luce", share=0.1, flips=1)
