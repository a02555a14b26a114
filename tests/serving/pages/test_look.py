"""Every page in both languages, light and dark, wide and narrow: nothing breaks, nothing hangs over, all has a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from browsing import Pages, Visitor, add_task
from headwater.feedback.judgements import Judgement
from report.synthetic_run import HOSTILE

Visit = Callable[..., Visitor]

PLACES = ("/", "/sign-in", "/chat", "/judge", "/annotate", "/people?agreement=1", "/runs", "/runs/made-up", "/lineage/made-up",
          "/lineage/made-up/ppo", "/runs/made-up/documents", "/answers/1", "/nowhere")  # fmt: skip

CODE = (
    f"Before\n```python\nif a < b:\n\tprint('<b>你好</b>')\n```\nafter `x = 1`\n{HOSTILE}\n"
    + "很长的中文" * 60
    + "W" * 400
)


@pytest.fixture
def hostile(pages: Pages) -> Pages:
    """Names, requests, answers, notes that try to be markup."""
    turns = [
        {"role": "user", "content": CODE},
        {"role": "assistant", "content": HOSTILE},
        {"role": "user", "content": HOSTILE},
    ]
    task, ids = add_task(pages.store, "ranking", [CODE, HOSTILE, "短", ""], turns, wanted=3)
    for number, name in enumerate((f"<i>{HOSTILE}", "Bo")):
        person = pages.store.add_annotator(name)
        ranking = [[ids[number]], [ids[1 - number]]]
        pages.store.judge(
            Judgement(
                kind="ranking", client_id=f"client {number}", annotator=person, prompt=1, task=task, ranking=ranking,
                note=HOSTILE, edit=CODE, edit_of=ids[number], milliseconds=10,
            )
        )  # fmt: skip
    return pages


HANGS_OVER = """() => {
  const wide = document.documentElement.clientWidth;
  return [...document.querySelectorAll('body *')].filter((element) => {
    if (element.closest('.scroll, pre, nav, .unseen, .jump, textarea')) return false;
    const box = element.getBoundingClientRect();
    return box.width > 0 && (box.right > wide + 1 || box.left < -1);
  }).map((element) => element.outerHTML.slice(0, 120));
}"""

NAMELESS = """() => [...document.querySelectorAll('button, a, input:not([type=hidden]), select, textarea')].filter((element) => {
  const label = element.labels?.length ? [...element.labels].map((each) => each.textContent).join('') : '';
  return !(element.textContent.trim() || element.getAttribute('aria-label') || label.trim());
}).map((element) => element.outerHTML.slice(0, 120))"""


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    ("locale", "scheme", "width"),
    [("en-US", "light", 1100), ("zh-CN", "dark", 360), ("en-US", "dark", 360), ("zh-CN", "light", 1100)],
)
def test_pages_look_whole(visit: Visit, locale: str, scheme: str, width: int) -> None:
    visitor = visit(locale=locale, color_scheme=scheme, viewport={"width": width, "height": 740}).named("Ada")
    page = visitor.page
    for place in PLACES:
        page.goto(place)
        if place == "/nowhere":
            visitor.wrong.clear()  # the browser tells that there is none
        page.wait_for_load_state("networkidle")
        assert page.evaluate(HANGS_OVER) == [], place
        assert page.evaluate(NAMELESS) == [], place
        assert page.locator("h1, h2").count() >= 1, place
        language = page.locator("html").get_attribute("lang")
        assert language == {"en-US": "en", "zh-CN": "zh-CN"}[locale]
        assert page.locator("main script, main img, main i:not(.c1):not([class='']):not(:empty)").count() == 0, place
    assert page.title() != "no"


@pytest.mark.usefixtures("hostile")
def test_code_is_a_block_and_what_was_sent_is_what_is_shown(visit: Visit) -> None:
    visitor = visit().named("Ada")
    page = visitor.page
    page.goto("/judge")
    page.locator(".answers").wait_for()
    block = page.locator("#asked pre code").first
    assert block.text_content() == "if a < b:\n\tprint('<b>你好</b>')"
    assert "mono" in block.evaluate("element => getComputedStyle(element).fontFamily").lower()
    shown = page.locator("#asked .text").nth(1).text_content()
    assert shown == HOSTILE
    assert page.locator("#asked .text").nth(1).evaluate("element => element.children.length") == 0
    texts: list[Any] = [card.text_content() for card in page.locator(".answer > .text").all()]
    assert HOSTILE in texts
    assert "" in texts


@pytest.mark.usefixtures("hostile")
def test_the_keyboard_alone_leads_through_a_page(visit: Visit) -> None:
    visitor = visit().named("Ada")
    page = visitor.page
    page.goto("/judge")
    page.locator(".answers").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "jump"
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("() => document.activeElement.dataset.focus ?? document.activeElement.id"))
    assert {"back", "skip", "all-bad", "flag", "note-open", "edit", "submit"} <= seen
    assert {f"{id_}-place" for id_ in (1, 2, 3, 4)} <= seen
    page.locator("[data-focus='1-place']").focus()
    page.keyboard.press("Enter")
    page.locator(".answer.placed").wait_for()
    assert page.evaluate("() => document.activeElement.closest('.answer')?.dataset.id ?? null") == "1"
    assert page.locator("#whisper").text_content().startswith("Order:")


def test_what_the_server_refuses_is_told_in_words_whatever_form_it_has(visit: Visit) -> None:
    visitor = visit().named("Ada")
    page = visitor.page
    page.goto("/judge")

    def told(sent: str) -> str:
        script = f"import('/static/page.js').then(({{ send }}) => send('/judge/back', {sent})).catch((error) => error.message)"
        return str(page.evaluate(script))

    assert told("{ before: 'x'.repeat(2_000_000) }") == "That is more than the server takes at once: shorten it."
    assert "does not fit" in told("{ before: -1 }")
    page.route("**/judge/back", lambda route: route.fulfill(status=500, json={"detail": "x"}))
    assert "500" in told("{}")
    visitor.wrong.clear()  # the browser tells what was refused
