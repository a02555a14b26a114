"""The batching engine: one thread that runs all models. Between any two steps answers begin, end, or are given up.

In each turn every model drops the answers whose clients have gone, takes waiting prompts into free slots, reads a piece of
what it has not read, and makes one more token of every answer. So a long prompt delays the others by one piece at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from headwater.errors import UserError
from headwater.models import generate
from headwater.models.model import Model
from headwater.models.transcript import Decode
from headwater.serving.failure import Refusal, broken, busy, gone, stopping
from headwater.serving.metrics import Metrics
from headwater.serving.orders import Order, Piece, Ticket

LOG = logging.getLogger("headwater.serving")
Work = Generator[None, None, Any]
"""Something else for the model thread, such as scores: it yields between pieces, and returns what it has found."""


@dataclass(frozen=True)
class Limits:
    """How much is held at once. Memory is slots · 2 · capacity tokens for each model that writes, whatever is asked."""

    slots: int = 16
    """Answers that a model writes side by side; as many that have ended are kept for dialogues that go on."""
    capacity: int = 2048
    """Tokens of a prompt and its answer; at most the model's context."""
    waiting: int = 64
    """Answers, and other work, that wait; beyond, requests are refused."""
    piece: int = 256
    """Tokens of prompts that are read between two steps."""
    kept: int | None = None
    """Answers that have ended and are kept; absent: as many as slots."""

    def seldom(self) -> Limits:
        """Of a model that is seldom asked: it takes an eighth of the memory."""
        return replace(self, slots=max(1, self.slots // 4), kept=0)


class Line:
    """One model that writes: its generator and who waits for it."""

    def __init__(self, model: Model, decode: Decode, limits: Limits) -> None:
        self.model, self.decode, self.limits = model, decode, limits
        self.capacity = min(limits.capacity, model.config.context)
        self.waiting: deque[Ticket] = deque()
        self.running: list[Ticket] = []
        self.generator = self.new_generator()

    def new_generator(self) -> generate.Generator:
        """Empty slots."""
        limits = self.limits
        kept = limits.slots if limits.kept is None else limits.kept
        return generate.Generator(self.model, limits.slots, self.capacity, self.decode, kept)


class Engine:
    """`submit` orders from the event loop; `start` and `stop` the thread."""

    def __init__(self, lines: Mapping[str, Line], limits: Limits, metrics: Metrics) -> None:
        self.lines = lines
        """{name: model that writes}; never changed, but replaced by another."""
        self.limits, self.metrics = limits, metrics
        self._works: deque[tuple[Work, asyncio.Future[Any]]] = deque()
        self._removed: list[Line] = []
        self._changed = threading.Condition()
        self._stopping = self._refusing = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._seconds = 1.0
        """How long an answer takes in a slot, a moving average."""

    def start(self) -> None:
        """Starts the model thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the model thread runs."""
        return self._thread.is_alive() and not self._stopping

    @property
    def waiting(self) -> int:
        """Answers and other work that wait."""
        return sum(len(line.waiting) for line in self.lines.values()) + len(self._works)

    @property
    def running(self) -> int:
        """Answers in slots."""
        return sum(len(line.running) for line in self.lines.values())

    def refuse(self) -> None:
        """Takes nothing new; what runs goes on."""
        self._refusing = True

    def stop(self) -> None:
        """Gives up what runs and ends the thread."""
        self._refusing = True
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def add(self, name: str, line: Line) -> None:
        """A model that writes, from the next turn on; another one of this name is taken back."""
        if name in self.lines:
            self.remove(name)
        with self._changed:
            self.lines = {**self.lines, name: line}

    def remove(self, name: str) -> None:
        """Takes a model back; what it is writing is given up."""
        with self._changed:
            line = self.lines.get(name)
            if line is None:
                return
            self.lines = {other: each for other, each in self.lines.items() if other != name}
            self._removed.append(line)
            self._changed.notify()

    def submit(self, name: str, order: Order) -> None:
        """Puts an order in the queue of a model. Raises Refusal: 429 where the queue is full, 503 on the way to the end."""
        with self._changed:
            line = self.lines.get(name)
            if line is None:  # removed while the request was read
                raise gone()
            self._admit(len(order.tickets))
            line.waiting.extend(order.tickets)
            self._changed.notify()

    async def work(self, work: Work) -> Any:
        """Has other work done between the steps of the answers, and gives what it returns. Refuses as `submit` does."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._changed:
            self._admit(1)
            self._works.append((work, future))
            self._changed.notify()
        try:
            return await future
        finally:
            future.cancel()

    def _admit(self, count: int) -> None:
        if self._refusing or not self._thread.is_alive():
            raise stopping()
        if self.waiting + count > self.limits.waiting:
            self.metrics.refused += 1
            turns = math.ceil(self.waiting / self.limits.slots)
            raise busy(min(60, max(1, math.ceil(turns * self._seconds))))

    # What follows runs in the model thread.

    def _run(self) -> None:
        torch.set_grad_enabled(False)
        while True:
            with self._changed:
                while not (self._stopping or self.waiting or self.running or self._removed):
                    self._changed.wait()
                if self._stopping:
                    break
                removed, self._removed = self._removed, []
            for line in removed:
                self._give_up(line, gone())
            for line in self.lines.values():
                try:
                    self._turn(line)
                except Exception:
                    LOG.exception("A model failed; its answers are given up.")
                    self._give_up(line, broken())
                    line.generator = line.new_generator()
            self._work_on()
        for line in self.lines.values():
            self._give_up(line, stopping())
        while self._works:
            _tell(self._works.popleft()[1], stopping())

    def _turn(self, line: Line) -> None:
        """One turn of a model."""
        generator = line.generator
        for ticket in [ticket for ticket in line.running if ticket.order.left]:
            assert ticket.answer is not None
            generator.drop(ticket.answer)
            line.running.remove(ticket)
            self.metrics.left += 1
        with self._changed:
            staying = [ticket for ticket in line.waiting if not ticket.order.left]
            self.metrics.left += len(line.waiting) - len(staying)
            line.waiting = deque(staying)
        while generator.free and sum(row.unread for row in generator.reading) < self.limits.piece:
            if not self._begin_next(line):
                break
        if generator.reading:
            generator.read(self.limits.piece)
        if generator.rows:
            generator.step()
        self._tell(line)

    def _begin_next(self, line: Line) -> bool:
        """Takes the next prompt that waits into a slot. Not while one that begins alike is read: it will be there then."""
        if not line.waiting:
            return False
        ticket, generator = line.waiting[0], line.generator  # only this thread takes tickets away
        try:
            if generator.is_being_read(ticket.prompt):
                return False
            ticket.answer = generator.begin(ticket.prompt, ticket.order.sampling, ticket.seed)
        except UserError as error:  # this order's own mistake: the others go on
            ticket.order.leave()
            ticket.order.tell([Refusal(400, str(error), code="invalid_value")])
        with self._changed:
            line.waiting.popleft()
            if ticket.answer is not None:
                line.running.append(ticket)
        return True

    def _tell(self, line: Line) -> None:
        """Sends every client what is new, and lets go of the answers that have ended."""
        news: dict[Order, list[Piece | Refusal]] = {}
        for ticket in line.running:
            if (piece := ticket.next_piece()) is None:
                continue
            news.setdefault(ticket.order, []).append(piece)
        now = time.monotonic()
        for ticket in list(line.running):
            answer = ticket.answer
            assert answer is not None
            if not ticket.order.started and answer.tokens:
                ticket.order.started = now
                self.metrics.first_token.observe(now - ticket.order.begun)
            if answer.ending is not None:
                line.running.remove(ticket)
                self.metrics.count(answer)
                self._seconds += 0.1 * (now - ticket.order.started - self._seconds)
        for order, pieces in news.items():
            order.tell(pieces)

    def _give_up(self, line: Line, why: Refusal) -> None:
        with self._changed:
            given_up = [*line.running, *line.waiting]
            line.running.clear()
            line.waiting.clear()
        for order in {ticket.order for ticket in given_up}:
            order.tell([why])

    def _work_on(self) -> None:
        """A piece of the other work; the next one's turn is then."""
        if not self._works:
            return
        work, future = self._works[0]
        try:
            if not future.cancelled():  # else its client has gone
                next(work)
                self._works.rotate(-1)
                return
            result = None
        except StopIteration as end:
            result = end.value
        except UserError as error:
            result = Refusal(400, str(error), code="invalid_value")
        except Exception:
            LOG.exception("A model failed.")
            result = broken()
        self._works.popleft()
        _tell(future, result)


def _tell(future: asyncio.Future[Any], result: Any) -> None:
    """From the model thread: what other work has found."""
    with contextlib.suppress(RuntimeError):  # the loop has ended
        future.get_loop().call_soon_threadsafe(_settle, future, result)


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
