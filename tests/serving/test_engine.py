"""The engine: answers that do not depend on their neighbours, a bounded queue, slots that become free again."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
import torch
from fastapi import Request

from headwater.errors import UserError
from headwater.models.generate import Sampling, generate
from headwater.serving.clients import Gone, unless_gone
from headwater.serving.engine import Engine, Limits, Line
from headwater.serving.failure import Refusal
from headwater.serving.metrics import Metrics
from headwater.serving.orders import Order
from served import settled
from tiny import lively_model

STEM = [7 * place % 55 + 3 for place in range(20)]
PROMPTS = [[5, 6, 7], [*STEM, 8], [*STEM, 9, 10], list(STEM), [12, 13], [*STEM[:11], 40], list(range(5, 45))]
ENDS = tuple(range(0, 60, 7))


def letters(ids):
    return "".join(chr(ord("A") + token) for token in ids)


@pytest.fixture
def engine():
    """Makes engines over one model, and stops them."""
    made = []

    def make(**limits):
        limits = Limits(**{"slots": 3, "capacity": 64, "waiting": 32, "piece": 8} | limits)
        made.append(Engine({"m": Line(lively_model(), letters, limits)}, limits, Metrics()))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop()


async def answers(engine, prompts, sampling, seeds):
    order = Order(prompts, sampling, seeds)
    engine.submit("m", order)
    async for _ in order:
        pass
    return [answer.tokens for answer in order.answers]


@pytest.mark.parametrize("kept", [0, 4])
@pytest.mark.parametrize("temperature", [0.0, 1.1])
@pytest.mark.parametrize("piece", [3, 64])
def test_an_answer_is_the_same_alone_and_in_any_company(engine, kept, temperature, piece):
    running, sampling, seeds = (
        engine(kept=kept, piece=piece),
        Sampling(9, temperature, stop_tokens=ENDS),
        [3, 1, 4, 1, 5, 9, 2],
    )
    expected = [
        generate(lively_model(), [prompt], sampling, [seed])[0].tokens
        for prompt, seed in zip(PROMPTS, seeds, strict=True)
    ]

    async def all_ways():
        for _ in range(2):  # the second time much has been read
            one_by_one = [
                (await answers(running, [prompt], sampling, [seed]))[0]
                for prompt, seed in zip(PROMPTS, seeds, strict=True)
            ]
            assert one_by_one == expected
            assert await answers(running, PROMPTS, sampling, seeds) == expected
            apart = [answers(running, [prompt], sampling, [seed]) for prompt, seed in zip(PROMPTS, seeds, strict=True)]
            assert [found for (found,) in await asyncio.gather(*apart)] == expected

    asyncio.run(all_ways())
    assert (running.metrics.reused_tokens > 0) == (kept > 0)
    assert running.running == running.waiting == 0


def test_several_answers_to_one_prompt_read_it_once(engine):
    running = engine(kept=4, slots=4)
    asyncio.run(answers(running, [PROMPTS[-1]] * 4, Sampling(3), [1, 2, 3, 4]))
    assert running.metrics.reused_tokens == 3 * (len(PROMPTS[-1]) - 1)


def test_pieces_make_up_the_answer(engine):
    running = engine()

    async def follow():
        order = Order([[5, 6], [7]], Sampling(12), [1, 2], follows=True)
        running.submit("m", order)
        return order, [piece async for piece in order]

    order, pieces = asyncio.run(follow())
    for index, answer in enumerate(order.answers):
        mine = [piece for piece in pieces if piece.index == index]
        assert "".join(piece.text for piece in mine) == answer.text == letters(answer.tokens)
        assert [piece.ending for piece in mine[:-1]] == [None] * (len(mine) - 1)
        assert mine[-1].ending == "length"
        assert [mine[0].first, *(piece.last for piece in mine)] == [0, *(piece.first for piece in mine[1:]), 12]
        assert len(mine) > 3, "it came piece by piece"


def test_who_does_not_follow_hears_once(engine):
    running = engine()

    async def wait():
        order = Order([[5, 6]], Sampling(12), [1])
        running.submit("m", order)
        return [piece async for piece in order]

    (piece,) = asyncio.run(wait())
    assert (piece.first, piece.last, piece.ending) == (0, 12, "length")


def held(running):
    """Lets the model thread wait before its next turn until the event is set."""
    gate, turn = threading.Event(), running._turn
    running._turn = lambda line: (gate.wait(20), turn(line))
    return gate


def test_a_full_queue_refuses_and_says_when_to_come_back(engine):
    running = engine(waiting=4, slots=2)
    gate = held(running)

    async def fill():
        order = Order([[5]] * 4, Sampling(2), [1] * 4)
        running.submit("m", order)
        with pytest.raises(Refusal) as caught:
            running.submit("m", Order([[5]], Sampling(2), [1]))
        assert caught.value.status == 429
        assert 1 <= caught.value.retry_after <= 60
        gate.set()
        assert len([piece async for piece in order]) == 4
        assert await answers(running, [[5]], Sampling(2), [1])

    asyncio.run(fill())
    assert running.metrics.refused == 1


def test_who_leaves_is_dropped_from_slots_and_queue(engine):
    running = engine(slots=2)

    async def leave():
        order = Order([[5, 6]] * 6, Sampling(1000), range(6), follows=True)
        running.submit("m", order)
        async for _ in order:
            break
        order.leave()
        found = await answers(running, [[5]], Sampling(2), [1])
        assert len(found[0]) == 2

    asyncio.run(leave())
    settled(lambda: running.running == running.waiting == 0)
    assert running.metrics.left == 6
    assert running.lines["m"].generator.free == 2


def test_a_failure_is_told_and_the_next_request_is_answered(engine, caplog):
    running = engine()
    generator = running.lines["m"].generator

    def fail():
        raise RuntimeError("out of memory")

    generator.step = fail

    async def ask():
        with pytest.raises(Refusal) as caught:
            await answers(running, [[5], [6]], Sampling(4), [1, 2])
        assert caught.value.status == 503
        assert "memory" not in caught.value.message
        return await answers(running, [[5]], Sampling(4), [1])

    assert len(asyncio.run(ask())[0]) == 4
    assert running.lines["m"].generator is not generator
    assert "out of memory" in caplog.text


def test_a_prompt_without_room_is_refused_alone(engine):
    """Nobody else's answer ends by it, running or waiting."""
    running = engine(slots=2)

    async def ask():
        beside = Order([[5, 6]], Sampling(40), [1], follows=True)
        running.submit("m", beside)
        pieces = aiter(beside)
        await anext(pieces)
        long = Order([[7], [3] * 64, [8]], Sampling(30), [1, 2, 3])
        running.submit("m", long)
        after = asyncio.ensure_future(answers(running, [[9]], Sampling(3), [1]))
        with pytest.raises(Refusal) as caught:
            await long.wait()
        assert (caught.value.status, "64 tokens" in caught.value.message) == (400, True)
        assert len((await after)[0]) == 3
        return [piece async for piece in pieces]

    generator = running.lines["m"].generator
    assert asyncio.run(ask())[-1].ending == "length"
    settled(lambda: running.running == running.waiting == 0)
    assert running.lines["m"].generator is generator
    assert generator.free == 2


def test_other_work_is_done_between_the_steps(engine):
    running = engine()

    def count(upto):
        for _ in range(upto):
            yield
        return upto

    def refuse():
        raise UserError("too long")
        yield

    def fail():
        raise ValueError
        yield

    async def ask():
        order = Order([[5]], Sampling(20), [1])
        running.submit("m", order)
        assert await asyncio.gather(running.work(count(3)), running.work(count(5))) == [3, 5]
        for work, status in ((refuse(), 400), (fail(), 503)):
            with pytest.raises(Refusal) as caught:
                await running.work(work)
            assert caught.value.status == status
        assert [piece.ending async for piece in order] == ["length"]
        endless = asyncio.ensure_future(running.work(count(10**9)))
        await asyncio.sleep(0)
        endless.cancel()

    asyncio.run(ask())
    settled(lambda: running.waiting == 0)


def test_the_end_is_told_to_all_who_wait(engine):
    running = engine(slots=1)
    gate = held(running)

    async def ask():
        orders = [Order([[5]], Sampling(1000), [1], follows=True) for _ in range(3)]
        for order in orders:
            running.submit("m", order)
        gate.set()
        await asyncio.to_thread(running.stop)
        for order in orders:
            with pytest.raises(Refusal) as caught:
                async for _ in order:
                    pass
            assert caught.value.status == 503
        with pytest.raises(Refusal):
            running.submit("m", orders[0])

    asyncio.run(ask())
    assert not running.alive


def test_memory_is_slots_times_capacity(engine):
    running = engine(slots=3, kept=2, capacity=48)
    cache = running.lines["m"].generator.cache
    assert cache.keys.shape[1] == 5
    assert cache.keys.shape[3] == 48
    before = cache.keys.data_ptr()
    asyncio.run(answers(running, PROMPTS * 2, Sampling(100), range(14)))
    assert cache.keys.data_ptr() == before
    assert running.lines["m"].generator.cache is cache


@pytest.mark.parametrize("form", ["encoder-decoder", "recurrent"])
def test_models_that_cannot_go_back_are_served_too(form):
    """Their caches keep nothing of ended rows; their prompts are read in pieces where they can be."""
    from headwater.models.model import Model
    from headwater.models.recurrent import RecurrentConfig
    from tiny import tiny_config

    if form == "recurrent":
        model = Model(RecurrentConfig(vocabulary=60, d_model=16, layers=1, context=64)).initialise(1)
    else:
        model = Model(replace(tiny_config(), form=form, decoder_layers=2, decoder_start=1)).initialise(1)
    with torch.no_grad():
        model.backbone.embedding.weight.mul_(20)
    limits, sampling = Limits(slots=2, capacity=40, piece=4), Sampling(5)
    running = Engine({"m": Line(model, letters, limits)}, limits, Metrics())
    running.start()
    try:
        found = asyncio.run(answers(running, PROMPTS[:6], sampling, range(6)))
    finally:
        running.stop()
    assert found == [generate(model, [prompt], sampling, [seed])[0].tokens for seed, prompt in enumerate(PROMPTS[:6])]
    assert running.metrics.reused_tokens == 0


def test_a_client_that_goes_away_cancels_what_it_waits_for():
    async def ask():
        receiving = asyncio.Event()

        async def receive():
            receiving.set()
            return {"type": "http.disconnect"}

        cancelled = []

        async def endless():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        with pytest.raises(Gone):
            await unless_gone(Request({"type": "http"}, receive), endless())
        await asyncio.sleep(0)
        return cancelled

    assert asyncio.run(ask()) == [True]
