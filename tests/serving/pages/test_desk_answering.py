"""The served models as the pages use them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from headwater.errors import UserError
from headwater.models.generate import Sampling
from headwater.serving import served as models
from headwater.serving.desk import Desk
from headwater.serving.engine import Limits
from headwater.serving.pages.answering import TooLong, Wish
from headwater.serving.pages.desk_answering import DeskAnswering

NAME, CAPACITY = "tiny", 64


def waited(work: Coroutine[Any, Any, Any]) -> Any:
    """What it gives, from a loop in a thread of its own: the main thread's may be the browser's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@pytest.fixture
def answering(folders: list[Path]) -> Iterator[DeskAnswering]:
    desk = Desk([models.load(NAME, folders[0], torch.float32)], Limits(slots=2, capacity=CAPACITY))
    desk.engine.start()
    yield DeskAnswering(desk, {NAME: folders[0]})
    desk.engine.stop()


def test_a_prompt_that_is_drawn_for_needs_room_for_an_answer(answering: DeskAnswering) -> None:
    async def draw(length: int) -> list[int]:
        found = await answering.draw(NAME, [5] * length, Sampling(4), [1, 2])
        return [len(answer.tokens) for answer in found]

    assert waited(draw(CAPACITY - 1)) == [1, 1]
    with pytest.raises(TooLong, match=f"{CAPACITY} tokens leave no room"):
        waited(draw(CAPACITY))


def test_a_chat_makes_tokens_as_the_other_requests_do(
    answering: DeskAnswering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For few requests at a time, and never of a text that is far too long."""
    encoded: list[Any] = []
    encode, longest = answering.desk.encode, answering.desk.served[NAME].tokenizer.longest_token

    async def counted(make: Any) -> Any:
        encoded.append(await encode(make))
        return encoded[-1]

    monkeypatch.setattr(answering.desk, "encode", counted)

    async def say(*texts: str) -> str:
        turns = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 2, texts, strict=False)]
        return "".join([piece.text async for piece in answering.stream(NAME, turns, Wish(max_new_tokens=3))])

    waited(say("The river"))
    assert len(encoded) == 1
    with pytest.raises(UserError, match=f"holds {CAPACITY} tokens"):
        waited(say("a" * (CAPACITY * longest + 1)))
    assert len(encoded) == 1
    waited(say("a" * 100_000, "The town", "The river"))  # what is too long ago is left out
    assert len(encoded[1]) < CAPACITY
