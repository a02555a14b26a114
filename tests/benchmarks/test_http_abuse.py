"""Hostile clients against a server of their own: fewer than the benchmark sends, of every kind."""

from __future__ import annotations

import asyncio
import random

import pytest

pytest.importorskip("fastapi")

import http_abuse
from headwater.serving import guard, server
from served import running, write_model


def test_every_kind_comes_and_the_same_seed_sends_the_same():
    sent = list(http_abuse.attacks(400, 1))
    assert {name for name, _ in sent} == {kind.__name__ for kind in http_abuse.KINDS}
    assert [what.pieces for _, what in sent[:50]] == [what.pieces for _, what in list(http_abuse.attacks(50, 1))]


def test_a_server_withstands_them(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "LONGEST_WAIT", 1.0)
    monkeypatch.setattr(server, "PATIENCE", 1.0)
    with running([write_model(tmp_path / "tiny")], token=http_abuse.TOKEN, local=False) as found:
        target = http_abuse.Target(found.port)
        expected = asyncio.run(http_abuse.right_answer(target))
        asyncio.run(http_abuse.all_of(target, 300, 3, 16))
        assert asyncio.run(http_abuse.settled(target))
        assert asyncio.run(http_abuse.right_answer(target)) == expected
        assert found.desk.engine.lines["tiny"].generator.free == found.desk.engine.limits.slots
    assert target.wrong == []
    assert sum(target.statuses.values()) == 300
    assert {200, 400, 401, 404, 413} <= set(target.statuses)


def test_an_answer_that_is_none_of_the_api_s_is_noticed(monkeypatch):
    async def broken(*_):
        return b"HTTP/1.1 500 Oh\r\n\r\nTraceback"

    monkeypatch.setattr(http_abuse, "_converse", broken)
    target = http_abuse.Target(1)
    asyncio.run(http_abuse.attack(target, "numbers", http_abuse.numbers(random.Random(1))))
    assert target.wrong == ["numbers: 500"]
