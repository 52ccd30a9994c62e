from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.dialects.doorman import Visitor, entered
from tests.dialects.house import OWNER, PASSWORD, House, build


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    built = await build(tmp_path)
    yield built
    await built.close()


@pytest.fixture
async def admin(house: House) -> Visitor:
    """The owner, logged in over the Doorman surface."""
    return await entered(house, OWNER, PASSWORD)
