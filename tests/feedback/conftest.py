"""A store to write into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from headwater.feedback.judgements import Groups, Judgement
from headwater.feedback.store.store import Store


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
