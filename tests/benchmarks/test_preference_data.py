"""The baselines' benchmark on sets made here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import preference_data
from headwater.corpus.tokenizer import Tokenizer
from headwater.feedback.comparisons import Comparison, Turn
from headwater.models.model import Model
from headwater.rlhf.settings import RewardSettings
from headwater.training.settings import OptimiserSettings
from tiny import tiny_model
from words import small_tokenizer


def comparison(number: int, source: str = "hh-rlhf") -> Comparison:
    answers = (f"good word {number}", f"bad {number}")
    return Comparison((Turn("user", f"request {number}"),), answers, (0, 1), source, "f", ("r", "m"))


def test_pairs_of_one_prompt_stay_together_and_the_order_tells_nothing() -> None:
    train, heldout = preference_data.pairs_of([comparison(number) for number in range(400)], 1000)
    assert len(train) + len(heldout) == 400
    assert 0.5 < len(train) / 400 < 0.7
    assert not {pair.prompt for pair in train} & {pair.prompt for pair in heldout}
    assert 0.4 < sum(pair.first_is_better for pair in train) / len(train) < 0.6
    assert all(pair.first.startswith("good") == pair.first_is_better for pair in train)
    assert sum(map(len, preference_data.pairs_of([comparison(number) for number in range(400)], 50))) == 50


def test_an_order_that_means_something_is_kept() -> None:
    train, _ = preference_data.pairs_of([comparison(number, "alpaca-eval") for number in range(50)], 1000)
    assert all(pair.first_is_better for pair in train)


def test_strengths() -> None:
    lost = Comparison((Turn("user", "q"),), ("a", "b"), (1, 0), "alpaca-eval", "f", ("r", "m"))
    won = [comparison(number, "alpaca-eval") for number in range(3)]
    assert [each.policy for each in preference_data.strengths([*won, lost], resamples=10)] == ["r", "m"]


def starts(_pairs: Sequence[preference_data.DialoguePair]) -> tuple[Model, Tokenizer]:
    return tiny_model(vocabulary=394), small_tokenizer()


QUICK = RewardSettings(epochs=10, optimiser=OptimiserSettings(learning_rate=3e-3), precision="fp32")


@pytest.mark.parametrize(
    "scorer",
    [preference_data.TrainedReward(starts, QUICK, 48), preference_data.FrozenReward(starts, 48)],
    ids=["trained", "frozen"],
)
def test_a_reward_model_learns_which_answer_is_better(scorer: preference_data.Scorer) -> None:
    train, heldout = preference_data.pairs_of([comparison(number) for number in range(60)], 1000)
    result = preference_data.measure(train, heldout, {"reward": lambda: scorer})
    assert result["scorers"]["reward"]["accuracy"] > 0.9
    swapped = [replace(pair, first=pair.second, second=pair.first) for pair in heldout]
    np.testing.assert_allclose(scorer.margins(swapped), -scorer.margins(heldout), atol=1e-4)


def test_a_model_from_scratch_reads_the_whole_dialogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preference_data, "VOCABULARY", 300)
    train, _ = preference_data.pairs_of([comparison(number) for number in range(60)], 1000)
    model, tokenizer = preference_data.fresh(train)
    assert model.config.vocabulary == tokenizer.vocabulary
    ids = preference_data.dialogues_of(train[:1], tokenizer, 100)
    assert len(ids) == 2
    assert all(train[0].prompt in tokenizer.decode(one) for one in ids)
    assert train[0].first in tokenizer.decode(ids[0])


def test_the_table(tmp_path: Path) -> None:
    folder = tmp_path / "hh-rlhf"
    folder.mkdir()
    lines = [
        {"chosen": f"\n\nHuman: q{n}\n\nAssistant: good one {n}", "rejected": f"\n\nHuman: q{n}\n\nAssistant: bad {n}"}
        for n in range(80)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    command = [sys.executable, preference_data.__file__, "--data", str(tmp_path), "--json", str(tmp_path / "out.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| hh-rlhf | " in done.stdout
    assert "oasst holds no comparisons: left out" in done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["hh-rlhf"]["scorers"]["bag of words"]["accuracy"] == 1
    none = subprocess.run([*command[:3], str(folder)], capture_output=True, text=True, check=False)
    assert none.returncode == 1
    assert "has none of the folders hh-rlhf" in none.stderr
