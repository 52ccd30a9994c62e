from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.dialects.house import House, build


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    built = await build(tmp_path)
    yield built
    await built.close()
