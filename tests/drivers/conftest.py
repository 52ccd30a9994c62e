"""Each driver, open, on a node of the test's own."""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from tests.drivers.engine import Engine, absent, running
from tests.drivers.houses import House

from ostiary.core.refusal import Unavailable
from ostiary.drivers.port import Driver

NODES = count(1)


PODMAN = [] if absent("podman") else ["podman"]
"""Podman is one more engine where it is installed."""


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Engine]:
    with running() as engine:
        yield engine


@pytest.fixture(scope="session")
def podman() -> Iterator[Engine]:
    with running("podman") as engine:
        yield engine


@pytest.fixture(params=["process", "docker", *PODMAN])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    if request.param == "process":
        return House("process", str(tmp_path / "droplets"), "")
    engine = request.getfixturevalue("dockerd" if request.param == "docker" else request.param)
    return House(request.param, str(engine.socket), f"node{next(NODES)}")


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
