"""Judging as a person does it: by keys, by buttons, by dragging; nothing is lost, doubled or put at a wrong place."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browsing import Pages, Visit, Visitor, add_task, add_tasks, begin, press, submit
from headwater.corpus.tokenizer import Tokenizer
from headwater.feedback.formats import exports
from headwater.feedback.importing import import_file
from headwater.feedback.judgements import Groups, Verdict
from headwater.feedback.queue.assignments import seen_order
from headwater.feedback.store.store import Store
from headwater.rlhf.reward_training import ranking_rows


def weak_orders(items: tuple[int, ...]) -> Iterator[Groups]:
    """Every way to rank these with ties: for four there are 75."""
    if not items:
        yield []
    for size in range(1, len(items) + 1):
        for best in itertools.combinations(items, size):
            rest = tuple(item for item in items if item not in best)
            yield from ([list(best), *order] for order in weak_orders(rest))


def standing(pages: Pages) -> list[dict[str, Any]]:
    return pages.store.judgements()


class Noted:
    """An objective that keeps what it is given."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[list[int]], list[int]]] = []

    def prepare(self, answers: list[list[int]], places: list[int], *_: object) -> list[Any]:
        self.seen.append((answers, places))
        return []


def test_every_order_of_four_answers_arrives_in_the_training_of_the_reward_model(
    pages: Pages, visit: Visit, writers: dict[str, Path], tmp_path: Path
) -> None:
    wanted: dict[int, Groups] = {}
    orders = list(weak_orders((0, 1, 2, 3)))
    assert len(orders) == 75
    texts = [[f"Answer {number} {letter}" for letter in "abcd"] for number in range(len(orders))]
    for order, (task, ids) in zip(orders, add_tasks(pages.store, "ranking", texts), strict=True):
        wanted[task] = [[ids[place] for place in group] for group in order]
    visitor = begin(visit)
    for task, groups in wanted.items():
        assert visitor.page.locator("#stand").get_attribute("data-task") == str(task)
        shown = [int(card.get_attribute("data-id") or 0) for card in visitor.page.locator(".answer").all()]
        assert shown == seen_order(task, 1, sorted(shown))
        press(visitor, "".join("=".join(str(shown.index(id_) + 1) for id_ in group) for group in groups))
        submit(visitor)
    said = {row["task_id"]: row for row in standing(pages)}
    assert {task: row["ranking"] for task, row in said.items()} == wanted
    assert all(row["milliseconds"] > 0 and row["shown"] for row in said.values())
    exports.export(pages.store, tmp_path / "all.jsonl", "rankings", "train")
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["ranking"] for line in lines] == list(wanted.values())
    with Store(tmp_path / "again.db") as again:
        import_file(again, tmp_path / "all.jsonl")
        for store in (pages.store, again):
            assert read_by_training(store, writers["tiny/ppo"]) == [
                texts_of(number, order) for number, order in enumerate(orders) if len(order) > 1
            ]


def texts_of(number: int, order: Groups) -> list[set[str]]:
    return [{f"Answer {number} {'abcd'[place]}" for place in group} for group in order]


def read_by_training(store: Store, model: Path) -> list[list[set[str]]]:
    """Every ranking as groups of texts, out of the rows that the reward model is trained on."""
    tokenizer, noted = Tokenizer.load(model), Noted()
    ranking_rows(store.rankings("train"), noted, tokenizer, 512)  # type: ignore[arg-type]
    found = []
    for answers, places in noted.seen:
        texts = [tokenizer.decode(ids).rsplit("Answer", 1)[1].strip() for ids in answers]
        groups = [
            {f"Answer {text}" for text, at in zip(texts, places, strict=True) if at == place}
            for place in sorted(set(places))
        ]
        found.append(groups)
    return found


def test_buttons_and_dragging_rank_too(pages: Pages, visit: Visit) -> None:
    for number in range(2):
        add_task(pages.store, "ranking", [f"{number} {letter}" for letter in "abc"])
    visitor = begin(visit)
    page = visitor.page
    shown = [int(card.get_attribute("data-id") or 0) for card in page.locator(".answer").all()]
    page.get_by_role("button", name="Place answer 2 next").click()
    page.get_by_role("button", name="Place answer 1 next").click()
    page.get_by_role("button", name="Tie answer 3 with the last one").click()
    page.get_by_role("button", name="Answer 3: one step better").click()
    page.get_by_role("button", name="Answer 3: one step better").click()
    page.get_by_role("button", name="Tie answer 2 with the one above").click()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_function("task => document.getElementById('stand').dataset.task !== task", arg="1")
    assert standing(pages)[0]["ranking"] == [[shown[2], shown[1]], [shown[0]]]
    shown = [int(card.get_attribute("data-id") or 0) for card in page.locator(".answer").all()]
    drag(visitor, ".answer:nth-child(1) > header .key", ".order .gap[data-place='0']")
    drag(visitor, ".answer:nth-child(2) > header .key", ".order .gap[data-place='0']")
    drag(visitor, ".answer:nth-child(3) > header .key", ".order .group[data-place='1']")
    drag(visitor, ".order .group[data-place='0'] .chip", ".order .gap[data-place='2']")
    assert page.locator(".order").inner_text().split() == ["1.", "1", "=", "3", "›", "2.", "2"]
    submit(visitor)
    assert standing(pages)[1]["ranking"] == [[shown[0], shown[2]], [shown[1]]]


def drag(visitor: Visitor, source: str, target: str) -> None:
    """By the mouse, with a stop on the way, as a hand does it."""
    page = visitor.page
    page.locator(source).scroll_into_view_if_needed()
    start = page.locator(source).bounding_box()
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(start["x"] + 40, start["y"] + 40)
    page.locator(".ghost").wait_for()
    end = page.locator(target).bounding_box()
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2)
    page.locator(f"{target}.over").wait_for()
    page.mouse.up()
    page.locator(".ghost").wait_for(state="detached")


def test_a_draft_survives_a_reload_and_a_repeated_request_is_stored_once(pages: Pages, visit: Visit) -> None:
    _, ids = add_task(pages.store, "ranking", ["one", "two", "three"])
    visitor = begin(visit)
    page = visitor.page
    press(visitor, "2=1n")
    page.fill("#note", "2 and 1 say the same")
    page.reload()
    page.locator(".answer.placed").nth(1).wait_for()
    assert page.locator(".answer.placed").count() == 2
    assert page.input_value("#note") == "2 and 1 say the same"
    tries: list[Any] = []

    def lose_the_first_answer(route: Any) -> None:
        tries.append(route.request.post_data_json)
        route.fetch()
        route.abort() if len(tries) == 1 else route.continue_()

    page.route("**/judge/say", lose_the_first_answer)
    press(visitor, "3")
    page.keyboard.press("Enter")
    visitor.news("cannot be reached")
    visitor.wrong.clear()  # the browser says that the answer was lost, and so it was
    submit(visitor)
    assert len(tries) == 2
    assert tries[0]["client_id"] == tries[1]["client_id"]
    said = standing(pages)
    assert len(said) == len(pages.store.judgements(superseded=True)) == 1
    shown = seen_order(1, 1, ids)
    assert said[0]["ranking"] == [[shown[1], shown[0]], [shown[2]]]
    assert said[0]["note"] == "2 and 1 say the same"


def test_undo_takes_back_a_step_and_then_what_was_sent(pages: Pages, visit: Visit) -> None:
    for text in ("a", "b"):
        add_task(pages.store, "ranking", [f"{text}1", f"{text}2"])
    visitor = begin(visit)
    press(visitor, "12u")
    assert visitor.page.locator(".answer.placed").count() == 1
    press(visitor, "2")
    submit(visitor)
    first = standing(pages)[0]
    press(visitor, "u")
    visitor.page.get_by_text("You have judged this already").wait_for()
    assert visitor.page.locator(".answer.placed").count() == 2
    visitor.page.get_by_role("button", name="Answer 2: one step better").click()
    submit(visitor)
    said = standing(pages)
    assert len(said) == 1
    assert said[0]["supersedes"] == first["id"]
    assert said[0]["ranking"] == list(reversed(first["ranking"]))
    assert visitor.page.locator("#stand").get_attribute("data-task") == "2"


def test_undo_after_a_skip_says_so_and_it_may_stay(pages: Pages, visit: Visit) -> None:
    for text in ("a", "b"):
        add_task(pages.store, "ranking", [f"{text}1", f"{text}2"])
    visitor = begin(visit)
    press(visitor, "s")
    visitor.page.locator("#stand[data-task='2']").wait_for()
    visitor.news("Skipped. Undo leads back to it.")
    press(visitor, "u")
    visitor.page.get_by_text("You skipped this.").wait_for()
    visitor.page.get_by_role("button", name="Leave it as it was").click()
    visitor.page.locator("#stand[data-task='2']").wait_for()
    assert visitor.page.locator("#why").is_hidden()
    assert [row["flags"] for row in pages.store.judgements(superseded=True)] == [["skip"]]


def test_skip_all_bad_flag_and_an_edit_of_the_best(pages: Pages, visit: Visit) -> None:
    for number in range(4):
        add_task(pages.store, "ranking", [f"{number} left", f"{number} right"])
    visitor = begin(visit)
    press(visitor, "s")
    visitor.page.locator("#stand[data-task='2']").wait_for()
    press(visitor, "b")
    submit(visitor)
    press(visitor, "1f")
    submit(visitor)
    press(visitor, "2e")
    visitor.page.locator("[data-focus=edit]").fill("far better")
    visitor.page.keyboard.press("Escape")
    press(visitor, "1")
    submit(visitor)
    visitor.page.get_by_text("Nothing is left to judge").wait_for()
    skipped, bad, flagged, edited = standing(pages)
    assert (skipped["flags"], skipped["ranking"]) == (["skip"], None)
    assert (bad["flags"], bad["ranking"]) == (["all-bad"], None)
    assert flagged["flags"] == ["flag"]
    assert len(flagged["ranking"]) == 1
    assert edited["edit"] == "far better"
    assert edited["edit_of"] == edited["ranking"][0][0]


def test_what_is_not_placed_is_left_out_only_when_asked_twice(pages: Pages, visit: Visit) -> None:
    add_task(pages.store, "ranking", ["a", "b", "c"])
    visitor = begin(visit)
    press(visitor, "2")
    visitor.page.keyboard.press("Enter")
    visitor.news("Place the answers first")
    press(visitor, "3")
    visitor.page.keyboard.press("Enter")
    visitor.news("Answers without a place: 1")
    assert standing(pages) == []
    submit(visitor)
    assert [len(group) for group in standing(pages)[0]["ranking"]] == [1, 1]


@pytest.mark.parametrize(("keys", "strength", "winner"), [("1", 1, 0), ("22", 2, 1), ("1111", 3, 0), ("2=", 0, None)])
def test_a_pair_has_a_strength(pages: Pages, visit: Visit, keys: str, strength: float, winner: int | None) -> None:
    task, ids = add_task(pages.store, "pair", ["this", "that"])
    visitor = begin(visit)
    press(visitor, keys)
    submit(visitor)
    shown = seen_order(task, 1, ids)
    said = standing(pages)[0]
    assert said["strength"] == strength
    assert said["ranking"] == ([shown] if winner is None else [[shown[winner]], [shown[1 - winner]]])


def test_ratings_and_demonstrations_come_through_the_queue(pages: Pages, visit: Visit) -> None:
    add_task(pages.store, "rating", ["The river runs north."], priority=1.0)
    add_task(pages.store, "demonstration", [])
    visitor = begin(visit)
    visitor.page.get_by_role("group", name="Helpful").get_by_label("4").check()
    visitor.page.get_by_role("group", name="Honest").get_by_label("2").check()
    submit(visitor)
    visitor.page.keyboard.press("Enter")
    visitor.news("Write the answer first")
    visitor.page.fill("#own", "It runs south.")
    visitor.page.keyboard.press("Control+Enter")
    visitor.page.get_by_text("Nothing is left to judge").wait_for()
    rated, written = standing(pages)
    assert rated["axes"] == {"helpful": 4, "honest": 2}
    assert written["edit"] == "It runs south."


def test_an_adjudicator_sees_what_the_others_said(pages: Pages, visit: Visit) -> None:
    _, ids = add_task(pages.store, "ranking", ["a", "b"], wanted=2)
    people = {name: pages.store.add_annotator(name) for name in ("Ada", "Bo")}
    from headwater.feedback.queue.queue import Queue

    queue = Queue(pages.store)
    for name, ranking in (("Ada", [[ids[0]], [ids[1]]]), ("Bo", [[ids[1]], [ids[0]]])):
        queue.next_task(people[name])
        queue.judge(people[name], 1, f"client {name}", Verdict(ranking=ranking))
    pages.store.add_annotator("Cato", "adjudicator", "a token of Cato")
    visitor = visit()
    visitor.page.goto("/?token=a%20token%20of%20Cato&next=/judge")
    visitor.page.get_by_text("your word settles it").wait_for()
    assert "token" not in visitor.page.url
    assert {"Ada", "Bo"} <= set(visitor.page.locator("#why").inner_text().replace(":", " ").split())
    press(visitor, "12")
    submit(visitor)
    assert [row.annotator for row in pages.store.rankings("train")] == ["Cato"]
