"""`headwater serve`: finds the models, opens the socket, and ends well."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import torch
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from headwater.cores import let_a_single_thread_move
from headwater.errors import UserError
from headwater.serving import served as models
from headwater.serving.app import build
from headwater.serving.desk import Desk
from headwater.serving.engine import Engine, Limits
from headwater.serving.guard import LOOPBACK
from headwater.serving.pages.desk_answering import DeskAnswering
from headwater.serving.pages.opening import open_site
from headwater.serving.pages.site import Site
from headwater.training.precision import DTYPES, choose_precision
from headwater.training.settings import Precision

MOST_CONNECTIONS = 512
GRACE = 3.0
"""Seconds that running answers may take to end when the server is to stop."""
PATIENCE = 15.0
"""Seconds within which a request's head must be there, and a client must read on."""


Beside = Callable[[DeskAnswering, Site], AbstractContextManager[None]]


@dataclass(frozen=True)
class Address:
    """Where the server listens."""

    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def url(self, port: int) -> str:
        """With the port that was found where any would do; of all addresses of this machine, its name."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class PatientProtocol(H11Protocol):
    """HTTP of clients that have all but endless time: whoever sends no whole head, or does not read, is let go."""

    _head: asyncio.TimerHandle | None = None
    _write: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def _watch(self) -> None:
        """The clock runs from the connection, or from the first byte of a further request, until the head is whole."""
        waits = self.cycle is None or self.cycle.response_complete
        if waits and self._head is None and self.timeout_keep_alive_task is None:
            self._head = self.loop.call_later(PATIENCE, self.transport.abort)
        elif not waits and self._head is not None:
            self._head.cancel()
            self._head = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write = self.loop.call_later(PATIENCE, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write is not None:
            self._write.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._write):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """Lets running answers end before it closes; what is not done by then is given up."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        config = uvicorn.Config(
            app,
            http=PatientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            proxy_headers=False,
        )
        super().__init__(config)
        self.engine = engine

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.engine.refuse()
        end = time.monotonic() + GRACE
        while (self.engine.running or self.engine.waiting) and not self.force_exit and time.monotonic() < end:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(self.engine.stop)
        await super().shutdown(sockets)


def serve(
    names: Sequence[str],
    root: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    limits: Limits | None = None,
    precision: str = "auto",
    store: str | None = None,
    beside: Beside | None = None,
) -> None:
    """Serves models, and the pages about them, until Ctrl-C or SIGTERM. Arguments as `headwater serve --help` says.

    beside: what goes on for as long as the server runs, given what answers and the site.
    Raises UserError where there is nothing to serve, where a model cannot be, or where the address cannot be used.
    """
    if precision not in get_args(Precision):
        raise UserError(f"--precision is `{precision}`: give one of {', '.join(get_args(Precision))}.")
    address, limits = Address(host, port), limits or Limits()
    folders, before = models.find(names, root), models.earlier(names, root)
    token = checked_token(token or os.environ.get("HEADWATER_TOKEN") or None)
    made = token is None and not address.is_local
    if made:
        token = secrets.token_urlsafe(32)
    with listening(address) as listener:
        chosen = choose_precision(cast(Precision, precision))
        dtype = DTYPES[chosen]
        later = [models.unloaded(name, folder, dtype) for name, folder in before.items() if name not in folders]
        desk = Desk([models.load(name, folder, dtype) for name, folder in folders.items()], limits, later, dtype)
        answering = DeskAnswering(desk, folders)
        with open_site(names, root, answering, token, store) as site:
            app = build(desk, site, token=token, hosts=allowed_hosts(address, token))
            url = address.url(listener.getsockname()[1])
            said = [f"{url}/v1 serves", *_told(desk, chosen)]
            if made:
                said.append(f"  token: {token}")
            said.append(f"Pages to chat and to judge: {url}/{f'?token={token}' if made else ''}")
            said.append(f"  judgements go into {site.store.place}{_of_whom(site)}")
            with beside(answering, site) if beside else nullcontext():
                print("\n".join([*said, "Ctrl-C ends it."]), flush=True)
                run(app, desk.engine, listener)
    print("Stopped.", file=sys.stderr, flush=True)


def run(app: ASGIApp, engine: Engine, listener: socket.socket) -> None:
    """Until a signal comes; the second Ctrl-C waits for nothing."""
    server = Server(app, engine)
    if torch.get_num_threads() == 1:
        let_a_single_thread_move()
    engine.start()
    # uvicorn raises the signal again when it has ended: by then it has done what it should.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[listener])
    finally:
        engine.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def listening(address: Address) -> socket.socket:
    """A socket that listens there. Raises UserError where it cannot."""
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address.host, address.port), family=family, backlog=1024)
    except socket.gaierror:
        raise UserError(f"--host {address.host} is no address of this machine: give one such as 127.0.0.1.") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            mend = f"give another, as --port {address.port + 1 if address.port < 65535 else 8000}"
            raise UserError(f"Port {address.port} of {address.host} is in use: {mend}.") from None
        if error.errno == errno.EACCES:
            raise UserError(f"Port {address.port} is only for the system: give one above 1023.") from None
        raise UserError(f"--host {address.host} is no address of this machine: give one such as 127.0.0.1.") from None


def allowed_hosts(address: Address, token: str | None) -> Collection[str] | None:
    """By which names the server may be asked; None: any. Where a token protects it there may be a proxy before it."""
    return LOOPBACK if address.is_local and token is None else None


def checked_token(token: str | None) -> str | None:
    """The token itself. Raises UserError where a client could not send it, or where it is easily guessed."""
    if token is not None and (len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token):
        raise UserError(
            "The token must have at least 16 letters, digits or signs of ASCII, and no space: give another."
        )
    return token


def _of_whom(site: Site) -> str:
    """Where models of several runs are served: that one store takes what is said of all."""
    if len({model.run for model in site.answering.models}) < 2:
        return ""
    return ", those of all models: two of them are compared in one store; --store names another"


def _told(desk: Desk, precision: str) -> list[str]:
    """A line for each model."""
    width = max(map(len, desk.offered))
    lines = []
    for name, each in desk.served.items():
        what = {models.SCORES: "scores answers", models.EMBEDS: "makes embeddings"}.get(each.does, "")
        if each.does == models.WRITES:
            line = desk.engine.lines[name]
            what = f"writes, in {precision}: {desk.engine.limits.slots} answers of {line.capacity} tokens at a time"
        lines.append(f"  {name:{width}}  {what}")
    lines += [f"  {name:{width}}  writes, and is loaded when it is first asked for" for name in desk.unloaded]
    return lines
