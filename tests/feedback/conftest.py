"""A store to write into: SQLite always, PostgreSQL too where HEADWATER_TEST_POSTGRES names an empty database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from headwater.feedback.judgements import Groups, Judgement
from headwater.feedback.store import Store


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    place: str | Path = tmp_path / "feedback.db"
    if request.param == "postgresql":
        if not (place := os.environ.get("HEADWATER_TEST_POSTGRES", "")):
            pytest.skip("HEADWATER_TEST_POSTGRES names no database")
        empty(place)
    with Store(place, clock=lambda: 1_700_000_000) as opened:
        yield opened


def empty(place: str) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(place)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()


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
