"""What holds for every test, and the databases that a feedback store can lie in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import servers

# Whether a test passes never depends on how busy the machine is.
settings.register_profile("headwater", deadline=None)
settings.load_profile("headwater")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
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
    address: str = request.getfixturevalue("postgresql_server")
    servers.empty(address)
    return address
