"""Models that are loaded when they are first asked for."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import httpx
import pytest
import torch

from headwater.feedback.store.store import Store
from headwater.serving import served as models
from headwater.serving.app import build
from headwater.serving.desk import Desk
from headwater.serving.engine import Limits
from headwater.serving.failure import Refusal
from headwater.serving.pages.desk_answering import DeskAnswering
from headwater.serving.pages.site import Site
from served import Running, listens

ASKED = {"prompt": "The river", "max_tokens": 8, "temperature": 0}


@pytest.fixture
def desk(folders: list[Path]) -> Desk:
    """One model that is there, and another that is not yet."""
    loaded = models.load("tiny", folders[0], torch.float32)
    return Desk([loaded], Limits(slots=8), [models.unloaded("other", folders[1], torch.float32)])


def test_it_is_listed_answers_as_itself_and_is_loaded_once(desk: Desk, here: Running, folders: list[Path]) -> None:
    loads: list[str] = []
    load = models.load
    later = models.Unloaded(
        "other", folders[1], 0, 128, lambda: (loads.append("other"), load("other", folders[1], torch.float32))[1]
    )
    desk.unloaded = {"other": later}
    with listens(desk, build(desk)) as (port, _), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert [each["id"] for each in client.get("/v1/models").json()["data"]] == ["tiny", "other"]
        assert client.get("/v1/models/other").json()["context"] == 128
        client.post("/v1/completions", json=ASKED)
        assert loads == []
        assert desk.served.keys() == {"tiny"}
        told = client.post("/v1/completions", json=ASKED | {"model": "other", "n": 4}).json()
        again = client.post("/v1/completions", json=ASKED | {"model": "other"}).json()
    assert loads == ["other"]
    expected = httpx.post(f"{here.url}/v1/completions", json=ASKED | {"model": "other"}).json()
    assert [choice["text"] for choice in told["choices"]] == [expected["choices"][0]["text"]] * 4
    assert again["choices"] == expected["choices"]
    assert desk.line("other").limits.slots == 2
    assert desk.gauges()["slots"][1] == 10


def test_two_who_ask_at_once_wait_for_one(desk: Desk) -> None:
    loads: list[str] = []
    load = desk.unloaded["other"].load
    object.__setattr__(desk.unloaded["other"], "load", lambda: (loads.append("other"), load())[1])

    async def both() -> None:
        await asyncio.gather(desk.ready("other"), desk.ready("other"), desk.ready("none"), desk.ready(None))

    asyncio.run(both())
    assert loads == ["other"]
    assert list(desk.offered) == ["tiny", "other"]


def test_one_that_is_gone_by_then_is_told_and_logged(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    object.__setattr__(desk.unloaded["other"], "load", lambda: models.load("other", tmp_path, torch.float32))
    with caplog.at_level(logging.ERROR), pytest.raises(Refusal) as caught:
        asyncio.run(desk.ready("other"))
    assert caught.value.status == 503
    assert "other cannot be loaded" in caplog.text


def test_the_chat_compares_it_without_saying_who_is_who(desk: Desk, folders: list[Path], tmp_path: Path) -> None:
    answering = DeskAnswering(desk, {"tiny": folders[0]})
    assert [model.name for model in answering.models] == ["tiny", "other"]
    with Store(tmp_path / "judgements.db") as store:
        site = Site(tmp_path, store, answering)
        with listens(desk, build(desk, site)) as (port, _):
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=url, headers={"origin": url}) as client:
                client.post("/sign-in", data={"name": "Ann"})
                asked = {
                    "models": ["tiny", "other"],
                    "conversation": [{"role": "user", "content": "The river"}],
                    "dials": {"longest": 4},
                }
                lines = client.post("/chat/answer", json=asked)
                assert "tiny" not in lines.text
                assert "other" not in lines.text
                ids = {line["side"]: line["id"] for line in map(json.loads, lines.text.splitlines()) if "id" in line}
                word = {"kind": "pair", "answers": [ids[0], ids[1]], "better": 0, "client_id": "12345678"}
                said = client.post("/chat/judge", json=word).json()
    assert {each["model"] for each in said["answers"]} == {"tiny", "other"}
