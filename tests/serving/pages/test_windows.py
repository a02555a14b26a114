"""One person with two windows, or two devices: nothing of what they judge is lost, and nothing counts twice."""

from __future__ import annotations

from copy import copy
from typing import Any

import pytest

from browsing import Pages, Visit, Visitor, add_task, begin, press, submit


def standing(pages: Pages) -> list[dict[str, Any]]:
    return pages.store.judgements()


def other_window(visitor: Visitor, device: bool, visit: Visit) -> Visitor:
    """A second window of Ada's with the same task: of the same browser, or of another one."""
    if device:
        return begin(visit)
    other = copy(visitor)
    other.page = visitor.context.new_page()
    other.page.goto("/judge")
    other.page.locator("#stand[data-task='1']").wait_for()
    return other


def told_of_the_other(visitor: Visitor) -> str:
    visitor.page.locator("#elsewhere").wait_for()
    visitor.wrong.clear()  # the browser tells that the first try was refused
    return str(visitor.page.locator("#elsewhere-words").inner_text())


@pytest.mark.parametrize("device", [False, True])
def test_what_was_judged_in_another_window_too_may_stand_or_be_replaced(
    pages: Pages, visit: Visit, device: bool
) -> None:
    for text in ("a", "b", "c"):
        add_task(pages.store, "ranking", [f"{text}1", f"{text}2"])
    visitor = begin(visit)
    other = other_window(visitor, device, visit)
    press(visitor, "12")
    submit(visitor)
    press(other, "21")
    other.page.keyboard.press("Enter")
    assert "1 › 2" in told_of_the_other(other)
    assert other.page.locator(".order").inner_text().split() == ["1.", "2", "›", "2.", "1"]
    other.page.keyboard.press("Enter")  # by habit: nothing is chosen by that
    other.news("Choose first")
    assert len(pages.store.judgements(superseded=True)) == 1
    other.page.get_by_role("button", name="Replace it by this one").click()
    other.page.locator("#stand[data-task='2']").wait_for()
    first, second = pages.store.judgements(superseded=True)
    assert second["supersedes"] == first["id"]
    assert second["ranking"] == first["ranking"][::-1]
    press(visitor, "1")
    press(other, "21")
    press(visitor, "2")
    submit(visitor)
    other.page.keyboard.press("Enter")
    told_of_the_other(other)
    other.page.get_by_role("button", name="Keep the first").click()
    other.page.locator("#stand[data-task='3']").wait_for()
    assert [row["task_id"] for row in standing(pages)] == [1, 2]
    assert len(pages.store.judgements(superseded=True)) == 3


def test_a_skip_and_a_judgement_in_two_windows(pages: Pages, visit: Visit) -> None:
    for text in ("a", "b", "c"):
        add_task(pages.store, "ranking", [f"{text}1", f"{text}2"])
    visitor = begin(visit, locale="zh-CN")
    other = other_window(visitor, False, visit)
    press(visitor, "s")
    visitor.page.locator("#stand[data-task='2']").wait_for()
    press(other, "21")
    other.page.keyboard.press("Enter")
    assert "您已在另一个窗口跳过此项" in told_of_the_other(other)
    other.page.get_by_role("button", name="改用这一次的").click()
    other.page.locator("#stand[data-task='2']").wait_for()
    press(visitor, "12")
    submit(visitor)
    press(other, "s")  # nothing was said here that could be lost
    other.page.locator("#stand[data-task='3']").wait_for()
    visitor.wrong.clear()
    assert [(row["task_id"], row["flags"]) for row in standing(pages)] == [(1, None), (2, None)]


def test_a_correction_in_two_windows(pages: Pages, visit: Visit) -> None:
    add_task(pages.store, "pair", ["this", "that"])
    visitor = begin(visit)
    press(visitor, "1")
    submit(visitor)
    other = other_window_of_nothing(visitor)
    for window in (visitor, other):
        press(window, "u")
        window.page.get_by_text("You have judged this already").wait_for()
    press(visitor, "2")
    submit(visitor)
    press(other, "=")
    other.page.keyboard.press("Enter")
    told_of_the_other(other)
    other.page.get_by_role("button", name="Replace it by this one").click()
    other.page.get_by_text("Nothing is left to judge").wait_for()
    assert [row["strength"] for row in standing(pages)] == [0]
    assert len(pages.store.judgements(superseded=True)) == 3


def other_window_of_nothing(visitor: Visitor) -> Visitor:
    """A second window of the same browser, where nothing waits."""
    other = copy(visitor)
    other.page = visitor.context.new_page()
    other.page.goto("/judge")
    other.page.get_by_text("Nothing is left to judge").wait_for()
    return other
