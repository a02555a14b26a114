"""What clients have asked of the engine, and what comes back to them piece by piece."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from headwater.models.answer import Answer, Ending
from headwater.models.sampling import Sampling
from headwater.serving.failure import Refusal


@dataclass(frozen=True)
class Piece:
    """What an answer has gained since the piece before."""

    index: int
    """Which of the order's answers."""
    text: str
    """Whole characters."""
    first: int
    """Place of the first new token in the answer, and ..."""
    last: int
    """... of the one after the last."""
    ending: Ending | None


class Ticket:
    """One answer of an order: what the model thread knows of it."""

    def __init__(self, order: Order, index: int, prompt: list[int], seed: int) -> None:
        self.order, self.index, self.prompt, self.seed = order, index, prompt, seed
        self.answer: Answer | None = None
        """Set once it has a slot; the model thread writes to it until it has ended."""
        self.told = self.shown = 0
        """Tokens and characters that were sent."""

    def next_piece(self) -> Piece | None:
        """What there is to tell: where nobody follows the answer, nothing until it has ended."""
        answer = self.answer
        if answer is None or (answer.ending is None and not self.order.follows):
            return None
        if answer.ending is None and len(answer.tokens) == self.told:
            return None
        piece = Piece(self.index, answer.text[self.shown :], self.told, len(answer.tokens), answer.ending)
        self.told, self.shown = len(answer.tokens), len(answer.text)
        return piece


class Order:
    """Answers to one request. Made on the event loop, where its pieces arrive; `async for` gives them until all are there.

    follows: every token is wanted as it comes, not only the end.
    """

    def __init__(
        self, prompts: Sequence[list[int]], sampling: Sampling, seeds: Sequence[int], follows: bool = False
    ) -> None:
        self.sampling, self.follows = sampling, follows
        self.tickets = [Ticket(self, *row) for row in zip(range(len(prompts)), prompts, seeds, strict=True)]
        self.left = False
        """Whether its client has gone."""
        self.begun, self.started = time.monotonic(), 0.0
        """When it came, and when its first token did."""
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece | Refusal] = asyncio.Queue()

    @property
    def answers(self) -> list[Answer]:
        """Of all tickets, once all have ended."""
        return [ticket.answer for ticket in self.tickets if ticket.answer is not None]

    async def wait(self) -> None:
        """Until all answers are there. Raises Refusal where they will not be."""
        async for _ in self:
            pass

    def leave(self) -> None:
        """Nobody waits any more; slots are freed before the next step."""
        self.left = True

    def tell(self, pieces: Sequence[Piece | Refusal]) -> None:
        """From the model thread: news for the client."""
        try:
            self._loop.call_soon_threadsafe(self._arrive, pieces)
        except RuntimeError:  # the loop has ended
            self.left = True

    def _arrive(self, pieces: Sequence[Piece | Refusal]) -> None:
        for piece in pieces:
            self._pieces.put_nowait(piece)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        missing = len(self.tickets)
        while missing:
            piece = await self._pieces.get()
            if isinstance(piece, Refusal):
                raise piece
            missing -= piece.ending is not None
            yield piece
