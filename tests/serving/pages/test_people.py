"""People: tokens, progress, agreement, gold questions, who is too fast, what is in dispute, exports."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pyarrow.parquet as pq
import pytest

from browsing import Pages, Visitor, add_task
from headwater.feedback.judgements import Verdict
from headwater.feedback.people import find_by_token
from headwater.feedback.queue.queue import Queue

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
    dispute = page.locator("div.card", has_text="Which way does the river run?")
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


def test_an_admin_makes_a_gold_question_and_takes_it_back(pages: Pages, visit: Visit) -> None:
    store, queue = pages.store, Queue(pages.store, gold_share=1.0)
    task, ids = add_task(store, "ranking", ["fine", "best", "```\nworst\n```"], wanted=3)
    person = store.add_annotator("Bo")
    queue.judge(person, task, "client Bo", Verdict(ranking=[[ids[1]], [ids[0]], [ids[2]]]))
    visitor = visit().named("Cato")
    page = visitor.page
    page.goto("/people")
    page.get_by_text("There are no gold questions yet.").wait_for()
    page.get_by_role("button", name="Show its answers").click()
    form = page.locator("#gold-make")
    assert form.locator("li").count() == 3
    assert "Bo: 2 > 1 > 3" in form.inner_text()
    assert page.input_value("#order") == "2 > 1 > 3"
    page.fill("#order", "2 > 7")
    page.get_by_role("button", name="Make it a gold question").click()
    page.locator(".told.wrong", has_text="no order of the answers 1 to 3").wait_for()
    assert page.input_value("#order") == "2 > 7"
    visitor.wrong.clear()  # the browser tells what was refused
    page.fill("#order", "2 > 1 = 3")
    page.get_by_role("button", name="Make it a gold question").click()
    row = page.locator("#gold tbody tr")
    row.get_by_text("2 > 1 = 3").wait_for()
    given = queue.next_task(store.add_annotator("Eve"))
    assert given is not None
    assert given.task != task
    assert sorted(answer.id for answer in given.answers) == ids
    row.get_by_role("button", name="Take back").click()
    page.get_by_text("There are no gold questions yet.").wait_for()
    given = queue.next_task(store.add_annotator("Fay"))
    assert given is not None
    assert given.task == task
    assert store.problems() == []


def test_an_export_that_would_be_empty_is_no_link(pages: Pages, visit: Visit) -> None:
    task, ids = add_task(pages.store, "ranking", ["a", "b"])
    page = visit().named("Ada").page
    page.goto("/people")
    page.get_by_text("Nothing was ranked, corrected or written yet.").wait_for()
    person = pages.store.add_annotator("Bo")
    Queue(pages.store).judge(person, task, "client Bo", Verdict(ranking=[ids]))  # a tie is a ranking, and no pair
    page.reload()
    links = [str(link.get_attribute("href")) for link in page.locator("a[href^='/people/export/']").all()]
    assert links == [f"/people/export/rankings/train.{form}" for form in ("jsonl", "parquet")]
    assert page.locator("td", has_text="nothing yet").count() == 2
    for link in links:
        assert page.context.request.get(link).ok


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_no_word_of_the_table_is_squeezed_on_a_phone(pages: Pages, visit: Visit, locale: str) -> None:
    for name, role in (("王小明", "adjudicator"), ("Bartholomew Featherstonehaugh", "admin"), ("Bo", "annotator")):
        pages.store.add_annotator(name, role, f"the token of {name}")
    task, ids = add_task(pages.store, "ranking", ["a", "b"])
    del task
    add_task(pages.store, "ranking", ["a", "b"], gold=[[ids[0] + 2], [ids[1] + 2]])
    page = visit(locale=locale, viewport={"width": 360, "height": 740}).named("Ada").page
    page.goto("/people")
    for cell in page.locator("table.stack td.whole").all():
        line = cell.evaluate("cell => parseFloat(getComputedStyle(cell).lineHeight)")
        assert cell.bounding_box()["height"] < 2 * line, cell.inner_text()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
