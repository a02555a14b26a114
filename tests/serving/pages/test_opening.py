"""What answers have in common at their beginning is set apart, so that a reader finds at once where they begin to differ."""

from __future__ import annotations

import pytest

from browsing import Pages, Visit, add_task, begin, press, submit

OPENINGS = """([texts, request]) => import('/static/opening.js').then(({ given, shared }) =>
  request === null ? shared(texts) : given(texts[0], request))"""


@pytest.mark.parametrize(
    ("texts", "opening"),
    [
        (["The river runs north.", "The river rushes south."], "The river "),
        (["The river", "The rivers"], "The "),
        (["这部电影节奏很好，值得看。", "这部电影节奏很好，但结局差。"], "这部电影节奏很好，"),
        (["这部电影很美", "这部电影太长", "这部电影一般"], "这部电影"),
        (["🏔️ Up", "🏔️ Down"], ""),
        (["Say `x = 1` first", "Say `x = 2` first"], "Say "),
        (["Equal", "Equal"], ""),
        (["Alone"], ""),
        (["One", "Two"], ""),
        (["", "Two"], ""),
        (["Begun", "Begun and ended"], "Begun"),
    ],
)
def test_where_answers_begin_to_differ(visit: Visit, texts: list[str], opening: str) -> None:
    page = visit().page
    page.goto("/sign-in")
    assert texts[0][: page.evaluate(OPENINGS, [texts, None])] == opening


@pytest.mark.parametrize(
    ("answer", "request_", "opening"),
    [
        ("这部电影很好看", "请写一条影评，以“这部电影”开头。", "这部电影"),
        ("The film is fine", "Begin with: The film was", "The film "),
        ("The film", "What runs north?", ""),
        ("The", "The end", ""),
    ],
)
def test_what_the_request_gave_of_an_answer(visit: Visit, answer: str, request_: str, opening: str) -> None:
    page = visit().page
    page.goto("/sign-in")
    assert answer[: page.evaluate(OPENINGS, [[answer], request_])] == opening


def test_the_beginning_that_all_answers_share_is_set_apart(pages: Pages, visit: Visit) -> None:
    add_task(pages.store, "ranking", ["这部电影很美", "这部电影太长", "这部电影一般"], priority=2)
    add_task(pages.store, "pair", ["The river runs north.", "The river runs south."], priority=1)
    add_task(pages.store, "ranking", ["One", "Two"])
    visitor = begin(visit)
    page = visitor.page
    openings = page.get_by_role("group", name="The same in all answers")
    assert [each.inner_text() for each in openings.all()] == ["这部电影"] * 3
    texts = page.locator(".answer > .text")
    assert sorted(each.text_content() for each in texts.all()) == sorted(
        ["这部电影很美", "这部电影太长", "这部电影一般"]
    )
    color = "element => getComputedStyle(element).color"
    assert openings.first.evaluate(color) != texts.first.evaluate(color)
    page.locator("#shared-note", has_text="that all answers share").wait_for()
    press(visitor, "123")
    assert openings.count() == 3
    submit(visitor)
    assert [each.text_content() for each in openings.all()] == ["The river runs "] * 2
    press(visitor, "1")
    submit(visitor)
    assert page.locator(".opening").count() == 0
    assert page.locator("#shared-note").is_hidden()
