"""The endpoints that write: `/v1/chat/completions` and `/v1/completions`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from headwater.serving.clients import unless_gone
from headwater.serving.desk import Desk
from headwater.serving.failure import Refusal
from headwater.serving.orders import Order
from headwater.serving.requests import ChatRequest, CompletionRequest, Sampled, parse
from headwater.serving.served import WRITES, Served
from headwater.serving.shapes import DONE, ChatShape, CompletionShape, Shape, event, usage


def text_routes(desk: Desk) -> APIRouter:
    """Both endpoints."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        asked = parse(ChatRequest, await request.body())
        await desk.ready(asked.model)
        served = desk.model(asked.model, WRITES)
        prompt = await desk.encode(lambda: desk.dialogue(served, asked))
        shape = ChatShape(served.name, served.tokenizer, asked.alternatives is not None)
        return await answer(desk, served, asked, [prompt], shape, request)

    @router.post("/v1/completions")
    async def complete(request: Request) -> Response:
        asked = parse(CompletionRequest, await request.body())
        await desk.ready(asked.model)
        served = desk.model(asked.model, WRITES)
        prompts = await desk.encode(lambda: desk.prompts(served, asked))
        shape = CompletionShape(served.name, served.tokenizer, asked.alternatives is not None)
        return await answer(desk, served, asked, prompts, shape, request)

    return router


async def answer(
    desk: Desk, served: Served, asked: Sampled, prompts: Sequence[list[int]], shape: Shape, request: Request
) -> Response:
    """Orders n answers to each prompt, and responds with them, whole or as a stream."""
    n = asked.n or 1
    seed = secrets.randbits(62) if asked.seed is None else asked.seed
    rows = [prompt for prompt in prompts for _ in range(n)]
    seeds = [(seed + index) % 2**63 for index in range(len(rows))]
    order = Order(rows, desk.sampling(served, asked), seeds, follows=bool(asked.stream))
    desk.engine.submit(served.name, order)
    if asked.stream:
        with_usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        return OrderedStream(order, stream(order, prompts, shape, with_usage))
    try:
        await unless_gone(request, order.wait())
    finally:
        order.leave()
    return JSONResponse(shape.whole(order, prompts))


async def stream(order: Order, prompts: Sequence[list[int]], shape: Shape, with_usage: bool) -> AsyncIterator[bytes]:
    """The response as server-sent events."""
    extra: dict[str, Any] = {"usage": None} if with_usage else {}
    for chunk in shape.opening(len(order.tickets)):
        yield event(chunk | extra)
    try:
        async for piece in order:
            ticket = order.tickets[piece.index]
            assert ticket.answer is not None
            if piece.text or piece.ending is not None or shape.with_log_probabilities:
                yield event(shape.chunk(piece, ticket.answer) | extra)
    except Refusal as refusal:  # the status is sent already
        yield event(refusal.body)
        return
    if with_usage:
        yield event(shape.framed([]) | {"usage": usage(order, prompts)})
    yield DONE


class OrderedStream(StreamingResponse):
    """A stream of server-sent events whose order is given up when it ends, however it does."""

    def __init__(self, order: Order, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})
        self.order = order

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.order.leave()
