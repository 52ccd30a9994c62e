"""Fixtures of whole nodes."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.e2e.house import Backend, backend, configuration


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory whose path is short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="ost-") as directory:
        yield Path(directory)


@pytest.fixture
async def behind() -> AsyncIterator[Backend]:
    """A backend."""
    async with backend() as each:
        yield each


@pytest.fixture
def configured(place: Path, behind: Backend) -> Path:
    """A directory with a configuration for that backend."""
    (place / "ostiary.yaml").write_text(configuration(behind.port))
    return place
