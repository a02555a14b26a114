"""The loop: how much is judged, what is being trained, and the new policy that a person accepts or not."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from headwater.loop.cycle import Loop
from headwater.serving.pages import words
from headwater.serving.pages.runs import run_of
from headwater.serving.pages.signing import Administering, Refused
from headwater.serving.pages.site import HEADERS, OfSite, Site, language_of, page

router = APIRouter()

JUDGES = ("reward_model", "bag_of_words", "lexicon")


def loop_of(site: OfSite) -> Loop:
    """A dependency: the loop, where there is one."""
    if site.loop is None:
        raise Refused(404, "all.no_page")
    return site.loop


OfLoop = Annotated[Loop, Depends(loop_of)]


@router.get("/loop")
def show(request: Request, site: OfSite, loop: OfLoop, _: Administering) -> Response:
    """The page."""
    status = loop.status()
    offered = None if status.offered is None else evaluated(site, status.offered)
    problem = words.translated(status.problem or "", language_of(request))
    return page(
        request, "loop.html", now=status, problem=problem, offered=offered, accepted=loop.state.accepted,
        declined=loop.state.declined, judges=JUDGES,
    )  # fmt: skip


@router.get("/loop/status")
def status(loop: OfLoop, _: Administering) -> dict[str, Any]:
    """Where the loop stands; a page that is open asks now and then."""
    return loop.status().as_dict()


@router.post("/loop/accept")
def accept(loop: OfLoop, _: Administering) -> Response:
    """The offered policy is served from now on."""
    loop.accept()
    return RedirectResponse("/loop", 303, HEADERS)


@router.post("/loop/decline")
def decline(loop: OfLoop, _: Administering) -> Response:
    """The old policy stays."""
    loop.decline()
    return RedirectResponse("/loop", 303, HEADERS)


@router.post("/loop/roll-back")
def roll_back(loop: OfLoop, _: Administering) -> Response:
    """The policy before the accepted one is served again."""
    loop.roll_back()
    return RedirectResponse("/loop", 303, HEADERS)


@router.post("/loop/retry")
def retry(loop: OfLoop, _: Administering) -> Response:
    """Goes on after something was mended."""
    loop.retry()
    return RedirectResponse("/loop", 303, HEADERS)


def evaluated(site: Site, name: str) -> dict[str, Any]:
    """What was measured of a new policy beside the one before it, and who judged the answers that it learnt from."""
    run = run_of(site, name)
    found = {stage: (run.manifest(stage) or {"metrics": {}})["metrics"] for stage in ("evaluate", "feedback", "ppo")}
    return {
        "evaluation": found["evaluate"],
        "annotators": found["feedback"].get("annotators") or {},
        "warnings": found["ppo"].get("warnings", []),
    }
