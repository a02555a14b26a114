"""Judge: one task after the other, each whole, and what is said of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from headwater.feedback.judgements import Verdict
from headwater.feedback.queue.adjudication import opinions
from headwater.feedback.queue.assignments import Assignment
from headwater.feedback.queue.progress import JudgingProgress, progress
from headwater.feedback.queue.queue import Queue
from headwater.feedback.store import reader
from headwater.feedback.store.checks import AlreadyJudged
from headwater.serving.pages import words
from headwater.serving.pages.signing import Judging
from headwater.serving.pages.site import HEADERS, Before, ClientId, LongText, OfSite, Site, Whole, language_of, page

AXES = ("helpful", "honest", "harmless", "fluent")
"""The scales of a rating; people add their own."""

HIGHEST = 5
"""Of a scale from 1 on."""

router = APIRouter()


class Said(BaseModel):
    """What a person says of a task; see `headwater.feedback.judgements.Judgement`."""

    model_config = ConfigDict(extra="forbid")

    task: Whole
    client_id: ClientId
    ranking: list[list[Whole]] | None = Field(None, max_length=100)
    strength: float | None = Field(None, ge=0, le=3, allow_inf_nan=False)
    axes: dict[Annotated[str, Field(max_length=60)], float] | None = Field(None, max_length=20)
    edit: LongText | None = None
    edit_of: Whole | None = None
    flags: list[Annotated[str, Field(max_length=40)]] = Field([], max_length=8)
    note: str | None = Field(None, max_length=10_000)
    milliseconds: Whole | None = None
    supersedes: Whole | None = None


class Held(BaseModel):
    """A task that somebody still has before them."""

    model_config = ConfigDict(extra="forbid")

    task: Whole


@router.get("/judge")
def show(request: Request, site: OfSite, person: Judging) -> Response:
    """The page; its script asks for the tasks."""
    own = site.guidelines.read_text(encoding="utf-8") if site.guidelines and site.guidelines.is_file() else None
    return page(request, "judge.html", person=person, guidelines=own, axes=AXES, highest=HIGHEST)


@router.post("/judge/next")
def next_task(request: Request, site: OfSite, person: Judging) -> dict[str, Any]:
    """The person's next task, or none; `coming`: whether there will be one in a moment."""
    given, done = Queue(site.store).next_task(person.id), progress(site.store, person.id)
    if site.supply is not None:
        site.supply.ask(done, done.own_left)
    return _state(request, site, done, given)


@router.post("/judge/say")
def say(said: Said, request: Request, site: OfSite, person: Judging) -> Any:
    """Stores a judgement and gives the next task with it. Where the person judged the task in another window meanwhile, 409 with
    what they said there: they may correct it by this one.
    """
    verdict = Verdict(**said.model_dump(exclude={"task", "client_id", "supersedes"}))
    try:
        judgement = Queue(site.store).judge(person.id, said.task, said.client_id, verdict, supersedes=said.supersedes)
    except AlreadyJudged as error:
        with site.store.reading() as connection:
            earlier = reader.judgement(connection, error.earlier)
        if earlier["task_id"] != said.task:  # the client id stands for another task's judgement
            raise
        sentence = words.translated(str(error), language_of(request))
        return JSONResponse({"error": sentence, "earlier": _said(earlier)}, 409, HEADERS)
    return {"judgement": judgement, **next_task(request, site, person)}


@router.post("/judge/back")
def back(asked: Before, request: Request, site: OfSite, person: Judging) -> dict[str, Any]:
    """A task that the person judged, with what they said, to be corrected."""
    found = Queue(site.store).last_judged(person.id, asked.before)
    if found is None:
        return {"task": None}
    assignment, row = found
    return {**_state(request, site, progress(site.store, person.id), assignment), "said": _said(row)}


@router.post("/judge/hold")
def hold(held: Held, site: OfSite, person: Judging) -> dict[str, Any]:
    """Keeps the task for the person for another while."""
    return {"until": Queue(site.store).renew(person.id, held.task)}


def _said(judgement: dict[str, Any]) -> dict[str, Any]:
    """What the page needs of a judgement to show it."""
    names = ("id", "ranking", "strength", "axes", "edit", "edit_of", "flags", "note")
    return {name: judgement[name] for name in names}


def _state(request: Request, site: Site, done: JudgingProgress, given: Assignment | None) -> dict[str, Any]:
    """A task as the page shows it, without who wrote the answers, and how far the person is."""
    counts = {"own": done.own, "left": done.own_left, "judged": done.judged, "wanted": done.wanted}
    if given is None:
        problem = None if site.supply is None else site.supply.problem
        return {
            "task": None, "progress": counts, "coming": site.supply is not None and site.supply.is_at_work and not problem,
            "problem": problem and words.translated(problem, language_of(request)),
        }  # fmt: skip
    task = {
        "id": given.task, "kind": given.kind, "conversation": given.conversation, "held": given.until is not None,
        "answers": [answer._asdict() for answer in given.answers], "adjudicates": given.adjudicates,
        "opinions": _opinions(site, given) if given.adjudicates else [],
    }  # fmt: skip
    return {"task": task, "progress": counts, "coming": False}


def _opinions(site: Site, given: Assignment) -> list[dict[str, Any]]:
    """What the others said, for who has to settle it."""
    said = opinions(site.store, given.task)
    return [{"name": each.name, "ranking": each.ranking, "note": each.note} for each in said if each.ranking]
