"""The pages as one router, and how they end where something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from starlette.staticfiles import StaticFiles
from urllib.parse import quote

from headwater.errors import UserError
from headwater.serving.pages import annotate, chat, home, judge, lineage, people, runs, signing, words
from headwater.serving.pages.signing import Refused, same_origin, visitor_of
from headwater.serving.pages.site import HEADERS, Site, language_of, page

PARTS = (home, signing, chat, judge, annotate, people, runs, lineage)


def join(app: FastAPI, site: Site) -> None:
    """Adds the pages of a site to an application."""
    app.state.site = site
    for part in PARTS:
        router = APIRouter(route_class=PageRoute, dependencies=[Depends(same_origin), Depends(visitor_of)])
        part.router.route_class = PageRoute
        router.include_router(part.router)
        app.include_router(router, include_in_schema=False)
    app.mount("/static", Static(directory=Path(__file__).parent / "static"), name="static")


class Static(StaticFiles):
    """Styles and scripts; a browser asks each time whether they are still the same."""

    def file_response(self, *given: Any, **named: Any) -> Response:
        response = super().file_response(*given, **named)
        response.headers.update({**HEADERS, "Cache-Control": "no-cache"})
        return response


class PageRoute(APIRoute):
    """Tells what is wrong in a sentence: as JSON to scripts, as a page to people."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def careful(request: Request) -> Response:
            try:
                return await handle(request)
            except Refused as refused:
                return refusal(request, refused)
            except UserError as error:
                return told(request, 400, str(error))
            except RequestValidationError as error:
                return told(request, 422, _invalid(error))

        return careful


def refusal(request: Request, refused: Refused) -> Response:
    """Who has to sign in first is led there."""
    if refused.status == 401 and request.method == "GET" and wants_page(request):
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?next={quote(here, safe='')}", 303, HEADERS)
    return told(request, refused.status, words.sayer(language_of(request))(refused.why))


def told(request: Request, status: int, sentence: str) -> Response:
    """A sentence with a status."""
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


def _invalid(error: RequestValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    return f"What was sent does not fit: {place}: {first['msg']}."
