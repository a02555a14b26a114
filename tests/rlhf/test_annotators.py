"""Simulated annotators: whose words they know, what they learn from, and that they are named in the store."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sqlalchemy import select

from headwater.errors import UserError
from headwater.evaluation.judges import SENTIMENT_WORDS
from headwater.feedback.collecting import refuse_round_without_order
from headwater.feedback.halves import halved
from headwater.feedback.judgements import Judgement
from headwater.feedback.store.schema import ANNOTATOR
from headwater.feedback.store.store import STORE, Store
from headwater.models.layout import save_model
from headwater.recipe import validate
from headwater.rlhf import annotators
from headwater.rlhf.annotators import JUDGE, LEXICON, judge_by_simulation
from headwater.rlhf.asking import Asked
from headwater.runs import Stage
from tiny import tiny_model
from words import small_tokenizer

CONTEXT = 64


def stage_of(folder, annotator, source="reviews", dialogues=None):
    """The feedback stage of a second round."""
    tokenizer, size = small_tokenizer(), {"vocabulary": small_tokenizer().vocabulary}
    for name in ("samples", "feedback"):
        (folder / name).mkdir()
    for name, model in (("ppo", tiny_model(**size)), ("pretrain", tiny_model(seed=2, **size))):
        save_model(model, folder / name / "model", pad=tokenizer.pad, eos=tokenizer.end_of_turn)
        tokenizer.save(folder / name / "model", CONTEXT)
    sources = ("reviews-zh",) if source == "reviews-zh" else ("film-reviews", "shop-reviews")
    recipe = {
        "run": "r", "threads": 1, "corpus": {"sources": [{"samples": source}]},
        "sft": {"instructions": dict.fromkeys(sources, "Write.")}, "pretrain": {"model": {"context": CONTEXT}},
        "feedback": {"annotator": annotator}, "round": {"of": "before", "number": 2},
        "reward": {"epochs": 4, "batch_rankings": 4, "optimiser": {"learning_rate": 3e-3}, "precision": "fp32"},
    }  # fmt: skip
    if dialogues is not None:
        recipe["dialogues"] = dialogues
    parents = {"samples": folder / "samples", "pretrain": folder / "pretrain", "ppo of before": folder / "ppo"}
    return Stage("feedback", validate(recipe, "test"), folder / "feedback", parents)


def rated(folder, source, texts):
    """Sentences of the judges' share."""
    lines = [
        {"id": str(place), "text": text, "source": source, "share": "judge", "mean": 1.0, "ratings": [1]}
        for place, text in enumerate(texts)
    ]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / "samples" / "reviews.jsonl").write_text(content, encoding="utf-8")


def asked_of(store, *groups, share="train", number=2):
    """A task per group of answers to one prompt, which a policy of this round gave."""
    tasks = []
    for place, texts in enumerate(groups):
        conversation = [{"role": "user", "content": f"Write, {place}."}]
        prompt = store.add_prompt(conversation, source="film-reviews", split=share)
        answers = {store.add_response(prompt, text, model="m", sampling={"round": number}): text for text in texts}
        task = store.add_task("ranking", prompt, list(answers), shown=list(answers))
        tasks.append(Asked(task, prompt, share, conversation, answers, judged=False))
    return tasks


def order_of(store, share="train"):
    """The answers of each ranking, best first; those that tie stand together."""
    return [[[r.responses[one] for one in group] for group in r.groups] for r in store.rankings(share)]


GOOD, BAD, PLAIN = "A wonderful, good film.", "A horrible, bad film.", "A film."


def test_the_english_lexicon_ranks_english_answers(tmp_path):
    stage = stage_of(tmp_path, LEXICON)
    rated(tmp_path, "film-reviews", [GOOD])
    with Store(tmp_path / STORE) as store:
        judge_by_simulation(stage, store, asked_of(store, [BAD, GOOD, PLAIN]), made=0)
        assert order_of(store) == [[[GOOD], [PLAIN], [BAD]]]


def test_the_chinese_lexicon_ranks_chinese_answers(tmp_path):
    stage = stage_of(tmp_path, LEXICON, "reviews-zh")
    rated(tmp_path, "reviews-zh", ["房间很好。"])
    words = json.dumps({"praise": ["很好"], "blame": ["很差"]}, ensure_ascii=False)
    (tmp_path / "samples" / SENTIMENT_WORDS).write_text(words, encoding="utf-8")
    with Store(tmp_path / STORE) as store:
        judge_by_simulation(stage, store, asked_of(store, ["房间很差", "房间很好", "房间"]), made=0)
        assert order_of(store) == [[["房间很好"], ["房间"], ["房间很差"]]]
        refuse_round_without_order(stage, store)
        (ranking,) = store.rankings("train")
        assert (ranking.annotator, ranking.round) == (LEXICON, 2)


def test_dialogues_are_judged_in_the_language_of_what_is_asked(tmp_path):
    (tmp_path / "prompts.txt").write_text("讲讲。\n", encoding="utf-8")
    stage = stage_of(tmp_path, LEXICON, dialogues={"prompts": str(tmp_path / "prompts.txt")})
    (tmp_path / "samples" / SENTIMENT_WORDS).write_text('{"praise": ["很好"], "blame": []}', encoding="utf-8")
    for number, (said, best) in enumerate((("讲讲这条河。", "很好。"), ("Tell me of the river.", GOOD))):
        dealt = {"turns": [{"role": "user", "content": said}], "source": "prompts", "share": "train"}
        (tmp_path / "samples" / "prompts.jsonl").write_text(json.dumps(dealt) + "\n", encoding="utf-8")
        with Store(tmp_path / f"{number}.db") as store:
            judge_by_simulation(stage, store, asked_of(store, ["很好。", GOOD]), made=0)
            assert order_of(store)[0][0] == [best]


def test_a_round_in_which_all_answers_tie_is_refused_whatever_other_rounds_said(tmp_path):
    stage = stage_of(tmp_path, LEXICON)
    rated(tmp_path, "film-reviews", [GOOD])
    with Store(tmp_path / STORE) as store:
        first = asked_of(store, [GOOD, BAD], number=1)
        judge_by_simulation(stage, store, first, made=0)
        judge_by_simulation(stage, store, asked_of(store, ["河", "山"], [PLAIN, "Films."]), made=0)
        with pytest.raises(UserError, match=r"simulated:lexicon finds .* in all 2 rankings .* in round 2 equally good"):
            refuse_round_without_order(stage, store)
        judge_by_simulation(stage, store, asked_of(store, [GOOD, PLAIN]), made=0)
        refuse_round_without_order(stage, store)


def judged(store, count=40):
    """People's rankings of the judges' share."""
    ada = store.add_annotator("Ada")
    for place, task in enumerate(asked_of(store, *[[GOOD, BAD]] * count, share="judge", number=1)):
        good, bad = task.answers
        judgement = Judgement(
            kind="ranking", client_id=f"Ada {place}", annotator=ada, prompt=task.prompt, task=task.task,
            ranking=[[good], [bad]],
        )  # fmt: skip
        store.judge(judgement)


def test_the_simulated_judge_learns_from_its_half_of_the_judges_share_alone(tmp_path, monkeypatch):
    stage, learnt = stage_of(tmp_path, JUDGE), []
    real = annotators.train_reward_model

    def training(backbone, rankings, *given, **named):
        learnt.extend(rankings)
        return real(backbone, rankings, *given, **named)

    monkeypatch.setattr(annotators, "train_reward_model", training)
    with Store(tmp_path / STORE) as store:
        judged(store)
        every = list(store.rankings("judge"))
        judge_by_simulation(stage, store, asked_of(store, [BAD, GOOD], [GOOD, BAD]), made=0)
        assert order_of(store) == [[[GOOD], [BAD]]] * 2
        with store.reading() as connection:
            roles = dict(connection.execute(select(ANNOTATOR.c.name, ANNOTATOR.c.role)).all())
    assert roles == {"Ada": "annotator", JUDGE: "simulated"}
    own, others = ({each.id for each in halved(every, half)} for half in ("annotator", "judge"))
    assert {each.id for each in learnt} == own
    assert own
    assert others
    assert not own & others
    assert not (stage.folder / "annotator-training").exists()


def test_a_simulated_judge_that_nobody_taught_is_one_sentence(tmp_path):
    stage = stage_of(tmp_path, JUDGE)
    with Store(tmp_path / STORE) as store, pytest.raises(UserError, match="has nothing to learn from"):
        judge_by_simulation(stage, store, asked_of(store, [GOOD, BAD]), made=0)


def test_equal_scores_tie():
    assert annotators.ranked({3: 0.5, 1: 1.0, 2: 0.5}) == [[1], [2, 3]]
    assert annotators.ranked(dict(zip((1, 2), np.array([0.1, 0.1]).tolist(), strict=True))) == [[1, 2]]
