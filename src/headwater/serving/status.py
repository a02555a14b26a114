"""What is served, whether it is well, and what was counted."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from headwater.serving.desk import Desk
from headwater.serving.failure import Refusal
from headwater.serving.served import Served, Unloaded


def status_routes(desk: Desk) -> APIRouter:
    """`/v1/models`, `/health`, `/metrics`."""
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [_told(each) for each in desk.offered.values()]})

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        if name not in desk.offered:
            raise Refusal(404, "There is no such model here.", "model", "model_not_found")
        return JSONResponse(_told(desk.offered[name]))

    @router.get("/health")
    async def health() -> Response:
        return JSONResponse(
            {"status": "ok"} if desk.engine.alive else {"status": "stopped"}, 200 if desk.engine.alive else 503
        )

    @router.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(desk.metrics.text(desk.gauges()), media_type="text/plain; version=0.0.4")

    return router


def _told(served: Served | Unloaded) -> dict[str, Any]:
    """A model as the API tells it."""
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "headwater",
        "does": served.does,
        "context": served.context,
    }
