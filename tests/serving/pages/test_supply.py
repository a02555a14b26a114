"""From a finished run to judged answers to the next round: the pages ask the policy, people judge, `headwater round` learns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from browsing import Pages, Visitor, add_task, serving
from dialogues import recipe
from headwater import pipeline, rounds
from headwater.errors import UserError
from headwater.feedback.people import add_person, people
from headwater.feedback.queue.progress import progress
from headwater.feedback.store.schema import RESPONSE, TASK
from headwater.feedback.store.store import Store
from headwater.recipe import validate
from headwater.rlhf.asking import tasks_of
from headwater.rlhf.policies import PolicyOrigin
from headwater.runs import Run
from headwater.serving.pages import supply
from headwater.serving.pages.answering import TooLong
from headwater.serving.pages.opening import open_site
from headwater.serving.pages.supply import AT_ONCE, JUDGEMENTS
from headwater.tasks.task import Prompt
from served import settled

ANOTHER = """task => document.getElementById('stand').dataset.task !== task
  && !document.getElementById('none-title').textContent.includes('being written')"""
"""Whether another task is there, or no more will come."""

ASKED = {"prompts": 16, "responses": 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on comparisons."""
    folder = tmp_path_factory.mktemp("supply")
    with Run(folder / "runs", "tiny") as made:
        pipeline.run_all(validate({**recipe(folder), "feedback": ASKED}, "test"), made, "ppo")
    return made


@pytest.fixture
def pages(run: Run) -> Iterator[Pages]:
    """That run, served as `headwater serve tiny` does, before anybody said anything."""
    for said in run.folder.glob(f"{JUDGEMENTS}*"):
        said.unlink()
    root = run.folder.parent
    folders = {name: run.stage(stage) / "model" for name, stage in (("tiny/ppo", "ppo"), ("tiny/reward", "reward"))}
    opened: list[Any] = []

    def site(answering: Any) -> Any:
        opened.append(open_site(["tiny"], root, answering, None, None))
        return opened[0].__enter__()

    try:
        with serving(folders, site) as found:
            yield found
    finally:
        opened[0].__exit__(None, None, None)


def test_a_run_is_asked_judged_and_learnt_from(run: Run, pages: Pages, visit: Callable[..., Visitor]) -> None:
    visitor = visit().named("Ada")
    page = visitor.page
    page.goto("/judge")
    page.locator(".answer").nth(2).wait_for()
    assert page.locator(".answer").count() == ASKED["responses"]
    policy = PolicyOrigin(run.stage("ppo"), "tiny", "ppo")
    settled(lambda: pages.site.supply is not None and not pages.site.supply.is_at_work)
    assert len(tasks_of(pages.store, policy.digest)) == AT_ONCE
    done = 0
    while page.locator("#stand[data-task]").count():
        before = page.locator("#stand").get_attribute("data-task")
        for key in ("2", "1", "3", "Enter"):
            page.keyboard.press(key)
        page.wait_for_function(ANOTHER, arg=before)
        done += 1
    asked = tasks_of(pages.store, policy.digest)
    ada = next(person.id for person in people(pages.store) if person.name == "Ada")
    assert done == len(asked) == progress(pages.store, ada).own >= ASKED["prompts"]
    assert pages.store.problems() == []
    with pages.store.reading() as connection:
        priorities = {row.priority for row in connection.execute(TASK.select())}
        seeds = [row.seed for row in connection.execute(RESPONSE.select().where(RESPONSE.c.model == policy.digest))]
    assert len(priorities) > 1  # by the reward model's uncertainty
    assert len(set(seeds)) == len(seeds) == ASKED["responses"] * len(asked)
    data = rounds.next_round(run)
    data["feedback"] |= {"store": str(run.folder / JUDGEMENTS)}
    following = validate(data, "test")
    with Run(run.folder.parent, following.run) as place:
        pipeline.run_all(following, place, "feedback", run)
    with Store(place.stage("feedback") / "feedback.db", read_only=True) as learnt:
        said = [
            ranking for share in ("train", "select") for ranking in learnt.rankings(share) if ranking.annotator == "Ada"
        ]
    assert said
    assert all(ranking.round == 2 and len(ranking.groups) == 3 for ranking in said)


def test_a_prompt_without_room_is_left_out_and_the_next_ones_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Draws:
        async def draw(self, _model: str, ids: list[int], *_: Any) -> list[int]:
            if len(ids) > 3:
                raise TooLong("no room")
            return ids

    monkeypatch.setattr(supply, "sampling_of", lambda *_: None)
    monkeypatch.setattr(supply, "seeds_of", lambda *_: [1])
    made = object.__new__(supply.Supply)
    written: list[Any] = []
    made._draws, made._name, made._stage, made._tokenizer = Draws(), "m", None, None  # type: ignore[assignment]
    made._left = [(place, "train", Prompt((), "", ids, "s")) for place, ids in enumerate(((1,), (1,) * 4, (2,)))]
    monkeypatch.setattr(made, "_write", lambda *given: (written.append(given[2]), []))

    async def rank(*_: Any) -> None:
        pass

    monkeypatch.setattr(made, "_rank", rank)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, made._make()).result()
    assert (written, made._left) == ([(1,), (2,)], [])


@pytest.mark.parametrize(
    ("why", "told"),
    [(UserError("The queue is full."), "The queue is full."), (ValueError("x"), "a mistake of the server's own")],
)
def test_what_cannot_be_made_is_told_until_it_can(
    pages: Pages, why: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Any = pages.site.supply
    settled(lambda: not made.is_at_work)
    made.is_at_work = True  # nothing is made until this test says so

    async def broken(*_: Any) -> None:
        raise why

    monkeypatch.setattr(made, "_draws", SimpleNamespace(draw=broken))
    monkeypatch.setattr(made, "_left", [(0, "train", Prompt((), "", (1,), "s"))])
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=pages.url, headers={"origin": pages.url}) as client:
        pool.submit(asyncio.run, made._make()).result()
        client.post("/sign-in", data={"name": "Nobody's judge"})
        with pages.store.writing() as writer:
            writer.connection.execute(TASK.update().values(wanted=0))  # nothing waits
        state = client.post("/judge/next", json={}).json()
        assert told in state["problem"]
        assert not state["coming"]
        settled(lambda: not made.is_at_work)
        monkeypatch.setattr(made, "_left", [])
        pool.submit(asyncio.run, made._make()).result()
        assert client.post("/judge/next", json={}).json()["problem"] is None


def test_more_is_asked_only_for_who_will_get_it_and_has_little_left(pages: Pages) -> None:
    """Not at every look at the first page, and not for an adjudicator."""
    made: Any = pages.site.supply
    settled(lambda: not made.is_at_work)
    asked: list[bool] = []
    made._start = lambda: asked.append(True)

    def looks(who: httpx.Client) -> int:
        asked.clear()
        for path in ("/", "/judge/next"):
            made.is_at_work = False
            (who.get(path) if path == "/" else who.post(path, json={})).raise_for_status()
        return len(asked)

    _, token = add_person(pages.store, "Eve", "adjudicator")
    with httpx.Client(base_url=pages.url, headers={"origin": pages.url}, follow_redirects=True) as ada:
        ada.post("/sign-in", data={"name": "Ada"})
        wanting = ada.post("/judge/next", json={}).json()["progress"]["left"] < made.low
        assert looks(ada) == (2 if wanting else 0)
        for _ in range(made.low):
            add_task(pages.store, "ranking", ["a", "b"])
        assert looks(ada) == 0
    with httpx.Client(base_url=pages.url, headers={"origin": pages.url}, follow_redirects=True) as eve:
        eve.cookies.set("headwater_token", token)
        assert looks(eve) == 0
        assert eve.post("/judge/next", json={}).json()["progress"]["left"] == 0
    made.is_at_work = False


def test_guidelines_beside_the_store_are_shown(run: Run, visit: Callable[..., Visitor]) -> None:
    (run.folder / "guidelines.md").write_text("Only <b>true</b> answers are good.", encoding="utf-8")
    page = visit().named("Ada").page
    page.goto("/judge")
    page.keyboard.press("g")
    page.get_by_text("Only <b>true</b> answers are good.").wait_for()
    Path(run.folder / "guidelines.md").unlink()
