"""Hostile clients against a server of their own: fewer than the benchmark sends, of every kind."""

from __future__ import annotations

import asyncio
import random
from itertools import islice

import pytest

pytest.importorskip("fastapi")

import http_abuse
import soak
from headwater.feedback.store.store import Store
from headwater.serving import guard, server
from headwater.serving.pages.site import Site
from served import serving, write_model


def drawn(count: int, seed: int) -> list[tuple[str, http_abuse.Attack]]:
    return list(islice(http_abuse.attacks(random.Random(seed), http_abuse.KINDS), count))


def test_every_kind_comes_and_the_same_seed_sends_the_same():
    sent = drawn(900, 1)
    assert {name for name, _ in sent} == {kind.__name__ for kind in http_abuse.KINDS}
    assert [what.pieces for _, what in sent[:50]] == [what.pieces for _, what in drawn(50, 1)]


def test_a_server_withstands_them(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "LONGEST_WAIT", 1.0)
    monkeypatch.setattr(server, "PATIENCE", 1.0)
    folders, place = {"tiny": write_model(tmp_path / "tiny")}, tmp_path / "judgements.db"
    http_abuse.fill_store(place)
    with (
        Store(place) as store,
        serving(folders, lambda desk: Site(tmp_path, store, desk, http_abuse.TOKEN), http_abuse.TOKEN) as found,
    ):
        target = http_abuse.Target(found.port)
        asyncio.run(http_abuse.use_pages(target))
        expected = asyncio.run(http_abuse.right_answer(target))
        asyncio.run(http_abuse.all_of(target, iter(drawn(500, 3)), 16))
        assert asyncio.run(http_abuse.settled(target))
        assert asyncio.run(http_abuse.right_answer(target)) == expected
        asyncio.run(http_abuse.use_pages(target))
        assert found.desk.engine.lines["tiny"].generator.free == found.desk.engine.limits.slots
    assert target.wrong == []
    assert sum(target.statuses.values()) == 500
    assert {200, 303, 400, 401, 403, 404, 413, 422} <= set(target.statuses)


@pytest.mark.parametrize(
    "said", [b"500 Oh\r\n\r\nTraceback", b'503 Oh\r\n\r\n{"error": {"code": "model_failed"}}', b"404 Oh\r\n\r\nlost"]
)
def test_an_answer_that_is_none_of_the_server_s_is_noticed(monkeypatch, said):
    async def broken(*_):
        return b"HTTP/1.1 " + said

    monkeypatch.setattr(http_abuse, "converse", broken)
    for name, what in [("numbers", http_abuse.api_attacks.numbers), ("odd_fields", http_abuse.page_attacks.odd_fields)]:
        target = http_abuse.Target(1)
        asyncio.run(http_abuse.attack(target, name, what(random.Random(1))))
        assert len(target.wrong) == 1


def test_a_placeholder_is_filled_without_changing_the_length():
    sent = http_abuse.page_attacks.script("/chat/answer", {"models": [http_abuse.page_attacks.MODEL]})[0]
    filled = http_abuse.page_attacks.filled(sent, "abused/ppo", "x" * 16)
    assert len(filled) == len(sent)
    assert http_abuse.json.loads(filled.partition(b"\r\n\r\n")[2]) == {"models": ["abused/ppo"]}


def test_growth_is_told_from_a_level_that_is_found_late():
    level, growing = [100, 300, 400, 400, 401, 402, 400, 401], [400 + 10 * step for step in range(8)]
    assert not soak.told(level, [30, 90, 30, 80, 31, 70, 30, 99])["memory_grows"]
    assert soak.told(growing, [30] * 8)["memory_grows"]
    found = soak.told(level, [30, 30, 30, 80, 60, 90, 70, 99])
    assert found["handles_grow"]
    assert not soak.told(level, [30, 90, 30, 80, 31, 70, 30, 99])["handles_grow"]


def test_a_server_that_does_not_answer_is_noticed(monkeypatch):
    async def silent(*_):
        await asyncio.sleep(60)

    monkeypatch.setattr(http_abuse, "converse", silent)
    monkeypatch.setattr(http_abuse, "PATIENCE", 0.01)
    target = http_abuse.Target(1)
    asyncio.run(http_abuse.attack(target, "numbers", http_abuse.api_attacks.numbers(random.Random(1))))
    assert target.wrong == ["numbers: no end within 0 s"]
