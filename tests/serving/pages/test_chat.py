"""Chat with a real, tiny model: streaming, stopping, comparing, correcting, and what of it lands in the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from browsing import Pages, Visitor
from headwater.feedback.store.schema import TABLES
from served import settled

Visit = Callable[..., Visitor]


def ask(visitor: Visitor, text: str) -> None:
    visitor.page.fill("#draft", text)
    visitor.page.keyboard.press("Enter")


def begin(visit: Visit, **options: Any) -> Visitor:
    visitor = visit(**options).named("Ada")
    visitor.page.goto("/chat")
    visitor.page.click("#dials-open")
    visitor.page.locator("#longest").evaluate(
        "field => { field.value = 16; field.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    visitor.page.click("#dials-open")
    return visitor


def rows(pages: Pages, name: str) -> list[Any]:
    with pages.store.reading() as connection:
        return list(connection.execute(select(TABLES[name]).order_by("id")).mappings())


def test_an_answer_streams_and_a_thumb_keeps_it_with_all_that_made_it(pages: Pages, visit: Visit) -> None:
    visitor = begin(visit)
    ask(visitor, "The river <b>of</b> the town")
    good = visitor.page.get_by_role("button", name="▲ Good")
    good.click()
    visitor.news("Kept.")
    text = visitor.page.locator(".turn.assistant .text").inner_text()
    (prompt,), (response,), (said,) = rows(pages, "prompt"), rows(pages, "response"), pages.store.judgements()
    served = {model.name: model for model in pages.site.answering.models}["tiny/ppo"]
    assert prompt["conversation"] == [{"role": "user", "content": "The river <b>of</b> the town"}]
    assert response["text"].strip() == text.strip()
    assert (response["model"], response["sampling"]["served_as"]) == (served.digest, "tiny/ppo")
    assert response["sampling"] | {"max_new_tokens": 16, "temperature": 0.8, "top_p": 0.95} == response["sampling"]
    assert response["seed"] is not None
    assert (said["kind"], said["response_id"], said["axes"]) == ("rating", response["id"], {"thumb": 1.0})
    visitor.page.get_by_role("button", name="▼ Bad").click()
    visitor.page.locator("button[aria-pressed=true]", has_text="Bad").wait_for()
    (corrected,) = pages.store.judgements()
    assert (corrected["supersedes"], corrected["axes"]) == (said["id"], {"thumb": -1.0})


def test_the_seed_and_the_settings_that_are_kept_give_the_same_answer_again(pages: Pages, visit: Visit) -> None:
    visitor = begin(visit)
    ask(visitor, "The library")
    visitor.page.get_by_role("button", name="▲ Good").click()
    visitor.news("Kept.")
    (response,) = rows(pages, "response")
    asked = {
        "model": "tiny/ppo", "messages": [{"role": "user", "content": "The library"}], "seed": response["seed"],
        "temperature": 0.8, "top_p": 0.95, "max_tokens": 16,
    }  # fmt: skip
    again = visitor.context.request.post("/v1/chat/completions", data=asked, headers={"origin": pages.url})
    assert again.json()["choices"][0]["message"]["content"] == response["text"]


def test_two_answers_are_compared_blindly(pages: Pages, visit: Visit) -> None:
    visitor = begin(visit)
    page = visitor.page
    told: list[str] = []

    def listen(route: Any) -> None:
        response = route.fetch()
        told.append(response.text())
        route.fulfill(response=response)

    page.route("**/chat/answer", listen)
    page.click("#compare")
    assert page.input_value("#other") == "tiny/sft"
    ask(visitor, "The museum")
    page.locator(".side").nth(1).get_by_role("button", name="This one is better").click()
    visitor.news("Kept. Answer 1 was")
    assert "tiny/" not in told[0]
    (said,), responses = pages.store.judgements(), {row["id"]: row for row in rows(pages, "response")}
    better, worse = said["ranking"][0][0], said["ranking"][1][0]
    assert said["kind"] == "pair"
    assert {responses[id_]["sampling"]["served_as"] for id_ in (better, worse)} == {"tiny/ppo", "tiny/sft"}
    assert responses[better]["seed"] != responses[worse]["seed"]
    assert page.locator(".turn.assistant .text").inner_text().strip() == responses[better]["text"].strip()
    assert page.locator(".turn.assistant .who").inner_text() == responses[better]["sampling"]["served_as"]
    page.select_option("#other", "tiny/ppo")  # two samples of one model
    ask(visitor, "And then?")
    page.get_by_role("button", name="Both are bad").click()
    page.locator(".sides").wait_for(state="detached")
    bad = pages.store.judgements()[1]
    assert (bad["flags"], [len(group) for group in bad["ranking"]]) == (["all-bad"], [2])


def test_a_correction_is_a_demonstration_and_the_dialogue_goes_on_from_it(pages: Pages, visit: Visit) -> None:
    visitor = begin(visit)
    page = visitor.page
    ask(visitor, "Which way?")
    page.get_by_role("button", name="Correct it").click()
    page.get_by_role("textbox", name="Keep the correction").fill("North, always.\n```\nnorth()\n```")
    page.get_by_role("button", name="Keep the correction").click()
    visitor.news("Kept.")
    assert page.locator(".turn.assistant pre code").inner_text() == "north()"
    (said,) = pages.store.judgements()
    assert (said["edit"], said["edit_of"], said["flags"]) == (
        "North, always.\n```\nnorth()\n```",
        said["response_id"],
        ["corrected"],
    )
    with page.expect_request("**/chat/answer") as sent:
        ask(visitor, "Why?")
    assert [turn["content"] for turn in sent.value.post_data_json["conversation"]] == [
        "Which way?",
        said["edit"],
        "Why?",
    ]
    page.get_by_role("button", name="Answer again").wait_for()


def test_again_and_an_earlier_message_in_other_words(visit: Visit) -> None:
    visitor = begin(visit)
    page = visitor.page
    ask(visitor, "One")
    page.get_by_role("button", name="Answer again").wait_for()
    with page.expect_response("**/chat/answer") as second:
        page.get_by_role("button", name="Answer again").click()
    assert second.value.request.post_data_json["conversation"] == [{"role": "user", "content": "One"}]
    page.get_by_role("button", name="Answer again").wait_for()
    ask(visitor, "Two")
    page.locator(".turn.assistant").nth(1).get_by_role("button", name="Answer again").wait_for()
    page.get_by_role("button", name="Edit").first.click()
    page.get_by_role("textbox", name="Ask again").fill("Three")
    with page.expect_response("**/chat/answer") as third:
        page.get_by_role("button", name="Ask again").click()
    assert third.value.request.post_data_json["conversation"] == [{"role": "user", "content": "Three"}]
    page.get_by_role("button", name="Answer again").wait_for()
    assert page.locator(".turn.user .text").all_inner_texts() == ["Three"]


def test_stop_frees_the_model_and_a_draft_survives_a_reload(pages: Pages, visit: Visit) -> None:
    visitor = begin(visit)
    page = visitor.page
    with pages.desk.engine._changed:  # the model thread waits: the answer does not come until it may
        ask(visitor, "The river of the country")
        page.get_by_role("button", name="Stop").wait_for()
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("Stopped.").wait_for()
    settled(lambda: pages.desk.engine.running == 0 and pages.desk.engine.waiting == 0)
    page.fill("#draft", "half a thou")
    page.reload()
    assert page.input_value("#draft") == "half a thou"
    assert page.locator(".turn.user .text").all_inner_texts() == ["The river of the country"]


def test_what_is_judged_is_what_the_model_said(pages: Pages, visit: Visit) -> None:
    visitor = begin(visit)
    word = {"kind": "thumb", "answers": ["made up"], "client_id": "a client of mine"}
    answer = visitor.context.request.post("/chat/judge", data=word, headers={"origin": pages.url})
    assert answer.status == 400
    assert "have it given again" in answer.json()["error"]
    strange = {"models": ["gone"], "conversation": [{"role": "user", "content": "x"}]}
    answer = visitor.context.request.post("/chat/answer", data=strange, headers={"origin": pages.url})
    assert (answer.status, "There is no model `gone`" in answer.json()["error"]) == (400, True)
    assert json.loads(answer.text())
