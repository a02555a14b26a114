"""`headwater consistency` on tiny models and sentences made here."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.evaluation.consistency import REWORDED
from headwater.feedback.judgements import Judgement
from headwater.feedback.store.store import STORE, Store
from headwater.inspection.consistency import PolicyJudge, RewardJudge, consistency, in_other_words, judge_of
from headwater.models.layout import load_model
from headwater.rlhf.scoring import RewardModel
from headwater.runs import Run
from headwater.tasks.task import user_turn
from test_chat import make

MEMBERS = ((1, "model"), (2, "model-2"))


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
    assert (found.texts, found.count) == ("sentences", 20)
    assert found.changes["upper case"].changed == 20
    assert 0 <= found.changes["upper case"].order <= 1
    assert found.changes["upper case"].shift > 0
    assert str(found) == str(consistency(run, folder, typos=0.5, seed=1, most=20))
    assert len(str(found).splitlines()) == 2 + len(found.changes)


def test_a_reward_model_reads_no_more_than_the_positions_that_it_has_learnt(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", kind="reward", positions="learned", context=12)
    judge = RewardJudge(RewardModel(load_model(folder), 1.0, 0.0), Tokenizer.load(folder))
    long = "The river is long, and so is the way to the hill and to the town."
    assert np.isfinite(judge.score([user_turn("Write.")] * 2, [long, "A town."])).all()


def test_a_policy_judges_each_text_by_itself(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", context=128)
    judge = PolicyJudge(load_model(folder), Tokenizer.load(folder))
    texts = ["The river is long.", "A town."]
    together = judge.score([user_turn("Write.")] * 2, texts)
    np.testing.assert_allclose(together, [judge.score([user_turn("Write.")], [text])[0] for text in texts], rtol=1e-4)


def test_several_reward_models_judge_together(tmp_path: Path, run: Run) -> None:
    first, second = (make(tmp_path / "reward" / name, kind="reward", context=128, seed=seed) for seed, name in MEMBERS)
    conversations, texts = [user_turn("Write.")] * 2, ["The river is long.", "A town."]
    scores = {}
    for folder in (first, second):
        alone = copytree(folder, tmp_path / folder.name / "other")
        scores[folder.name] = judge_of(alone, Tokenizer.load(folder)).score(conversations, texts)
    together = judge_of(first, Tokenizer.load(first))
    expected = (scores["model"] + scores["model-2"]) / 2
    np.testing.assert_allclose(together.score(conversations, texts), expected, rtol=1e-4, atol=1e-6)
    assert not np.allclose(scores["model"], scores["model-2"])
    assert consistency(run, first, typos=0.5, seed=1, most=20).count == 20


def of_dialogues(run: Run, prompts: int = 12) -> None:
    """Makes it one whose people compared two answers to each prompt, every second one of which ends a longer dialogue."""
    files = "dialogues: {comparisons: [hh.jsonl]}"
    (run.folder / "recipe.yaml").write_text(f"run: r\n{files}\ncorpus: {{sources: [{{folder: x}}]}}\n")
    (run.folder / "feedback").mkdir()
    with Store(run.folder / "feedback" / STORE) as store:
        ada = store.add_annotator("Ada")
        for number in range(prompts):
            before = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Yes?"}]
            said = [*(before if number % 2 else []), {"role": "user", "content": f"Tell me of river {number}."}]
            prompt = store.add_prompt(said, source="x", split="prompt" if number < 10 else "train")
            ids = [store.add_response(prompt, f"River {number} is {word}.") for word in ("not long", "a fine one")]
            ranking = [[one] for one in ids]
            for time in range(2):  # the second time the other way round
                judgement = Judgement(
                    kind="ranking", client_id=f"{number} {time}", annotator=ada, prompt=prompt, ranking=ranking[:: 1 - 2 * time],
                )  # fmt: skip
                store.judge(judgement)
        store.seal()


@pytest.mark.parametrize("kind", ["reward", "language-model"])
def test_dialogues_are_judged_on_people_s_answers_to_held_out_prompts(tmp_path: Path, run: Run, kind: str) -> None:
    of_dialogues(run)
    folder = make(tmp_path / "m", kind=kind, context=48)
    found = consistency(run, folder, typos=0.5, seed=1, most=400)
    assert (found.texts, found.count) == ("answers", 20)
    assert found.changes["upper case"].changed == 20
    assert found.changes[REWORDED].changed == 20
    assert 0 <= found.changes["upper case"].order <= 1  # two answers to one prompt were compared
    assert "answers changed" in str(found)
    few = consistency(run, folder, typos=0.5, seed=1, most=5)
    assert few.count == 4  # whole prompts
    assert 0 <= few.changes["upper case"].order <= 1


def test_dialogues_that_nobody_judged_are_one_sentence(tmp_path: Path, run: Run) -> None:
    of_dialogues(run, prompts=0)
    with pytest.raises(UserError, match="no judged answers to held-out prompts: run it up to its feedback stage"):
        consistency(run, tmp_path, 0.1, 1, 20)
    (run.folder / "feedback" / STORE).unlink()
    with pytest.raises(UserError, match="no judged answers to held-out prompts"):
        consistency(run, tmp_path, 0.1, 1, 20)


def test_what_the_user_said_last_is_said_in_other_words() -> None:
    turns = ({"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Yes?"}, *user_turn("Go on."))
    assert in_other_words(turns) == (*turns[:2], *user_turn("Could you go on?"))


def test_other_models_and_runs_without_sentences_are_refused(tmp_path: Path, run: Run) -> None:
    with pytest.raises(UserError, match="is no reward model and no policy"):
        consistency(run, make(tmp_path / "c", kind="critic"), 0.1, 1, 20)
    (run.stage("samples") / "reviews.jsonl").unlink()
    with pytest.raises(UserError, match="has no held-out sentences"):
        consistency(run, tmp_path / "c", 0.1, 1, 20)
