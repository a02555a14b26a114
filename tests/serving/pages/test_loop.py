"""The loop's page: what is waited for, the offer, and what a person decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from browsing import Pages, Visitor
from headwater.loop.cycle import Loop
from paper import Paper
from serving.pages.test_look import HANGS_OVER, NAMELESS

Visit = Callable[..., Visitor]


@pytest.fixture
def paper(pages: Pages, tmp_path: Path) -> Paper:
    """A loop on policies that are only names, but for the run with made-up numbers."""
    work = Paper(first="made-up", tasks={None: 10}, said={None: 3})
    pages.site.loop = Loop(tmp_path / "loop.json", work, 4)
    return work


def test_enough_judgements_make_an_offer_that_is_accepted_and_rolled_back(
    pages: Pages, visit: Visit, paper: Paper
) -> None:
    loop, page = pages.site.loop, visit().named("Ada").page
    assert loop is not None
    page.get_by_role("link", name="Loop").click()
    page.get_by_text("3 of 4 tasks are judged").wait_for()
    assert page.locator("#judged").get_attribute("value") == "3"
    paper.said[None] = 5
    loop.advance()
    page.get_by_role("heading", name="A new policy is ready").wait_for()  # by itself
    assert page.locator(".tile").count() >= 4
    page.get_by_role("button", name="Accept").click()
    page.locator("li", has_text="made-up").get_by_text("served", exact=True).wait_for()
    assert loop.accepted == "made-up"
    page.get_by_role("button", name="Roll back").click()
    page.get_by_text("Declined or rolled back").wait_for()
    assert loop.accepted is None
    paper.said[None] = 10
    loop.advance()
    page.get_by_role("button", name="Decline").click()
    page.get_by_role("heading", name="Everything is judged").wait_for()
    assert loop.state.declined == ("made-up",)


def test_a_problem_is_told_and_tried_again(pages: Pages, visit: Visit, paper: Paper) -> None:
    assert pages.site.loop is not None
    paper.said[None], paper.problem = 5, "The disk is full: <b>make room</b>."
    pages.site.loop.advance()
    page = visit().named("Ada").page
    page.goto("/loop")
    page.get_by_role("alert").get_by_text("The disk is full: <b>make room</b>.").wait_for()
    paper.problem = None
    page.get_by_role("button", name="It is mended").click()
    page.get_by_role("heading", name="Waiting for judgements").wait_for()


def test_without_a_loop_there_is_no_page(pages: Pages, visit: Visit) -> None:
    assert pages.site.loop is None
    page = visit().named("Ada").page
    assert page.get_by_role("link", name="Loop").count() == 0
    assert page.request.get("/loop").status == 404


@pytest.mark.parametrize(("locale", "scheme", "width"), [("zh-CN", "dark", 360), ("en-US", "light", 1100)])
def test_it_looks_whole(pages: Pages, visit: Visit, paper: Paper, locale: str, scheme: str, width: int) -> None:
    assert pages.site.loop is not None
    visitor = visit(locale=locale, color_scheme=scheme, viewport={"width": width, "height": 740}).named("Ada")
    for said in (3, 5):
        paper.said[None] = said
        pages.site.loop.advance()
        visitor.page.goto("/loop")
        assert visitor.page.evaluate(HANGS_OVER) == []
        assert visitor.page.evaluate(NAMELESS) == []
