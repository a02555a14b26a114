"""Writing demonstrations, rating on scales, correcting."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select

from browsing import Pages, Visitor, add_task
from headwater.corpus.shares import share_of
from headwater.feedback.store.schema import PROMPT

Visit = Callable[..., Visitor]


def test_a_demonstration_is_kept_with_its_request_and_its_draft_survives(pages: Pages, visit: Visit) -> None:
    page = visit(locale="zh-CN").named("Ada").page
    page.goto("/annotate")
    page.fill("#request", "河往哪边流？")
    page.fill("#text", "往东流。\n```\n东\n```")
    page.reload()
    assert page.input_value("#text") == "往东流。\n```\n东\n```"
    page.locator("#write").get_by_role("button", name="保存").click()
    page.locator("#news", has_text="已保存").wait_for()
    assert page.input_value("#text") == ""
    (said,) = pages.store.judgements("demonstration")
    assert said["edit"] == "往东流。\n```\n东\n```"
    with pages.store.reading() as connection:
        prompt = connection.execute(select(PROMPT)).mappings().one()
    assert prompt["conversation"] == [{"role": "user", "content": "河往哪边流？"}]
    assert (prompt["source"], prompt["split"]) == ("written", share_of("河往哪边流？"))


def test_answers_are_rated_on_scales_also_ones_own_and_corrected(pages: Pages, visit: Visit) -> None:
    _, ids = add_task(pages.store, "ranking", ["first", "second", "third"])
    visitor = visit().named("Ada")
    page = visitor.page
    page.goto("/annotate")
    page.locator("#asked", has_text="third").wait_for()
    page.get_by_role("button", name="Another one").click()
    page.locator("#asked", has_text="second").wait_for()
    page.get_by_label("A scale of your own").fill("Length")
    page.get_by_role("button", name="Add").click()
    page.get_by_role("group", name="Length").get_by_label("1").check()
    page.get_by_role("group", name="Helpful").get_by_label("5").check()
    page.fill("#better", "second, and better")
    page.reload()
    page.locator("#asked", has_text="second").wait_for()
    assert page.input_value("#better") == "second, and better"
    page.locator("#rate").click()
    visitor.news("Kept. Thank you.")
    (said,) = pages.store.judgements("rating")
    assert (said["response_id"], said["axes"]) == (ids[1], {"Length": 1, "helpful": 5})
    assert (said["edit"], said["edit_of"]) == ("second, and better", ids[1])
    page.locator("#asked", has_text="third").wait_for()
    page.locator("#rate").click()
    page.locator("#news", has_text="Nothing was said").wait_for()
    visitor.wrong.clear()  # the browser tells that it was refused
