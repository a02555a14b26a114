"""Where a served run keeps its judgements, whenever it was served first."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.feedback.store.store import STORE, Store
from headwater.runs import Run
from headwater.serving.pages.supply import JUDGEMENTS, store_of


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "runs/tiny").mkdir(parents=True)
    return Run(tmp_path / "runs", "tiny")


def finish(run: Run) -> None:
    """The stage `feedback` with one person in its store."""
    run.stage("feedback").mkdir()
    with Store(run.stage("feedback") / STORE) as store:
        store.add_annotator("Ada")
        store.seal()


def names(place: Path) -> set[str]:
    with Store(place) as store, store.reading() as connection:
        assert store.problems() == []
        return set(connection.exec_driver_sql("SELECT name FROM annotator").scalars())


def test_it_begins_with_what_was_said_before(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    finish(run)
    place = store_of(run)
    with Store(place) as store:
        store.add_annotator("Bo")
    assert store_of(run) == place == run.folder / JUDGEMENTS
    assert names(place) == {"Ada", "Bo"}
    assert capsys.readouterr().err == ""


def test_an_empty_one_that_was_made_too_early_is_filled(run: Run) -> None:
    Store(store_of(run)).close()
    finish(run)
    assert names(store_of(run)) == {"Ada"}


def test_one_that_people_began_too_early_stays_and_it_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(store_of(run)) as store:
        store.add_annotator("Bo")
    finish(run)
    assert names(store_of(run)) == {"Bo"}
    assert "does not hold what the stage `feedback` brought" in capsys.readouterr().err
