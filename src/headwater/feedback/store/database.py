"""Opening the database behind a feedback store: address, pragmas, migrations, one writer at a time.

SQLite runs in WAL mode with synchronous=FULL: a transaction that was acknowledged survives kill -9 and a power cut, and
readers never wait for the writer. PostgreSQL is reached by its URL; the code above this file does not know which it is.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from weakref import finalize

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from headwater.errors import UserError
from headwater.manifest import MANIFEST

BUSY_SECONDS = 30
"""How long a writer waits for another process's transaction before it gives up."""

MIGRATION_LOCK = 0x6865616477617465  # "headwate" as a 64-bit number; PostgreSQL's advisory lock during migrations


def connect(place: str | Path, *, read_only: bool) -> Engine:
    """The engine for a file path, `sqlite:///…` or `postgresql://…`, with the newest schema.

    `read_only` opens an existing file without touching a byte of its folder; of an older one, an updated copy.
    Raises UserError where the place cannot be opened, is no database, or was written by a newer version.
    """
    url = address(place)
    is_file = url.get_backend_name() == "sqlite"
    if is_file and not read_only:
        refuse_finished(Path(url.database or ""))
    engine = open_sqlite(url, read_only=read_only) if is_file else open_server(url)
    try:
        if not read_only:
            migrate(engine, str(place))
        elif is_file and current_revision(engine) in older_revisions():
            engine.dispose()
            engine = open_updated_copy(Path(url.database or ""))
        else:
            refuse_other_schema(engine, str(place))
    except DBAPIError as error:
        engine.dispose()
        why = reason(error)
        raise UserError(f"The feedback store {shown(place)} cannot be opened ({why}): {mend(error)}") from None
    except BaseException:
        engine.dispose()
        raise
    return engine


def address(place: str | Path) -> URL:
    """A path or URL as an SQLAlchemy URL; of another database than the two, UserError."""
    if isinstance(place, Path) or "://" not in place:
        return URL.create("sqlite", database=str(place))
    try:
        url = make_url(place)
    except ArgumentError:
        raise UserError(f"`{place}` is no database address: give a file path or postgresql://user@host/name.") from None
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise UserError(f"`{shown(place)}` names a database that is not known here: use a file path or postgresql://….")
    return url


def open_sqlite(url: URL, *, read_only: bool) -> Engine:
    path = Path(url.database or "")
    if read_only and not path.is_file():
        raise UserError(f"There is no feedback store at {path}: give the path of a feedback.db.")
    if not url.database or path.is_dir() or not path.parent.is_dir():
        raise UserError(f"The feedback store cannot be made at `{path}`: give a file in an existing folder.")
    if read_only:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        url = URL.create("sqlite", database=uri.replace("file://", "file:"), query={"uri": "true"})
    # A connection per piece of work: nothing lingers that would keep a WAL file alive after close().
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # this file says when a transaction begins, not the driver
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys=ON")
        if not read_only:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("headwater_migrates", False):
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")  # tables are made anew: see `migrate`
        # A writer asks for the lock at once: one that began as a reader could not wait for it, only fail.
        writes = options.get("headwater_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def open_server(url: URL) -> Engine:
    try:
        return create_engine(url, pool_pre_ping=True)
    except (NoSuchModuleError, ModuleNotFoundError):
        raise UserError(
            "PostgreSQL needs its driver: run `pip install 'headwater[postgres]'` and write postgresql+psycopg://…."
        ) from None


def open_updated_copy(path: Path) -> Engine:
    """A copy of an older SQLite store in a temporary folder, with the newest schema, to be read and thrown away.

    A finished stage's store is never changed, for its checksum stands in a manifest.
    """
    folder = TemporaryDirectory(prefix="headwater-")
    for ending in ("", "-wal"):
        if (part := path.with_name(path.name + ending)).is_file():
            shutil.copyfile(part, Path(folder.name) / f"feedback.db{ending}")
    copy = Path(folder.name) / "feedback.db"
    engine = open_sqlite(address(copy), read_only=False)
    migrate(engine, str(path))
    engine.dispose()
    engine = open_sqlite(address(copy), read_only=True)
    finalize(engine, folder.cleanup)
    return engine


@contextmanager
def writing(engine: Engine, *, migrates: bool = False) -> Iterator[Connection]:
    """One transaction that is alone in writing, committed durably at the end, rolled back on any error."""
    options = {"headwater_writes": True, "headwater_migrates": migrates}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        if connection.dialect.name == "postgresql" and inspect(connection).has_table("event"):
            connection.execute(text("LOCK TABLE event IN EXCLUSIVE MODE"))
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that sees one state, that of its first query, whoever writes meanwhile."""
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":  # by itself, each query there sees what was written just before it
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


def migrate(engine: Engine, place: str) -> None:
    """Brings the schema to the newest version, in one transaction; at the newest already: nothing is written.

    SQLite can change most tables only by making them anew, which its foreign keys would forbid: they are off meanwhile and
    checked at the end.
    """
    if current_revision(engine) == newest_revision():
        return
    from alembic import command
    from alembic.util import CommandError

    with writing(engine, migrates=True) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        configuration = alembic_configuration()
        configuration.attributes["connection"] = connection
        try:
            command.upgrade(configuration, "head")
        except CommandError:
            raise UserError(
                f"The feedback store {shown(place)} was written by a newer headwater: update headwater and try again."
            ) from None
        if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
            raise UserError(f"{shown(place)} has rows that point to nothing: it is damaged; restore a copy.")


def refuse_finished(path: Path) -> None:
    """Raises UserError where a store belongs to a finished stage of a run, which says what was learnt from, and so stays."""
    if (path.parent / MANIFEST).is_file():
        raise UserError(
            f"{path} is what a finished run learnt from, and stays as it is: give a store of your own, such as "
            f"{path.parent.parent / 'judgements.db'}, which `headwater serve` makes."
        )


def refuse_other_schema(engine: Engine, place: str) -> None:
    found = current_revision(engine)
    if found == newest_revision():
        return
    if found is None:
        raise UserError(f"{shown(place)} is no feedback store: give the path of a feedback.db.")
    raise UserError(f"{shown(place)} has another version of the schema ({found}): open it for writing to update it.")


def current_revision(engine: Engine) -> str | None:
    """The version of the schema that a database has; None where it has none yet."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def newest_revision() -> str | None:
    newest: str | None = _scripts().get_current_head()
    return newest


def older_revisions() -> set[str]:
    """All versions of the schema that there were before the newest."""
    return {script.revision for script in _scripts().walk_revisions()} - {newest_revision() or ""}


def _scripts() -> Any:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(alembic_configuration())


def alembic_configuration() -> Any:
    """Alembic's settings, made in memory: the scripts lie beside this file, in the wheel too."""
    from alembic.config import Config

    configuration = Config()
    scripts = Path(__file__).parent / "migrations"
    configuration.set_main_option("script_location", str(scripts).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    return configuration


def seal(engine: Engine) -> None:
    """SQLite: folds the WAL into the file and leaves WAL mode, so that the one file is the whole store."""
    if engine.dialect.name != "sqlite":
        return
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        cursor.execute("PRAGMA journal_mode=DELETE")
        mode = (cursor.fetchone() or [""])[0]
        cursor.close()
    except sqlite3.OperationalError:
        mode = "locked"
    finally:
        raw.close()
    if mode != "delete":
        raise UserError("The feedback store is open elsewhere: close the other program and try again.")


def shown(place: str | Path) -> str:
    """The address without a password."""
    text_ = str(place)
    return make_url(text_).render_as_string(hide_password=True) if "://" in text_ else text_


def reason(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__


def mend(error: DBAPIError) -> str:
    if "not a database" in str(error.orig) or "malformed" in str(error.orig):
        return "it is damaged or no store; restore a copy or give another path."
    if isinstance(error, OperationalError) and "locked" in str(error.orig):
        return "another program is writing; wait for it and try again."
    return "check the path, its permissions and the free space on the disk."
