"""The pages as parts of an application, and how they end where something is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from headwater.errors import UserError
from headwater.feedback.store.checks import AlreadyJudged
from headwater.serving.pages import annotate, chat, home, judge, lineage, loop, people, runs, signing, words
from headwater.serving.pages.signing import Refused, same_origin, visitor_of
from headwater.serving.pages.site import HEADERS, Site, language_of, page

PARTS = (home, signing, chat, judge, annotate, people, runs, lineage, loop)


def join(app: FastAPI, site: Site) -> None:
    """Adds the pages of a site to an application."""
    app.state.site = site
    pages = APIRouter(dependencies=[Depends(same_origin), Depends(visitor_of)])
    for part in PARTS:
        pages.include_router(part.router)
    app.include_router(pages, include_in_schema=False)
    app.mount("/static", Static(directory=Path(__file__).parent / "static"), name="static")
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(UserError, _wrong)
    app.add_exception_handler(AlreadyJudged, _already)
    app.add_exception_handler(RequestValidationError, _unfit)


class Static(StaticFiles):
    """Styles and scripts; a browser asks each time whether they are still the same."""

    def file_response(self, *given: Any, **named: Any) -> Response:
        response = super().file_response(*given, **named)
        response.headers.update({**HEADERS, "Cache-Control": "no-cache"})
        return response


def told(request: Request, status: int, sentence: str) -> Response:
    """A sentence with a status: as JSON to scripts, as a page to people."""
    if not wants_page(request):
        return JSONResponse({"error": sentence}, status, HEADERS)
    say = words.sayer(language_of(request))
    title = say("all.not_found") if status == 404 else say("all.not_done")
    return page(request, "told.html", status, section="all", title=title, sentence=sentence)


def lost(request: Request, status: int) -> Response:
    """No such page."""
    return told(request, status, words.sayer(language_of(request))("all.no_page"))


def wants_page(request: Request) -> bool:
    """Whether a person asks with a browser, and no script."""
    return "text/html" in request.headers.get("accept", "")


async def _refused(request: Request, refused: Exception) -> Response:
    """Who has to sign in first is led there."""
    assert isinstance(refused, Refused)
    if refused.status == 401 and request.method == "GET" and wants_page(request):
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?next={quote(here, safe='')}", 303, HEADERS)
    return told(request, refused.status, words.sayer(language_of(request))(refused.why))


async def _wrong(request: Request, error: Exception) -> Response:
    return told(request, 400, words.translated(str(error), language_of(request)))


async def _already(request: Request, error: Exception) -> Response:
    """To a script it is told which judgement a correction would have to supersede."""
    assert isinstance(error, AlreadyJudged)
    if wants_page(request):
        return await _wrong(request, error)
    sentence = words.translated(str(error), language_of(request))
    return JSONResponse({"error": sentence, "earlier": error.earlier}, 409, HEADERS)


async def _unfit(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    say = words.sayer(language_of(request))
    place = ".".join(str(part) for part in first["loc"][1:]) or say("all.unfit_whole")
    kind = "all.unfit_" + first["type"]
    why = say(kind, **first.get("ctx", {})) if kind in words.every() else say("all.unfit_other", why=first["msg"])
    return told(request, 422, say("all.unfit", place=place, why=why))
