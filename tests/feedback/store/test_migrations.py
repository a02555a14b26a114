"""A store that an older version wrote opens, whole, with the newest schema."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from headwater.errors import UserError
from headwater.feedback.store import database
from headwater.feedback.store.copying import copy_store
from headwater.feedback.store.schema import Base
from headwater.feedback.store.store import Store

DUMP = Path(__file__).parent / "store_0001.sql"
"""A store of the first schema, as the version that knew no other wrote it."""


def old_file(path: Path) -> Path:
    with sqlite3.connect(path) as connection:
        connection.executescript(DUMP.read_text(encoding="utf-8"))
    connection.close()
    return path


@pytest.fixture
def old(place: str, tmp_path: Path) -> str:
    """The same old store in either database."""
    if "://" not in place:
        return str(old_file(Path(place)))
    engine = database.open_server(database.address(place))
    with sqlite3.connect(old_file(tmp_path / "dump.db")) as source, database.writing(engine) as target:
        configuration = database.alembic_configuration()
        configuration.attributes["connection"] = target
        command.upgrade(configuration, "0001")
        for table in ("prompt", "response", "annotator", "task", "judgement", "derived_ranking", "event"):
            found = source.execute(f"SELECT * FROM {table}")
            columns = [column[0] for column in found.description]
            values = ", ".join(f":{column}" for column in columns)
            rows = [dict(zip(columns, row, strict=True)) for row in found]
            target.execute(text(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})"), rows)
    engine.dispose()
    return place


def rows_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with sqlite3.connect(path) as connection:
        return {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall()
            for name in ("prompt", "response", "judgement", "derived_ranking", "event")
        }


def test_an_old_store_is_updated_with_all_its_rows(old: str, tmp_path: Path) -> None:
    before = rows_of(old_file(tmp_path / "before.db"))
    with Store(old) as store:
        assert store.problems() == []
        with store.reading() as connection:
            assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
            for name, rows in before.items():
                found = connection.execute(text(f"SELECT * FROM {name} ORDER BY 1")).all()
                assert [tuple(row)[: len(rows[0])] for row in found] == rows
                assert all(value is None for row in found for value in tuple(row)[len(rows[0]) :])
            constraints = {each["name"]: each["sqltext"] for each in inspect(connection).get_check_constraints("task")}
            assert "demonstration" in constraints["ck_task_kind"]
            assert connection.execute(text("SELECT wanted FROM task")).scalars().all() == [1, 1]
        assert [ranking.groups for ranking in store.rankings("train")] == [[[1]], [[2], [1]], [[2], [1]]]
        with pytest.raises((DBAPIError, UserError), match="append-only"), store.writing() as writer:
            writer.connection.execute(text("UPDATE judgement SET note = 'x'"))
        store.add_task("demonstration", 1, [], shown=[])
        assert store.problems() == []
        with Store(tmp_path / "copy.db") as copy:
            copy_store(store, copy)
            assert copy.problems() == []


def test_an_old_store_can_be_read_without_being_touched(tmp_path: Path) -> None:
    path = old_file(tmp_path / "feedback.db")
    before = path.read_bytes()
    with Store(path, read_only=True) as store:
        assert store.problems() == []
        assert store.counts()["judgement"] == 5
        with pytest.raises(UserError, match="readonly"):
            store.add_annotator("Cy")
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["feedback.db"]


def test_a_row_that_points_to_nothing_stops_the_update(tmp_path: Path) -> None:
    path = old_file(tmp_path / "feedback.db")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE task SET prompt_id = 99 WHERE id = 1")
    with pytest.raises(UserError, match="point to nothing"):
        Store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]


def test_what_a_later_column_says_is_in_the_diary(scene, tmp_path: Path) -> None:
    if scene.store.engine.dialect.name != "sqlite":
        return
    scene.store.judge(scene.ranking("1", [[scene.answers[0]]], edit="better", edit_of=scene.answers[0]))
    assert scene.store.problems() == []
    with sqlite3.connect(tmp_path / "feedback.db") as connection:
        connection.execute("DROP TRIGGER judgement_no_update")
        connection.execute("UPDATE judgement SET shown = ?", (json.dumps(scene.answers),))
    assert "Rows 1 to 1 of `judgement`" in scene.store.problems()[0]
