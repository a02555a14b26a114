"""Where the prompts of the pages come into the store."""

from __future__ import annotations

from pathlib import Path

from headwater.corpus.shares import share_of
from headwater.feedback.store.schema import PROMPT
from headwater.feedback.store.store import Store
from headwater.serving.pages.said import WRITTEN, keep_prompt


def test_what_begins_as_an_evaluation_does_stays_on_its_side(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "Tell me of the sea!"}]
    split = "judge" if share_of(asked[0]["content"]) == "train" else "train"
    with Store(tmp_path / "feedback.db") as store:
        first = store.add_prompt(asked, source="prompts", split=split)
        alike = [{"role": "user", "content": "tell me of the sea"}]
        kept = [keep_prompt(store, conversation, WRITTEN) for conversation in (asked, asked, alike)]
        assert kept[0] == kept[1] != first
        with store.reading() as connection:
            assert {row.split for row in connection.execute(PROMPT.select())} == {split}
        assert store.problems() == []
