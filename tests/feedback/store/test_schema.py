"""The migrations make exactly the tables of schema.py, and nothing in them can be changed behind the store's back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from headwater.errors import UserError
from headwater.feedback.store.schema import APPEND_ONLY, Base
from headwater.feedback.store.store import Store


def test_migrations_lead_to_the_declared_schema(store: Store) -> None:
    with store.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    Store(path).close()
    before = path.read_bytes()
    Store(path).close()
    assert path.read_bytes() == before


def test_wal_and_full_synchronisation(tmp_path: Path) -> None:
    with Store(tmp_path / "feedback.db") as store, store.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}"])
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_append_only_tables_refuse_change(scene, table: str, statement: str) -> None:
    scene.store.judge(scene.ranking("1", [[scene.answers[0]]]))
    with scene.store.writing() as writer:
        row = {"prompt_id": scene.prompt, "ranking": [[1]], "method": "m", "settings": {}, "judgements": []}
        writer.insert("derived_ranking", [row], "derivation")
    key = "sequence" if table == "event" else "id"
    with pytest.raises((DBAPIError, UserError), match="append-only"), scene.store.writing() as writer:
        writer.connection.execute(text(statement.format(table, key, key)))


def test_a_newer_schema_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UserError, match="newer headwater"):
        Store(path)
    with pytest.raises(UserError, match="another version"):
        Store(path, read_only=True)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    text_file = tmp_path / "notes.txt"
    text_file.write_text("no database " * 200)
    with pytest.raises(UserError, match="not a database"):
        Store(text_file)
    with pytest.raises(UserError, match="There is no feedback store"):
        Store(tmp_path / "absent.db", read_only=True)
    with pytest.raises(UserError, match="existing folder"):
        Store(tmp_path / "absent" / "feedback.db")
    with pytest.raises(UserError, match="not known here"):
        Store("mysql://somebody:secret@host/name")
    (tmp_path / "empty.db").touch()
    with pytest.raises(UserError, match="is no feedback store"):
        Store(tmp_path / "empty.db", read_only=True)


def test_an_odd_path_is_only_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "100% 影评 #1?"
    folder.mkdir()
    with Store(folder / "feed back.db") as store:
        store.add_annotator("Ada")
        store.seal()
    with Store(folder / "feed back.db", read_only=True) as store:
        assert store.counts()["annotator"] == 1
    assert [path.name for path in folder.iterdir()] == ["feed back.db"]
