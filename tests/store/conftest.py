"""A store of one's own for each test."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ostiary.store.store import Store, open_store


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of the current schema, made once."""
    path = tmp_path_factory.mktemp("made") / "ostiary.db"

    async def make() -> None:
        await (await open_store(f"sqlite:///{path}")).close()

    asyncio.run(make())
    return path


@pytest.fixture
def url(made: Path, tmp_path: Path) -> str:
    """The URL of a fresh database."""
    path = tmp_path / "ostiary.db"
    path.write_bytes(made.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A fresh store, open."""
    opened = await open_store(url)
    yield opened
    await opened.close()
