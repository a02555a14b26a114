"""Gold questions that somebody makes of a task and takes back."""

from __future__ import annotations

import pytest

from headwater.errors import UserError
from headwater.feedback.agreement.raters import gold_accuracy
from headwater.feedback.answers import is_to_be_judged
from headwater.feedback.judgements import Verdict
from headwater.feedback.queue import gold
from headwater.feedback.queue.queue import Queue
from headwater.feedback.store.store import Store


@pytest.fixture
def work(scene) -> tuple[Queue, int, int, list[int]]:
    """(queue that gives gold questions first, a person, a task, its answers)"""
    answers = scene.answers[:3]
    task = scene.store.add_task("ranking", scene.prompt, answers, shown=answers)
    return Queue(scene.store, gold_share=1.0), scene.person, task, answers


def test_it_is_asked_counts_and_is_taken_back(work: tuple[Queue, int, int, list[int]]) -> None:
    queue, ada, task, (a, b, c) = work
    store = queue.store
    question = gold.make_gold_question(store, task, "2 > 1 = 3")
    given = queue.next_task(ada)
    assert given is not None
    assert given.task == question
    queue.judge(ada, question, "client 1", Verdict(ranking=[[b], [c], [a]]))
    assert gold.gold_questions(store) == [gold.GoldQuestion(question, "写一行影评。", "2 > 1 = 3", 1)]
    assert [(each.right, each.questions) for each in gold_accuracy(store)] == [(1, 1)]
    with pytest.raises(UserError, match="a gold question already"):
        gold.make_gold_question(store, task, "1 > 2 > 3")
    bo = store.add_annotator("Bo")
    assert is_to_be_judged(store, bo, a)
    assert queue.next_task(bo) is not None
    gold.take_back_gold_question(store, question)
    assert gold.gold_questions(store) == []
    assert gold_accuracy(store) == []
    again = queue.next_task(bo)
    assert again is not None
    assert again.task == task
    queue.set_wanted(2)
    with pytest.raises(UserError, match="nothing to take back"):
        gold.take_back_gold_question(store, question)
    assert list(store.rankings("train")) == []  # what was said of it is not learnt from afterwards either
    assert store.problems() == []
    assert gold.make_gold_question(store, task, "1>2＝3") > question


@pytest.mark.parametrize("order", ["", "1", "1 > 4", "1 = 2 = 3", "1 > 1", "best", "0 > 1", "1 > > 2"])
def test_an_order_that_is_none_is_refused(work: tuple[Queue, int, int, list[int]], order: str) -> None:
    queue, _, task, _ = work
    before = queue.store.counts()
    with pytest.raises(UserError):
        gold.make_gold_question(queue.store, task, order)
    assert queue.store.counts() == before


def test_what_it_can_be_made_of(scene, work: tuple[Queue, int, int, list[int]]) -> None:
    queue, ada, task, answers = work
    later = scene.store.add_task("pair", scene.prompt, answers[:2], shown=answers[:2])
    rating = scene.store.add_task("rating", scene.prompt, answers[:1], shown=answers[:1])
    assert [id_ for id_, _ in gold.offered_tasks(scene.store)] == [later, task]
    queue.judge(ada, task, "client 1", Verdict(ranking=[[answers[2]], [answers[0], answers[1]]]))
    assert [id_ for id_, _ in gold.offered_tasks(scene.store)] == [task, later]
    found = gold.candidate(scene.store, task)
    assert list(found.answers.values()) == ["answer 0", "answer 1", "answer 2"]
    assert found.said_first == "3 > 1 = 2"
    assert gold.candidate(scene.store, later).said_first == ""
    for strange in (rating, 99):
        with pytest.raises(UserError):
            gold.candidate(scene.store, strange)


def test_an_adjudicators_word_comes_first(scene: object, store: Store) -> None:
    del scene
    prompt = store.add_prompt([{"role": "user", "content": "Hi"}], source="s", split="train")
    answers = [store.add_response(prompt, text) for text in "ab"]
    task = store.add_task("pair", prompt, answers, shown=answers)
    queue = Queue(store)
    for name, role, order in (("Bo", "annotator", answers), ("Eve", "adjudicator", answers[::-1])):
        queue.judge(store.add_annotator(name, role), task, f"client {name}", Verdict(ranking=[[one] for one in order]))
    assert gold.candidate(store, task).said_first == "2 > 1"
