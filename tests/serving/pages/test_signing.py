"""Who may come in, and what a browser may be made to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from browsing import Pages, Visitor, add_task, serving
from headwater.feedback import people
from headwater.feedback.judgements import Verdict
from headwater.feedback.queue.queue import Queue
from headwater.feedback.store.store import Store
from headwater.serving.pages.signing import local
from headwater.serving.pages.site import Site

Visit = Callable[..., Visitor]
TOKEN = "the token of the server itself"
SEES = {"accept": "text/html"}


@pytest.fixture
def guarded(writers: dict[str, Path], runs: Path, tmp_path: Path) -> Iterator[Pages]:
    """Pages that demand a token."""
    with (
        Store(tmp_path / "judgements.db") as store,
        serving(writers, lambda desk: Site(runs, store, desk, TOKEN), TOKEN) as found,
    ):
        yield found


def client(pages: Pages, **options: object) -> httpx.Client:
    return httpx.Client(base_url=pages.url, headers=SEES | {"origin": pages.url}, **options)  # type: ignore[arg-type]


PLACES = ("/", "/chat", "/judge", "/annotate", "/people", "/runs", "/runs/made-up", "/lineage/made-up", "/answers/1",
          "/runs/made-up/documents", "/runs/made-up/judgements", "/runs/made-up/report.html", "/people/export/sft/train.jsonl")  # fmt: skip
DEEDS = ("/chat/answer", "/chat/judge", "/judge/next", "/judge/say", "/judge/back", "/judge/hold", "/annotate/write",
         "/annotate/next", "/annotate/rate", "/people/add", "/people/token", "/people/disable", "/people/wanted",
         "/people/gold", "/people/gold/back")  # fmt: skip


def test_nothing_is_shown_and_nothing_done_without_a_token(guarded: Pages) -> None:
    with client(guarded) as anybody:
        for place in PLACES:
            answer = anybody.get(place)
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in"), place
        for deed in DEEDS:
            assert anybody.post(deed, json={}).status_code == 401, deed
        assert anybody.get("/sign-in").status_code == 200
        assert anybody.get("/v1/models").status_code == 401
        wrong = anybody.get("/", params={"token": "wrong"})
        assert (wrong.status_code, "not known here" in wrong.text, "set-cookie" in wrong.headers) == (401, True, False)
        anybody.cookies.set("headwater_name", "Ada")
        assert anybody.get("/judge").status_code == 303


def test_the_servers_token_makes_an_administrator_who_gives_a_name_to_judge(guarded: Pages) -> None:
    with client(guarded) as owner:
        came = owner.get("/", params={"token": TOKEN, "next": "/people"})
        assert (came.status_code, came.headers["location"]) == (303, "/people")
        cookie = came.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie  # so that links in letters lead on
        assert "Secure" not in cookie
        with client(guarded) as other:
            proxied = other.get("/", params={"token": TOKEN}, headers={"x-forwarded-proto": "https"})
            assert "Secure" in proxied.headers["set-cookie"]
        assert owner.get("/people").status_code == 200
        added = owner.post(
            "/people/add", data={"name": "Cy", "role": "annotator"}, headers={"x-forwarded-proto": "https"}
        )
        assert guarded.url.replace("http:", "https:") in added.text
        assert owner.get("/judge").headers["location"] == "/sign-in?next=%2Fjudge"
        assert owner.post("/sign-in", data={"name": "Ada", "next": "/judge"}).headers["location"] == "/judge"
        assert owner.get("/judge").status_code == 200


def test_a_persons_token_lets_them_judge_but_not_administer_until_it_is_disabled(guarded: Pages) -> None:
    _, token = people.add_person(guarded.store, "Bo")
    with client(guarded) as bo:
        assert bo.get("/", params={"token": token}).status_code == 303
        assert bo.get("/judge").status_code == 200
        assert bo.get("/people").status_code == 403
        assert bo.post("/people/add", data={"name": "C", "role": "admin"}).status_code == 403
        people.disable(guarded.store, "Bo")
        assert bo.get("/judge").status_code == 303


def test_who_wrote_an_answer_is_told_once_it_is_judged(guarded: Pages) -> None:
    bo, token = people.add_person(guarded.store, "Bo")
    task, answers = add_task(guarded.store, "ranking", ["a", "b"])
    with client(guarded) as someone:
        someone.get("/", params={"token": token})
        before = someone.get(f"/answers/{answers[0]}")
        assert (before.status_code, "model-0" in before.text) == (403, False)
        Queue(guarded.store).judge(bo, task, "client 1", Verdict(ranking=[[answers[0]], [answers[1]]]))
        after = someone.get(f"/answers/{answers[0]}")
        assert (after.status_code, "model-0" in after.text) == (200, True)


def test_a_name_with_a_token_or_a_role_cannot_be_taken_without_it(pages: Pages) -> None:
    people.add_person(pages.store, "Bo")
    pages.store.add_annotator("simulated:one", "simulated")
    with client(pages) as somebody:
        for name in ("Bo", "simulated:one", "simulated:new", "  "):
            assert somebody.post("/sign-in", data={"name": name}).status_code == 400
        somebody.cookies.set("headwater_name", "Bo")
        assert somebody.get("/judge").status_code == 303
        assert somebody.post("/sign-in", data={"name": "小明"}).status_code == 303
        assert somebody.get("/judge").status_code == 200


def test_requests_of_other_sites_change_nothing(pages: Pages) -> None:
    with client(pages) as ada:
        ada.post("/sign-in", data={"name": "Ada"})
        for deed in DEEDS:
            for strange in ({"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://["}):
                assert ada.post(deed, json={}, headers=strange).status_code == 403, deed
        with httpx.Client(base_url=pages.url, cookies=ada.cookies) as bare:
            assert bare.post("/people/add", data={"name": "E", "role": "admin"}).status_code == 403
            assert (
                bare.post(
                    "/people/add", data={"name": "E", "role": "admin"}, headers={"sec-fetch-site": "same-origin"}
                ).status_code
                == 200
            )
        rebound = ada.get("/", headers={"host": "evil.example"})
        assert rebound.status_code == 403
    assert [person.name for person in people.people(pages.store)] == ["Ada", "E"]


def test_numbers_that_no_database_holds_are_refused(pages: Pages) -> None:
    large = 2**63
    sent = {
        "/judge/hold": {"task": large},
        "/judge/back": {"before": large},
        "/annotate/next": {"before": large},
        "/annotate/rate": {"response": large, "axes": {"helpful": 3}, "client_id": "client 1"},
        "/annotate/write": {"request": "a", "text": "b", "client_id": "client 2", "milliseconds": large},
        "/chat/judge": {"kind": "thumb", "answers": ["a"], "client_id": "client 3", "supersedes": large},
    }
    said = {"task": 1, "client_id": "client 4", "ranking": [[1]]}
    strange = {"task": large, "ranking": [[large]], "edit_of": large, "supersedes": large, "milliseconds": large}
    with client(pages) as ada:
        ada.post("/sign-in", data={"name": "Ada"})
        for deed, body in [*sent.items(), *(("/judge/say", said | {name: value}) for name, value in strange.items())]:
            assert ada.post(deed, json=body).status_code == 422, (deed, body)
        for place in (f"/answers/{large}", "/answers/-1", f"/runs/made-up/curves/sft?after={large}"):
            assert ada.get(place).status_code == 422, place
        assert ada.get(f"/answers/{large - 1}").status_code == 404
        assert ada.post("/judge/hold", json={"task": large - 1}).status_code == 400


def test_every_page_has_a_strict_policy(pages: Pages) -> None:
    with client(pages) as ada:
        ada.post("/sign-in", data={"name": "Ada"})
        for place in (*PLACES, "/sign-in", "/nowhere", "/static/style.css"):
            headers = ada.get(place).headers
            policy = headers.get("content-security-policy", "")
            assert policy.startswith(("default-src 'self';", "default-src 'none';")), place
            assert "unsafe-inline" not in policy or place.endswith("report.html"), place
            assert headers["x-content-type-options"] == "nosniff", place
            assert "access-control-allow-origin" not in headers, place


def test_a_way_on_leads_nowhere_else() -> None:
    assert local("/judge?x=1") == "/judge?x=1"
    for bad in ("//evil.example", "https://evil.example", "/\\evil.example", "judge", "", None):
        assert local(bad) == "/"


def test_strange_paths_are_not_found(pages: Pages) -> None:
    with client(pages) as ada:
        ada.post("/sign-in", data={"name": "Ada"})
        for place in ("/runs/%2e%2e%2fmade-up", "/runs/gone", "/lineage/made-up/gone", "/answers/7", "/static/../site.py",
                      "/static/%2e%2e/site.py", "/nowhere"):  # fmt: skip
            assert ada.get(place).status_code == 404, place
        for place in ("/people/export/pairs/..%2F..%2Fx.jsonl", "/people/export/pairs/train.exe", "/people/export/gone/train.jsonl",
                      "/runs/made-up/curves/gone"):  # fmt: skip
            assert ada.get(place).status_code in (400, 404), place
        assert ada.get("/answers/x").status_code == 422


def test_a_link_with_a_token_is_followed_from_another_site(guarded: Pages, chromium: Any) -> None:
    _, token = people.add_person(guarded.store, "Bo")
    visitor = Visitor(chromium, guarded)
    page, link = visitor.page, f"{guarded.url}/?token={token}&next=/judge"
    letter = {"body": f'<a href="{link}">Judge</a>', "content_type": "text/html"}
    page.route("http://letters.example/", lambda route: route.fulfill(**letter))
    page.goto("http://letters.example/")
    page.get_by_role("link", name="Judge").click()
    page.wait_for_url(lambda url: not url.startswith("http://letters.example"))
    page.locator("h1").wait_for()
    assert page.url == f"{guarded.url}/judge"
    visitor.context.close()


def test_signing_in_and_leaving_with_a_browser(pages: Pages, visit: Visit) -> None:
    visitor = visit()
    visitor.page.goto("/judge")
    visitor.page.get_by_label("Your name").fill("Ada")
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_url("**/judge")
    assert visitor.page.locator(".self").inner_text().split()[0] == "Ada"
    visitor.page.get_by_role("button", name="Leave").click()
    visitor.page.wait_for_url(pages.url + "/")
    visitor.page.goto("/judge")
    visitor.page.get_by_label("Your name").wait_for()
