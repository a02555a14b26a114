"""A PostgreSQL server of the tests' own: in a temporary folder, reached by a socket in it, gone with the session."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SYSTEM = Path("/usr/lib/postgresql")
"""Where Debian keeps the programs, by version, and not on the path."""


class NoServer(Exception):
    """Why none can be started here."""


@contextmanager
def postgresql() -> Iterator[str]:
    """The address of an empty database on a fresh server. Raises NoServer where that cannot be."""
    programs = binaries()
    with tempfile.TemporaryDirectory(prefix="headwater-pg-") as folder:
        os.chmod(folder, 0o700)
        if os.geteuid() == 0:  # the server refuses to run as root
            if not user_exists("postgres"):
                raise NoServer("PostgreSQL does not run as root, and there is no user `postgres`")
            shutil.chown(folder, "postgres")
        data = f"{folder}/data"
        run(programs / "initdb", "-D", data, "-U", "headwater", "-A", "trust", "-E", "UTF8", "--no-sync", cwd=folder)
        # fsync stays on: what a commit promises is tested here.
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c max_connections=80"
        run(programs / "pg_ctl", "-D", data, "-l", f"{folder}/log", "-o", options, "-w", "start", cwd=folder)
        try:
            yield f"postgresql+psycopg://headwater@/postgres?host={folder}"
        finally:
            run(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop", cwd=folder)


def binaries() -> Path:
    """The folder of initdb and pg_ctl."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise NoServer("psycopg is not installed") from None
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = [path.parent for path in SYSTEM.glob("*/bin/initdb")]
    if not versions:
        raise NoServer("PostgreSQL is not installed")
    return max(versions, key=lambda path: float(path.parent.name))


def run(program: Path, *arguments: str, cwd: str) -> None:
    command = [str(program), *arguments]
    if os.geteuid() == 0:
        command = ["runuser", "-u", "postgres", "--", *command]
    # To files, not pipes: the server would hold a pipe open for ever.
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False)
        if done.returncode:
            said.seek(0)
            raise NoServer(f"{program.name} failed: {said.read().strip()}")


def user_exists(name: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def empty(place: str) -> None:
    """Removes everything from a database."""
    from sqlalchemy import create_engine, text

    engine = create_engine(place)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
