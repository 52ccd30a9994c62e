"""A house of one's own for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.control.house import House, opened


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A control with a fresh store."""
    async with opened(tmp_path / "ostiary.db") as each:
        yield each
