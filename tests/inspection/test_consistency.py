"""`headwater consistency` on tiny models and sentences made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.inspection.consistency import PolicyJudge, RewardJudge, consistency
from headwater.models.layout import load_model
from headwater.runs import Run
from test_chat import make


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "runs" / "r"
    (folder / "samples").mkdir(parents=True)
    (folder / "recipe.yaml").write_text("run: r\ncorpus: {sources: [{samples: reviews}]}\n", encoding="utf-8")
    lines = [
        {"id": str(n), "text": f"The river number {n} is not long.", "source": source, "share": "prompt", "mean": 0.0}
        for n in range(12)
        for source in ("film-reviews", "shop-reviews")
    ]
    content = "".join(json.dumps(line | {"ratings": [0]}) + "\n" for line in lines)
    (folder / "samples" / "reviews.jsonl").write_text(content, encoding="utf-8")
    return Run(tmp_path / "runs", "r")


@pytest.mark.parametrize("kind", ["reward", "language-model"])
def test_a_model_of_either_kind(tmp_path: Path, run: Run, kind: str) -> None:
    folder = make(tmp_path / "m", kind=kind, context=128)
    found = consistency(run, folder, typos=0.5, seed=1, most=20)
    assert found.sentences == 20
    assert found.changes["upper case"].changed == 20
    assert 0 <= found.changes["upper case"].order <= 1
    assert found.changes["upper case"].shift > 0
    assert str(found) == str(consistency(run, folder, typos=0.5, seed=1, most=20))
    assert len(str(found).splitlines()) == 2 + len(found.changes)


def test_a_reward_model_reads_no_more_than_the_positions_that_it_has_learnt(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", kind="reward", positions="learned", context=12)
    judge = RewardJudge(load_model(folder), Tokenizer.load(folder))
    long = "The river is long, and so is the way to the hill and to the town."
    assert np.isfinite(judge.score(["Write."] * 2, [long, "A town."])).all()


def test_a_policy_judges_each_text_by_itself(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", context=128)
    judge = PolicyJudge(load_model(folder), Tokenizer.load(folder))
    texts = ["The river is long.", "A town."]
    together = judge.score(["Write."] * 2, texts)
    np.testing.assert_allclose(together, [judge.score(["Write."], [text])[0] for text in texts], rtol=1e-4)


def test_other_models_and_runs_without_sentences_are_refused(tmp_path: Path, run: Run) -> None:
    with pytest.raises(UserError, match="is no reward model and no policy"):
        consistency(run, make(tmp_path / "c", kind="critic"), 0.1, 1, 20)
    (run.stage("samples") / "reviews.jsonl").unlink()
    with pytest.raises(UserError, match="has no held-out sentences"):
        consistency(run, tmp_path / "c", 0.1, 1, 20)
