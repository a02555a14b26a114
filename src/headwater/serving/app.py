"""The application, built from its parts."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from headwater.serving.clients import Gone
from headwater.serving.desk import Desk
from headwater.serving.failure import Refusal
from headwater.serving.guard import GONE, Guard
from headwater.serving.measures import measure_routes
from headwater.serving.pages.routes import join, lost, told, wants_page
from headwater.serving.pages.site import Site
from headwater.serving.status import status_routes
from headwater.serving.texts import text_routes


def build(
    desk: Desk, site: Site | None = None, *, token: str | None = None, hosts: Collection[str] | None = None
) -> ASGIApp:
    """The whole application around a desk of models.

    site: what the pages are about; None: no pages. token, hosts: see `Guard`.
    """
    app = FastAPI(title="headwater", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.desk, app.state.site = desk, site
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(Gone, _gone)
    routers = [status_routes(desk), text_routes(desk), measure_routes(desk)]
    for router in routers:
        app.include_router(router)
    paths = {route.path for router in routers for route in router.routes if isinstance(route, Route)}
    if site is None:
        return Guard(app, desk.metrics, paths, token, hosts)
    join(app, site)
    return Guard(app, desk.metrics, paths, token, hosts, lambda path: path not in paths and not path.startswith("/v1/"))


def _answer(refusal: Refusal) -> Response:
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _answer(error)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=GONE)


async def _not_found(request: Request, error: Exception) -> Response:
    """No such path, or not with this method; or a body that cannot be read."""
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        return told(
            request, 400, "What was sent cannot be read: it is no form, or no JSON in UTF-8, or too deeply nested."
        )
    if request.app.state.site is not None and wants_page(request):
        return lost(request, error.status_code)
    if error.status_code == 405:
        return _answer(Refusal(405, "This path takes another method.", None, "method_not_allowed"))
    return _answer(Refusal(error.status_code, "There is no such path here.", None, "not_found"))
