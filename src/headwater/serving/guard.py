"""What stands before every route: who may ask, from where, how much, and how long it may take them to say it."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headwater.serving.clients import Gone
from headwater.serving.failure import Refusal
from headwater.serving.metrics import Metrics

LARGEST_BODY = 1024 * 1024
"""Bytes."""
LONGEST_WAIT = 15.0
"""Seconds within which a request's body must be there."""
MOST_REQUESTS = 128
"""Requests at a time; beyond, 503."""
GONE = 499
"""Status in the counters of a request whose client went away."""
OPEN = "/health"
"""The one path that needs no token."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Guard:
    """ASGI middleware around the whole application.

    token: what a client must show as `Authorization: Bearer …`; None: nothing. hosts: names by which the server may be
    asked, against pages elsewhere whose domain points here (DNS rebinding); None: any. is_page: paths of our own pages, which
    check for themselves who is there, by a cookie, and take forms.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        paths: Collection[str],
        token: str | None,
        hosts: Collection[str] | None,
        is_page: Callable[[str], bool] = lambda _path: False,
    ) -> None:
        self.app, self.metrics, self.paths, self.hosts, self.is_page = app, metrics, paths, hosts, is_page
        self.token = None if token is None else token.encode()
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        self._active += 1
        try:
            self._check(scope)
            await self.app(scope, _again(await _body(scope, receive), receive), counted)
        except Refusal as refusal:
            await _refuse(refusal, counted)
        except Gone:
            status = GONE
        finally:
            self._active -= 1
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.metrics.requests[path, status] += 1

    def _check(self, scope: Scope) -> None:
        """Raises Refusal where the request may not come in."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = _name(headers.get(b"host", b""))
        if self.hosts is not None and host not in self.hosts:
            raise Refusal(403, "This host name is none of the server's: use its address.", None, "host_not_allowed")
        origin = headers.get(b"origin")
        if origin is not None and not is_own(origin.decode("latin-1"), headers.get(b"host", b"").decode("latin-1")):
            raise Refusal(403, "Pages of other sites may not ask here.", None, "origin_not_allowed")
        page = self.is_page(scope["path"])
        if self.token is not None and scope["path"] != OPEN and not page:
            kind, _, shown = headers.get(b"authorization", b"").partition(b" ")
            if kind.lower() != b"bearer" or not hmac.compare_digest(shown.strip(), self.token):
                raise Refusal(401, "A valid token is needed: Authorization: Bearer TOKEN.", None, "invalid_api_key")
        if self._active > MOST_REQUESTS and scope["path"] != OPEN:
            raise Refusal(503, "Too many requests at a time.", None, "overloaded", 1)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > LARGEST_BODY:
            raise _too_large()
        # A form of another site can send this or that without being asked by the browser, but no JSON.
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if scope["method"] == "POST" and kind != b"application/json" and not page:
            raise Refusal(415, "The body must be JSON, with content-type: application/json.", None, "not_json")


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises Refusal where it is too large or does not come, Gone where the client does not stay."""
    if scope["method"] in ("GET", "HEAD"):
        return b""
    parts, size = [], 0
    try:
        async with asyncio.timeout(LONGEST_WAIT):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > LARGEST_BODY:
                    raise _too_large()
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise Refusal(408, "The body took too long to arrive.", None, "timeout") from None


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more, and then what comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = refusal.encoded()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",  # what is left of the request is not read
        **refusal.headers,
    }
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def is_own(origin: str, host: str) -> bool:
    """Whether an Origin header names the site that a Host header asks for."""
    try:
        return urlsplit(origin).netloc == host
    except ValueError:  # no address at all
        return False


def _too_large() -> Refusal:
    return Refusal(413, f"The body is larger than {LARGEST_BODY:,} bytes.", None, "body_too_large")


def _name(host: bytes) -> str:
    """A Host header without its port."""
    try:
        return urlsplit("//" + host.decode("ascii")).hostname or ""
    except ValueError:
        return ""
