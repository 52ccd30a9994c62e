"""A store of one's own for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.store.template import fresh

from ostiary.store.store import Store, open_store


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a fresh database."""
    return fresh(tmp_path / "ostiary.db")


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A fresh store, open."""
    opened = await open_store(url)
    yield opened
    await opened.close()
