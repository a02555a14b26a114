"""Agreement out of the store against independent implementations; gold questions; who is too fast."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import krippendorff
import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.metrics import cohen_kappa_score

from headwater.feedback.agreement.rater_agreement import agreement, agreement_of_people
from headwater.feedback.agreement.raters import gold_accuracy, is_right, reading_seconds, speeds
from headwater.feedback.judgements import SKIP, Judgement, Verdict
from headwater.feedback.queue.queue import Queue
from headwater.feedback.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "feedback.db", clock=lambda: 1_700_000_000) as opened:
        yield opened


def ranking_of(ranks: dict[int, int]) -> list[list[int]]:
    return [[id_ for id_ in ranks if ranks[id_] == rank] for rank in sorted(set(ranks.values()))]


def filled(store: Store, tasks: int, seed: int) -> dict[str, list[dict[int, int]]]:
    """Rankings of four answers by three people, with ties and gaps: {name: ranks per task}."""
    generator = np.random.default_rng(seed)
    prompt = store.add_prompt([{"role": "user", "content": "Hi"}], source="s", split="train")
    people = {name: store.add_annotator(name) for name in ("Ada", "Bo", "Cy")}
    queue, said = Queue(store), {name: [] for name in people}  # type: ignore[var-annotated]
    for number in range(tasks):
        answers = [store.add_response(prompt, f"{number} {i}") for i in range(4)]
        task = store.add_task("ranking", prompt, answers, shown=answers, wanted=3)
        truth = generator.permutation(4)
        for name, person in people.items():
            ranks = np.clip(truth + generator.integers(-1, 2, size=4), 0, 3)
            kept = [place for place in range(4) if generator.random() < 0.85]
            given = {answers[place]: int(ranks[place]) for place in kept}
            said[name].append(given)
            if given:
                queue.judge(person, task, f"{name} {number}", Verdict(ranking=ranking_of(given)))
            else:
                queue.judge(person, task, f"{name} {number}", Verdict(flags=[SKIP]))
    return said


def signs(one: dict[int, int], other: dict[int, int]) -> list[tuple[int, int]]:
    both = sorted(one.keys() & other.keys())
    return [
        (int(np.sign(one[b] - one[a])), int(np.sign(other[b] - other[a]))) for a, b in itertools.combinations(both, 2)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_agreement_out_of_the_store(store: Store, seed: int) -> None:
    said = filled(store, 12, seed)
    report = agreement(store, resamples=50)
    kappas = []
    for (one, other), found in report.pairs.items():
        labels = [pair for a, b in zip(said[one], said[other], strict=True) for pair in signs(a, b)]
        kappas.append(cohen_kappa_score([a for a, _ in labels], [b for _, b in labels]))
        assert found.kappa is not None
        assert found.kappa.value == pytest.approx(kappas[-1], abs=1e-12)
        assert found.kappa.low <= found.kappa.value <= found.kappa.high
        mine, theirs = np.array(labels).T
        assert found.tau is not None
        assert found.tau.value == pytest.approx((mine @ theirs) / np.sqrt((mine @ mine) * (theirs @ theirs)), abs=1e-12)
        assert found.weighted is None
        right = [(1 + a * b) / 2 for a, b in labels if b] + [(1 + a * b) / 2 for a, b in labels if a]
        assert found.order is not None
        assert found.order.value == pytest.approx(np.mean(right), abs=1e-12)
        assert found.order.low <= found.order.value <= found.order.high
    assert set(report.pairs) == {("Ada", "Bo"), ("Ada", "Cy"), ("Bo", "Cy")}
    assert report.overall.kappa is not None
    assert report.overall.kappa.value == pytest.approx(np.mean(kappas), abs=1e-12)
    # α of all three: one column per two answers of a task, one row per person, NaN where somebody did not rank both.
    columns = []
    for number in range(12):
        answers = sorted({id_ for name in said for id_ in said[name][number]})
        for a, b in itertools.combinations(answers, 2):
            ranks = [said[name][number] for name in said]
            columns.append([np.sign(r[b] - r[a]) if a in r and b in r else np.nan for r in ranks])
    expected = krippendorff.alpha(reliability_data=np.array(columns).T, level_of_measurement="nominal")
    assert report.overall.alpha is not None
    assert report.overall.alpha.alpha == pytest.approx(expected, abs=1e-9)
    assert report.overall.alpha.low <= report.overall.alpha.alpha <= report.overall.alpha.high


def test_of_one_task_tau_is_the_textbooks(store: Store) -> None:
    said = filled(store, 1, 5)
    found = agreement(store, resamples=0).pairs["Ada", "Bo"]
    one, other = said["Ada"][0], said["Bo"][0]
    both = sorted(one.keys() & other.keys())
    expected = kendalltau([one[id_] for id_ in both], [other[id_] for id_ in both]).statistic
    assert found.tau is not None
    assert found.tau.value == pytest.approx(expected)


def test_strengths_are_weighted_and_ratings_have_an_alpha(store: Store) -> None:
    prompt = store.add_prompt([{"role": "user", "content": "Hi"}], source="s", split="train")
    ada, bo, eve = store.add_annotator("Ada"), store.add_annotator("Bo"), store.add_annotator("Eve", "adjudicator")
    queue, generator = Queue(store), np.random.default_rng(1)
    labels: list[tuple[int, int]] = []
    rated: list[list[float]] = []
    for number in range(15):
        answers = [store.add_response(prompt, f"{number} {i}") for i in range(2)]
        pair = store.add_task("pair", prompt, answers, shown=answers, wanted=2)
        rating = store.add_task("rating", prompt, answers[:1], shown=answers[:1], wanted=2)
        truth = int(generator.integers(-2, 3))
        own = [int(np.clip(truth + generator.integers(-1, 2), -3, 3)) for _ in range(2)]
        labels.append((own[0], own[1]))
        rated.append([float(value) for value in own])
        for person, value in zip((ada, bo), own, strict=True):
            better = [answers] if value == 0 else [[answers[value < 0]], [answers[value > 0]]]
            queue.judge(person, pair, f"p{person} {number}", Verdict(ranking=better, strength=float(abs(value))))
            queue.judge(person, rating, f"r{person} {number}", Verdict(axes={"helpful": value}))
        queue.judge(eve, pair, f"e{number}", Verdict(ranking=[answers]))
    report = agreement(store, resamples=20)
    one, other = zip(*labels, strict=True)
    assert report.overall.weighted is not None
    assert report.overall.weighted.value == pytest.approx(cohen_kappa_score(one, other, weights="linear"), abs=1e-12)
    assert list(report.pairs) == [("Ada", "Bo")]  # the adjudicator is none of them
    expected = krippendorff.alpha(reliability_data=np.array(rated).T, level_of_measurement="interval")
    assert report.ratings["helpful"].alpha == pytest.approx(expected, abs=1e-9)


def test_nobody_judged_twice(store: Store) -> None:
    report = agreement(store)
    assert report.overall.tau is report.overall.kappa is report.overall.alpha is report.overall.order is None
    assert (report.pairs, report.ratings) == ({}, {})
    found = agreement_of_people(store).metrics()
    assert found.pop("tasks_of_several") == 0
    assert set(found) == {
        f"{name}{end}"
        for name in ("kendall_tau", "cohen_kappa", "krippendorff_alpha", "same_order")
        for end in ("", "_ci")
    }
    assert set(found.values()) == {None}


def test_the_ceiling_is_that_of_people_alone(store: Store) -> None:
    """Ada and Bo agree in 6 of 8 pairs, Ada and a program in none; the program counts among all, not among people."""
    prompt = store.add_prompt([{"role": "user", "content": "Hi"}], source="s", split="train")
    ada, bo = store.add_annotator("Ada"), store.add_annotator("Bo")
    program = store.add_annotator("simulated:lexicon", "simulated")
    for number in range(8):
        one, other = (store.add_response(prompt, f"{number} {i}") for i in range(2))
        task = store.add_task("pair", prompt, [one, other], shown=[one, other], wanted=3)
        forwards, backwards = [[one], [other]], [[other], [one]]
        orders = {ada: forwards, bo: forwards if number < 6 else backwards, program: backwards}
        for person, ranking in orders.items():
            judged = Judgement(
                kind="pair", client_id=f"{person} {number}", annotator=person, prompt=prompt, task=task, ranking=ranking
            )
            store.judge(judged)
    found = agreement_of_people(store).metrics()
    assert (found["tasks_of_several"], found["same_order"]) == (8, 6 / 8)
    low, high = found["same_order_ci"]
    assert low < 6 / 8 < high <= 1
    everybody = agreement(store).overall
    assert everybody.order is not None
    assert everybody.order.value == pytest.approx((6 + 0 + 2) / 24)


def test_gold_accuracy(store: Store) -> None:
    prompt = store.add_prompt([{"role": "user", "content": "Hi"}], source="s", split="train")
    a, b, c = (store.add_response(prompt, text) for text in "abc")
    ada, bo = store.add_annotator("Ada"), store.add_annotator("Bo")
    queue = Queue(store)
    for number in range(10):
        task = store.add_task("ranking", prompt, [a, b, c], shown=[a, b, c], gold=[[a], [b, c]])
        queue.judge(ada, task, f"a{number}", Verdict(ranking=[[a], [c], [b]] if number < 8 else [[b], [a], [c]]))
        if number < 3:
            queue.judge(bo, task, f"b{number}", Verdict(flags=[SKIP]))
    (found,) = gold_accuracy(store)
    assert (found.name, found.right, found.questions, found.accuracy) == ("Ada", 8, 10, 0.8)
    # Wilson's formula, written out.
    z, share, n = 1.959963984540054, 0.8, 10
    centre, spread = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    assert (found.low, found.high) == pytest.approx(
        ((centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n))
    )
    assert store.judgements(superseded=True)
    assert agreement(store).overall.tasks == 0


@pytest.mark.parametrize(
    ("ranking", "right"),
    [([[1], [2], [3]], True), ([[1], [3], [2]], True), ([[1, 2], [3]], False), ([[1], [2]], False), (None, False)],
)
def test_what_is_right(ranking: list[list[int]] | None, right: bool) -> None:
    assert is_right([[1], [2, 3]], ranking) is right


def test_who_is_too_fast(store: Store) -> None:
    prompt = store.add_prompt([{"role": "user", "content": "x" * 300}], source="s", split="train")
    answers = [store.add_response(prompt, "y" * 600), store.add_response(prompt, "好" * 100)]  # 5 + 10 + 5 seconds
    assert reading_seconds("x" * 300) == 5
    assert reading_seconds("好" * 100) == 5
    times = {
        "slow": [90] * 6, "usual": [70, 60, 80, 5, 60], "hurried": [21, 22, 25, 21, 21], "blind": [2, 60, 2, 2, 60],
        "few": [1] * 4,
    }  # fmt: skip
    queue = Queue(store)
    tasks = [store.add_task("pair", prompt, answers, shown=answers, wanted=9) for _ in range(7)]
    for name, seconds in times.items():
        person = store.add_annotator(name)
        for task, value in zip(tasks, seconds, strict=False):
            queue.judge(
                person, task, f"{name} {task}", Verdict(ranking=[[answers[0]], [answers[1]]], milliseconds=value * 1000)
            )
        queue.judge(person, tasks[6], f"{name} skip", Verdict(flags=["skip"], milliseconds=1))
    found = {speed.name: speed for speed in speeds(store)}
    assert {name for name, speed in found.items() if speed.too_fast} == {"blind"}
    assert found["hurried"].others == pytest.approx(31)  # of 90, 60, 2, 1
    assert found["blind"].reading == pytest.approx(0.1)
    for number, name in enumerate(("patient", "thorough", "calm")):
        person = store.add_annotator(name)
        queue.judge(person, tasks[number], name, Verdict(ranking=[answers], milliseconds=90_000))
    # Now the others take 90 seconds: 21 are below a third of that, though the texts can be read in 20.
    found = {speed.name: speed for speed in speeds(store)}
    assert found["hurried"].others == pytest.approx(90)
    assert {name for name, speed in found.items() if speed.too_fast} == {"blind", "hurried"}
    assert (found["usual"].seconds, found["usual"].judgements) == (60, 5)
