"""People: tokens, progress, agreement, gold questions, who is too fast, what is in dispute, exports."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pyarrow.parquet as pq

from browsing import Pages, Visitor, add_task
from headwater.feedback.judgements import Verdict
from headwater.feedback.people import find_by_token
from headwater.feedback.queue import Queue

Visit = Callable[..., Visitor]


def test_a_new_person_gets_a_token_that_leads_in_and_can_be_taken_away(pages: Pages, visit: Visit) -> None:
    page = visit().named("Ada").page
    page.goto("/people")
    page.fill("#name", "小明")
    page.select_option("#role", "adjudicator")
    page.get_by_role("button", name="Make a token").click()
    token = page.locator("#token").inner_text()
    person = find_by_token(pages.store, token)
    assert person is not None
    assert (person.name, person.role) == ("小明", "adjudicator")
    page.goto("/people")
    assert token not in page.content()
    other = visit().page
    other.goto(f"/?token={token}")
    assert other.locator(".self").inner_text().split()[0] == "小明"
    row = page.locator("tr", has_text="小明")
    row.get_by_role("button", name="Disable").click()
    row.get_by_text("disabled").wait_for()
    assert find_by_token(pages.store, token) is None
    row.get_by_role("button", name="Enable").click()
    row.get_by_role("button", name="Disable").wait_for()
    row.get_by_role("button", name="New token").click()
    page.locator("#token").wait_for()
    assert find_by_token(pages.store, token) is None


def test_what_people_said_is_measured_and_leaves_as_files(pages: Pages, visit: Visit) -> None:
    store, queue = pages.store, Queue(pages.store, gold_share=1.0)
    names = ("Ada", "Bo")
    people = [store.add_annotator(name) for name in names]
    tasks = [add_task(store, "ranking", ["a" * 600, "b" * 600, "c" * 600], wanted=2) for _ in range(6)]
    gold, right = add_task(store, "ranking", ["good", "bad"])
    del gold
    known, answers = add_task(store, "ranking", ["good", "bad"], gold=[[right[0] + 2], [right[1] + 2]])
    for person, name in zip(people, names, strict=True):
        for number, (task, ids) in enumerate(tasks):
            order = ids if number or name == "Ada" else ids[::-1]
            queue.judge(
                person,
                task,
                f"{name} {task}",
                Verdict(ranking=[[id_] for id_ in order], milliseconds=100 if name == "Bo" else 90_000),
            )
        queue.judge(
            person,
            known,
            f"{name} gold",
            Verdict(ranking=[[answers[0]], [answers[1]]] if name == "Ada" else [[answers[1]], [answers[0]]]),
        )
    visitor = visit().named("Cato")
    page = visitor.page
    page.goto("/people")
    page.get_by_role("link", name="Measure").click()
    bo, ada = (page.locator("tbody tr", has_text=name).first for name in ("Bo", "Ada"))
    assert "too fast" in bo.inner_text()
    assert "too fast" not in ada.inner_text()
    assert "0/1" in bo.inner_text()
    assert "1/1" in ada.inner_text()
    assert "12 / 13" in page.locator(".tiles").inner_text()
    row = page.locator("tr", has_text="Ada · Bo").inner_text()
    assert row.count("[") >= 3  # τ, κ and α with their intervals
    dispute = page.locator(".card", has_text="Which way does the river run?")
    assert (
        dispute.inner_text().splitlines()[1:] == ["Ada: 1 › 2 › 3", "Bo: 3 › 2 › 1"]
        or "Ada: 1 › 2 › 3" in dispute.inner_text()
    )
    with page.expect_download() as got:
        page.locator("tr", has_text="Whole rankings").get_by_role("link", name="JSONL").click()
    lines = [json.loads(line) for line in got.value.path().read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 12
    assert got.value.suggested_filename == "rankings-train.jsonl"
    table = visitor.context.request.get("/people/export/pairs/train.parquet")
    assert pq.read_table(io.BytesIO(table.body())).num_rows == 36
    page.fill("#wanted", "3")
    page.get_by_role("button", name="Set", exact=True).click()
    page.locator(".tiles").get_by_text("12 / 21").wait_for()
