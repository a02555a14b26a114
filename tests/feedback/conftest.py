"""A store to write into: in SQLite, and in a PostgreSQL server that is started for the session, where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import servers
from headwater.feedback.judgements import Groups, Judgement
from headwater.feedback.store import Store


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a PostgreSQL database."""
    try:
        with servers.postgresql() as address:
            yield address
    except servers.NoServer as why:
        pytest.skip(f"no PostgreSQL: {why}")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store can be made."""
    if request.param == "sqlite":
        return str(tmp_path / "feedback.db")
    address: str = request.getfixturevalue("server")
    servers.empty(address)
    return address


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with Store(place, clock=lambda: 1_700_000_000) as opened:
        yield opened


@dataclass
class Scene:
    """One prompt with four answers, and one person."""

    store: Store
    prompt: int
    answers: list[int]
    person: int

    def ranking(self, client_id: str, groups: Groups | None, **more: object) -> Judgement:
        values = {"kind": "ranking", "annotator": self.person, "prompt": self.prompt, "ranking": groups, **more}
        return Judgement(client_id=client_id, **values)  # type: ignore[arg-type]


@pytest.fixture
def scene(store: Store) -> Scene:
    prompt = store.add_prompt([{"role": "user", "content": "写一行影评。"}], source="films", split="train")
    answers = [store.add_response(prompt, f"answer {i}", model="abc", seed=i) for i in range(4)]
    return Scene(store, prompt, answers, store.add_annotator("Ada", token="secret"))
