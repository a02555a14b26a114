"""The queue gives every place of a task once, to each person once, and remembers what each of them saw."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest

from headwater.errors import UserError
from headwater.feedback.answers import is_to_be_judged
from headwater.feedback.judgements import SKIP, Verdict
from headwater.feedback.people import disable, enable
from headwater.feedback.queue.adjudication import opinions, waiting
from headwater.feedback.queue.assignments import seen_order
from headwater.feedback.queue.progress import progress
from headwater.feedback.queue.queue import Queue
from headwater.feedback.store.checks import AlreadyJudged
from headwater.feedback.store.store import Store

START = 1_700_000_000
SKIPPED = Verdict(flags=[SKIP])


@dataclass
class Clock:
    now: int = START

    def __call__(self) -> float:
        return self.now


@dataclass
class Work:
    store: Store
    clock: Clock
    queue: Queue
    ada: int
    bo: int
    prompt: int
    answers: list[int]

    def task(self, wanted: int = 1, priority: float = 0.0, **more: object) -> int:
        return self.store.add_task(
            "ranking", self.prompt, self.answers, shown=self.answers, wanted=wanted, priority=priority, **more
        )  # type: ignore[arg-type]

    def order(self, *places: int) -> list[list[int]]:
        return [[self.answers[place]] for place in places]


@pytest.fixture
def work(place: str) -> Iterator[Work]:
    clock = Clock()
    with Store(place, clock=clock) as store:
        prompt = store.add_prompt([{"role": "user", "content": "Hi"}], source="s", split="train")
        answers = [store.add_response(prompt, f"answer {i}", model="m") for i in range(4)]
        people = [store.add_annotator(name) for name in ("Ada", "Bo")]
        yield Work(store, clock, Queue(store, lease_seconds=60, gold_share=0.0), *people, prompt, answers)


def test_the_highest_priority_comes_first_and_stays_until_it_is_judged(work: Work) -> None:
    plain, urgent = work.task(), work.task(priority=0.5)
    given = work.queue.next_task(work.ada)
    assert given is not None
    assert (given.task, given.until, given.conversation) == (urgent, START + 60, [{"role": "user", "content": "Hi"}])
    assert {answer.id: answer.text for answer in given.answers} == {
        id_: f"answer {place}" for place, id_ in enumerate(work.answers)
    }
    work.clock.now += 30
    again = work.queue.next_task(work.ada)
    assert again is not None
    assert (again.task, again.until, again.answers) == (urgent, START + 90, given.answers)
    other = work.queue.next_task(work.bo)
    assert other is not None
    assert other.task == plain
    work.queue.judge(work.ada, urgent, "1", Verdict(ranking=work.order(0, 1)))
    assert work.queue.next_task(work.ada) is None
    work.queue.set_priorities({plain: 2.0})
    with pytest.raises(UserError, match="no task 99"):
        work.queue.set_priorities({99: 1.0})
    with pytest.raises(UserError, match="finite"):
        work.queue.set_priorities({plain: float("nan")})
    assert work.store.problems() == []


def test_a_lease_runs_out_and_can_be_renewed(work: Work) -> None:
    task = work.task()
    assert work.queue.next_task(work.ada) is not None
    assert work.queue.next_task(work.bo) is None
    work.clock.now += 50
    assert work.queue.renew(work.ada, task) == START + 110
    work.clock.now += 50
    assert work.queue.next_task(work.bo) is None
    work.clock.now += 11
    given = work.queue.next_task(work.bo)
    assert given is not None
    assert given.task == task
    with pytest.raises(UserError, match="no longer held for you"):
        work.queue.renew(work.ada, task)
    # What Ada wrote meanwhile is kept all the same.
    work.queue.judge(work.ada, task, "late", Verdict(ranking=work.order(1, 0)))
    work.queue.judge(work.bo, task, "in time", Verdict(ranking=work.order(1, 0)))
    assert len(work.store.judgements()) == 2


def test_several_people_judge_one_task_and_nobody_twice(work: Work) -> None:
    task = work.task(wanted=2)
    cy = work.store.add_annotator("Cy")
    for person in (work.ada, work.bo):
        assert work.queue.next_task(person) is not None
    assert work.queue.next_task(cy) is None
    work.queue.judge(work.ada, task, "1", Verdict(ranking=work.order(0, 1)))
    assert work.queue.next_task(work.ada) is None
    with pytest.raises(AlreadyJudged) as refused:
        work.queue.judge(work.ada, task, "2", Verdict(ranking=work.order(1, 0)))
    assert refused.value.earlier == 1
    assert work.queue.judge(work.ada, task, "1", Verdict(ranking=work.order(0, 1))) == 1
    work.queue.judge(work.bo, task, "3", replace(SKIPPED, note="no idea"))
    assert work.queue.next_task(work.bo) is None
    given = work.queue.next_task(cy)
    assert given is not None
    assert given.task == task
    found = progress(work.store, work.bo)
    assert (found.tasks, found.wanted, found.judged, found.finished) == (1, 2, 1, 0)
    assert (found.own, found.own_left) == (0, 0)
    work.task(gold=work.order(0, 1))
    work.queue.set_wanted(1)
    assert progress(work.store, cy).finished == 1
    assert progress(work.store, cy).own_left == 0


def test_undo_shows_what_was_said_and_a_correction_takes_its_place(work: Work) -> None:
    assert work.queue.last_judged(work.ada) is None
    tasks = [work.task(), work.task()]
    first = work.queue.judge(work.ada, tasks[0], "1", Verdict(ranking=work.order(0, 1, 2, 3), milliseconds=4000))
    second = work.queue.judge(work.ada, tasks[1], "2", SKIPPED)
    given, said = work.queue.last_judged(work.ada) or pytest.fail("nothing to undo")
    assert (given.task, given.until, said["id"], said["flags"]) == (tasks[1], None, second, ["skip"])
    given, said = work.queue.last_judged(work.ada, before=second) or pytest.fail("nothing to undo")
    assert (given.task, said["id"], said["ranking"]) == (tasks[0], first, work.order(0, 1, 2, 3))
    assert said["shown"] == [answer.id for answer in given.answers]
    assert work.queue.last_judged(work.bo) is None
    with pytest.raises(UserError, match="only one's own"):
        work.queue.judge(work.bo, tasks[0], "3", Verdict(ranking=work.order(3, 0)), supersedes=first)
    third = work.queue.judge(work.ada, tasks[0], "3", Verdict(ranking=work.order(3, 0)), supersedes=first)
    assert [row["id"] for row in work.store.judgements()] == [second, third]
    work.queue.judge(work.ada, tasks[1], "4", Verdict(ranking=work.order(1, 2)), supersedes=second)
    assert progress(work.store, work.ada).own == 2
    assert [ranking.groups for ranking in work.store.rankings("train")] == [work.order(3, 0), work.order(1, 2)]


def test_everybody_has_an_order_of_their_own_and_it_is_stored(work: Work) -> None:
    tasks = [work.task(wanted=2) for _ in range(40)]
    orders: Counter[tuple[int, ...]] = Counter()
    for number, (person, _) in enumerate(itertools.product((work.ada, work.bo), tasks)):
        given = work.queue.next_task(person)
        assert given is not None
        id_ = work.queue.judge(person, given.task, str(number), Verdict(flags=["all-bad"]))
        (row,) = (row for row in work.store.judgements() if row["id"] == id_)
        assert row["shown"] == [answer.id for answer in given.answers] == seen_order(given.task, person, work.answers)
        orders[tuple(row["shown"])] += 1
    assert len(orders) > 15  # of 24; each is as likely as any other
    firsts = Counter(order[0] for order in orders.elements())
    assert all(8 <= count <= 34 for count in firsts.values())
    assert work.store.problems() == []


def test_all_kinds_of_tasks(work: Work) -> None:
    a, b = work.answers[:2]
    pair = work.store.add_task("pair", work.prompt, [a, b], shown=[a, b])
    rating = work.store.add_task("rating", work.prompt, [b], shown=[b])
    own = work.store.add_task("demonstration", work.prompt, [], shown=[])
    assert [given.kind for given in [work.queue.next_task(work.ada)] if given] == ["pair"]
    work.queue.judge(work.ada, pair, "1", Verdict(ranking=[[b], [a]], strength=2.0, edit="a, but better", edit_of=a))
    work.queue.judge(
        work.ada, rating, "2", Verdict(axes={"helpful": 3, "honest": 1}, flags=["private"], note="names somebody")
    )
    given = work.queue.next_task(work.ada)
    assert given is not None
    assert (given.task, given.answers) == (own, [])
    with pytest.raises(UserError, match="text alone"):
        work.queue.judge(work.ada, own, "3", Verdict(edit="x", ranking=[[a]]))
    with pytest.raises(UserError, match="no text"):
        work.queue.judge(work.ada, own, "3", Verdict())
    with pytest.raises(UserError, match="edit is empty"):
        work.queue.judge(work.ada, own, "3", Verdict(edit=" "))
    done = work.queue.judge(work.ada, own, "3", Verdict(edit="Hello!"))
    work.queue.judge(work.ada, own, "4", Verdict(edit="Hello there!"), supersedes=done)
    assert [row["edit"] for row in work.store.judgements("demonstration")] == ["Hello there!"]
    with pytest.raises(UserError, match="not among the answers"):
        work.queue.judge(work.bo, pair, "5", Verdict(ranking=[[b], [a]], edit="x", edit_of=work.answers[3]))
    for kind, responses in (("rating", [a, b]), ("pair", [a]), ("demonstration", [a])):
        with pytest.raises(UserError, match=f"kind `{kind}` shows"):
            work.store.add_task(kind, work.prompt, responses, shown=responses)
    assert work.store.problems() == []


def test_who_may_not_judge(work: Work) -> None:
    task = work.task()
    crowd = work.store.add_annotator("many", role="anonymous")
    with pytest.raises(UserError, match="stands for many people"):
        work.queue.next_task(crowd)
    with pytest.raises(UserError, match="no annotator 99"):
        work.queue.next_task(99)
    disable(work.store, "Ada")
    for attempt in (
        lambda: work.queue.next_task(work.ada),
        lambda: work.queue.judge(work.ada, task, "1", Verdict(flags=["all-bad"])),
        lambda: work.queue.renew(work.ada, task),
    ):
        with pytest.raises(UserError, match="may not judge any more"):
            attempt()
    enable(work.store, "Ada")
    assert work.queue.next_task(work.ada) is not None


def test_gold_questions_are_mixed_in_and_never_learnt_from(work: Work) -> None:
    plain = {work.task() for _ in range(60)}
    gold = {work.task(gold=work.order(2, 1)) for _ in range(8)}
    queue = Queue(work.store, gold_share=0.2)
    came: list[int] = []
    while (given := queue.next_task(work.ada)) is not None:
        assert not hasattr(given, "gold")
        assert queue.next_task(work.ada) == given
        queue.judge(work.ada, given.task, str(given.task), Verdict(ranking=work.order(2, 1, 0)))
        came.append(given.task)
    assert set(came) >= plain
    questions = [place for place, task in enumerate(came) if task in gold]
    assert len(questions) == 8
    assert questions[-1] > 20  # spread, not in one heap
    # Others get them too, however many answered: here only these are left for Bo.
    bo = [given for _ in range(40) if (given := queue.next_task(work.bo)) is not None]
    assert {given.task for given in bo} <= gold
    assert len(list(work.store.rankings("train"))) == 60
    assert progress(work.store).tasks == 60
    with pytest.raises(UserError, match="gold question"):
        work.task(gold=[[*work.answers]])


def test_an_adjudicator_settles_what_contradicts(work: Work) -> None:
    judge = work.store.add_annotator("Eve", role="adjudicator")
    alike, against, third = (work.task(wanted=3, priority=p) for p in (0.0, 1.0, 2.0))
    orders = {alike: ((0, 1, 2, 3), (0, 1, 3, 2)), against: ((0, 1), (1, 0)), third: ((0, 1, 2), (2, 1, 0))}
    for task, (one, other) in orders.items():
        work.queue.judge(work.ada, task, f"a{task}", Verdict(ranking=work.order(*one)))
        work.queue.judge(work.bo, task, f"b{task}", Verdict(ranking=work.order(*other), note="sure"))
    assert waiting(work.store) == [against, third]
    assert progress(work.store).contradictory == 2
    assert progress(work.store, judge).own_left == 2
    given = work.queue.next_task(judge)
    assert given is not None
    assert (given.task, given.adjudicates) == (third, True)
    second = work.store.add_annotator("Fay", role="adjudicator")
    other = work.queue.next_task(second)
    assert other is not None
    assert other.task == against
    for adjudicator in (judge, second):  # each has one of the two before them
        assert progress(work.store, adjudicator).own_left == 1
    assert [(said.name, said.note) for said in opinions(work.store, third)] == [("Ada", None), ("Bo", "sure")]
    work.queue.judge(second, against, "s", SKIPPED)
    assert waiting(work.store) == [against, third]
    work.queue.judge(judge, third, "e", Verdict(ranking=work.order(1, 0)))
    assert waiting(work.store) == [against]
    assert work.queue.next_task(judge) is None  # Fay passed over the other, and nobody else asks for it
    learnt = {(ranking.annotator, str(ranking.groups)) for ranking in work.store.rankings("train")}
    assert ("Eve", str(work.order(1, 0))) in learnt
    assert [name for name, _ in learnt].count("Eve") == 1
    assert len(learnt) == 5  # two of `alike`, two of `against`, one of `third`
    assert len(work.store.judgements("ranking")) == 8
    cy = work.store.add_annotator("Cy")
    given = work.queue.next_task(cy)
    assert given is not None
    assert given.task == against  # `third` is settled: nobody else is asked
    work.queue.judge(second, third, "f", Verdict(flags=["all-bad"]))
    # The newest word of an adjudicator counts; that all are bad leaves no ranking to learn.
    assert {ranking.annotator for ranking in work.store.rankings("train")} == {"Ada", "Bo"}
    assert work.store.problems() == []


def test_a_settled_rating_is_the_adjudicators(work: Work) -> None:
    task = work.store.add_task("rating", work.prompt, work.answers[:1], shown=work.answers[:1], wanted=2)
    eve = work.store.add_annotator("Eve", role="adjudicator")
    work.queue.judge(work.ada, task, "1", Verdict(axes={"fluent": 1}))
    work.queue.judge(work.bo, task, "2", Verdict(axes={"fluent": 5}))
    assert [rated.mean for rated in work.store.mean_ratings("train")] == [3.0]
    work.queue.judge(eve, task, "3", Verdict(axes={"fluent": 4}))
    assert [rated.mean for rated in work.store.mean_ratings("train")] == [4.0]


def test_fifty_people_at_once_lose_nothing_and_double_nothing(work: Work) -> None:
    tasks = [work.task(wanted=3) for _ in range(20)]
    people = [work.store.add_annotator(f"person {i}") for i in range(50)]
    leased: list[tuple[int, int]] = []
    acknowledged: list[int] = []

    def judge(person: int) -> None:
        while (given := work.queue.next_task(person)) is not None:
            leased.append((given.task, person))
            for _ in range(2):  # the answer was lost on its way, and the page sends it again
                order = [[answer.id] for answer in given.answers]
                id_ = work.queue.judge(person, given.task, f"{person} {given.task}", Verdict(ranking=order))
            acknowledged.append(id_)

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(judge, people))
    assert len(leased) == len(set(leased)) == 60  # a place each, and none twice
    assert Counter(task for task, _ in leased) == Counter(dict.fromkeys(tasks, 3))
    stored = work.store.judgements()
    assert sorted(row["id"] for row in stored) == sorted(acknowledged) == list(range(1, 61))
    assert {(row["task_id"], row["annotator_id"]) for row in stored} == set(leased)
    assert work.store.counts()["lease"] == 0
    assert progress(work.store).finished == 20
    assert work.store.problems() == []


def test_contradictions_are_counted_for_nobody_who_does_not_settle_them(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes half of the time, at every judgement."""
    work.task(wanted=2)

    def count(_: object) -> list[tuple[int, float]]:
        raise AssertionError("contradictions are counted")

    monkeypatch.setattr("headwater.feedback.queue.progress.contradictory_tasks", count)
    assert progress(work.store, work.ada).own_left == 1


def test_an_answer_is_to_be_judged_until_something_is_said_of_it(work: Work) -> None:
    task, free = work.task(wanted=3), work.store.add_response(work.prompt, "in no task")
    answer = work.answers[2]
    assert is_to_be_judged(work.store, work.ada, answer)
    assert not is_to_be_judged(work.store, work.ada, free)
    work.queue.judge(work.ada, task, "a", Verdict(ranking=work.order(0, 1, 2, 3)))
    assert not is_to_be_judged(work.store, work.ada, answer)
    work.queue.judge(work.bo, task, "b", SKIPPED)  # they may come back to it
    assert is_to_be_judged(work.store, work.bo, answer)
