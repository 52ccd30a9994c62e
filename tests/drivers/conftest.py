"""Each driver, open, on a node of the test's own."""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from tests.drivers.engine import Dockerd, running
from tests.drivers.houses import House

from ostiary.core.refusal import Unavailable
from ostiary.drivers.port import Driver

NODES = count(1)


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Dockerd]:
    with running() as engine:
        yield engine


@pytest.fixture(params=["process", "docker"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    if request.param == "process":
        return House("process", str(tmp_path / "droplets"), "")
    return House("docker", str(request.getfixturevalue("dockerd").socket), f"node{next(NODES)}")


@pytest.fixture
async def driver(house: House) -> AsyncIterator[Driver]:
    """An open driver; its droplets are removed in the end."""
    opened = house.driver()
    await opened.open()
    yield opened
    await opened.close(stop=False)
    last = house.driver()
    with suppress(Unavailable):
        await last.open()
        for each in await last.look():
            await last.remove(each)
        await last.close(stop=True)
    if house.kind == "process":
        shutil.rmtree(house.place)
