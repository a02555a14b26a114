"""The application, built from its parts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

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
from headwater.serving.status import status_routes
from headwater.serving.texts import text_routes


def build(desk: Desk, store: Any = None, *, token: str | None = None, hosts: Collection[str] | None = None) -> ASGIApp:
    """The whole application around a desk of models.

    store: where people's judgements go, for pages that collect them. token, hosts: see `Guard`.
    """
    app = FastAPI(title="headwater", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.desk, app.state.store = desk, store
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(Gone, _gone)
    # Pages join here: each a function that takes the desk and the store and gives an APIRouter.
    routers = [status_routes(desk), text_routes(desk), measure_routes(desk)]
    for router in routers:
        app.include_router(router)
    paths = {route.path for router in routers for route in router.routes if isinstance(route, Route)}
    return Guard(app, desk.metrics, paths, token, hosts)


def _answer(refusal: Refusal) -> Response:
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _answer(error)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=GONE)


async def _not_found(_request: Request, error: Exception) -> Response:
    """No such path, or not with this method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return _answer(Refusal(405, "This path takes another method.", None, "method_not_allowed"))
    return _answer(Refusal(error.status_code, "There is no such path here.", None, "not_found"))
