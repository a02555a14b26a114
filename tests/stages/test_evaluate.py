"""What the evaluation measures of a policy's answers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from headwater.corpus.tokenizer import train_tokenizer
from headwater.feedback.halves import half_of
from headwater.feedback.judgements import Judgement
from headwater.feedback.store.store import STORE, Store
from headwater.recipe import validate
from headwater.runs import Stage
from headwater.stages.evaluate import half_of_judges, judges_rankings, panel_of, perplexity_of, win_rates
from headwater.tasks.task import Prompt, user_turn
from tiny import lively_model, tiny_model
from words import small_tokenizer

TEXTS = [f"The {noun} of the {place}, number {n}." for n in range(30) for noun in ("river", "hill") for place in "abc"]
GIVEN = [Prompt((), "The", (), "texts"), Prompt((), "", (), "texts")]


def test_perplexity_is_that_of_the_answers_tokens_after_their_openings():
    tokenizer, model = train_tokenizer(TEXTS, 290), lively_model(vocabulary=290)
    losses = []
    for opening, text in (("The", " river of"), ("", "hill")):
        begin, said = [tokenizer.end_of_text, *tokenizer.encode(opening)], tokenizer.encode(text)
        logits = model(torch.tensor([begin + said]))[0].detach()
        losses += torch.nn.functional.cross_entropy(
            logits[len(begin) - 1 : -1], torch.tensor(said), reduction="none"
        ).tolist()
    expected = math.exp(sum(losses) / len(losses))
    assert perplexity_of(model, GIVEN, [" river of", "hill"], tokenizer) == pytest.approx(expected, rel=1e-4)


def test_answers_without_a_text_have_no_perplexity():
    tokenizer, model = train_tokenizer(TEXTS, 290), lively_model(vocabulary=290)
    assert math.isnan(perplexity_of(model, GIVEN, ["", ""], tokenizer))


def test_the_share_of_ties_stands_beside_the_win_rate_of_which_each_is_half_a_win():
    scores = {
        "lexicon": {"before": np.array([0.0, 0, 0, 1, 2]), "after": np.array([0.0, 0, 1, 0, 3])},
        "reward_model": {"before": np.zeros(5), "after": np.ones(5)},
    }
    texts = {"before": ["a b"] * 5, "after": ["a", "a b", "a b c", "a", "a b"]}
    found = win_rates(scores, texts, resamples=20, seed=1)
    assert found["ties"] == {"lexicon": 2 / 5, "reward_model": 0}
    assert found["win_rate"] == {"lexicon": (2 + 2 / 2) / 5, "reward_model": 1}


def stage_judged_by(tmp_path, *annotators):
    """The evaluation of a run whose policy's answers were judged by these."""
    for name in ("samples", "feedback", "evaluate"):
        (tmp_path / name).mkdir(exist_ok=True)
    lines = [
        {"text": text, "mean": mean, "id": text, "source": "film-reviews", "share": "judge", "ratings": [mean]}
        for text, mean in (("A good film.", 2.0), ("A bad film.", -2.0), ("A fine cast.", 1.0), ("A dull plot.", -1.0))
        for text in (text, f"{text} Yes.", f"{text} Really.")
    ]
    (tmp_path / "samples" / "reviews.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    metrics = {"annotators": dict.fromkeys(annotators, 3)}
    (tmp_path / "feedback" / "manifest.json").write_text(json.dumps({"metrics": metrics}))
    recipe = validate({"run": "r", "corpus": {"sources": [{"samples": "reviews"}]}}, "test")
    parents = {name: tmp_path / name for name in ("samples", "feedback")}
    return Stage("evaluate", recipe, tmp_path / "evaluate", parents)


@pytest.mark.parametrize(
    ("annotators", "judges"),
    [
        ([], {"reward_model", "bag_of_words", "lexicon"}),
        (["Ada"], {"reward_model", "bag_of_words", "lexicon"}),
        (["simulated:lexicon"], {"reward_model", "bag_of_words"}),
        (["Ada", "simulated:lexicon", "simulated:judge"], {"reward_model", "bag_of_words"}),
        (["simulated:judge"], {"reward_model", "bag_of_words", "lexicon"}),
    ],
)
def test_whoever_judged_in_training_is_no_judge_of_the_outcome(tmp_path, annotators, judges):
    stage, tokenizer = stage_judged_by(tmp_path, *annotators), small_tokenizer()
    given = [Prompt(user_turn("Write."), "", (), "film-reviews")] * 2
    texts = {"before": ["A bad film.", "A dull one."], "after": ["A good film.", "A fine one."]}
    judge = tiny_model("reward", vocabulary=tokenizer.vocabulary)
    found = panel_of(stage, judge, tokenizer).scores(given, texts)
    assert found.keys() == judges
    assert all(scores[name].shape == (2,) for scores in found.values() for name in texts)
    assert (found["bag_of_words"]["after"] > found["bag_of_words"]["before"]).all()


@pytest.mark.parametrize("annotators", [[], ["simulated:lexicon"], ["simulated:judge"]])
def test_the_judges_learn_from_what_the_simulated_judge_did_not(tmp_path, annotators):
    (tmp_path / "feedback").mkdir()
    with Store(tmp_path / "feedback" / STORE) as store:
        ada = store.add_annotator("Ada")
        for place in range(30):
            prompt = store.add_prompt(list(user_turn(f"Write, {place}.")), source="x", split="judge")
            good, bad = (store.add_response(prompt, text) for text in ("Good.", "Bad."))
            ranking = [[good], [bad]]
            store.judge(Judgement(kind="ranking", client_id=str(place), annotator=ada, prompt=prompt, ranking=ranking))
        store.seal()
    stage = stage_judged_by(tmp_path, *annotators)
    learnt = {ranking.conversation[0]["content"] for ranking in judges_rankings(stage)}
    every = {f"Write, {place}." for place in range(30)}
    if annotators == ["simulated:judge"]:
        assert half_of_judges(stage) == "judge"
        assert learnt == {said for said in every if half_of(said) == "judge"}
        assert 5 < len(learnt) < 25
    else:
        assert half_of_judges(stage) is None
        assert learnt == every
