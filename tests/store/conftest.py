"""A store of one's own for each test, on each engine."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.postgresql import Server
from tests.store.template import fresh

from ostiary.store.store import Store, open_store


@pytest.fixture
def postgresql_url(postgresql: Server) -> Iterator[str]:
    """The URL of a fresh database of PostgreSQL."""
    url = postgresql.fresh()
    yield url
    postgresql.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_url"))
    return fresh(tmp_path / "ostiary.db")


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A fresh store, open."""
    opened = await open_store(url, alone=False)
    yield opened
    await opened.close()
