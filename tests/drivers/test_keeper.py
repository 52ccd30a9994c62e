"""The keeper of a node's droplets, beside whoever started it."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.drivers.houses import House, begun

from ostiary.core.refusal import Unavailable
from ostiary.drivers.process.driver import ProcessDriver

STARTER = """
import asyncio, sys
import uvloop
from tests.drivers.houses import begun, lines, House

async def main():
    house = House("process", sys.argv[1], "")
    driver = house.driver()
    async with asyncio.timeout(60):
        await driver.open()
        text = "for each in /proc/$$/fd/*; do readlink $each && echo ${each##*/}; done; echo end; sleep 60"
        said = await lines(driver, await begun(driver, house.script(text)), b"end")
        print([line.decode() for line in said if b"/" not in line])
        await driver.close(stop=True)

uvloop.run(main())
"""
"""Like control: its event loop closes nothing for the processes that it starts."""


def test_neither_keeper_nor_droplet_gets_what_control_has_open(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    high = fcntl.fcntl(reader, fcntl.F_DUPFD, 50)
    try:
        done = subprocess.run(
            [sys.executable, "-c", STARTER, str(tmp_path / "droplets")], pass_fds=[high], check=True, timeout=120,
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    finally:
        for each in (reader, writer, high):
            os.close(each)
    assert done.stdout == "['0', '1', '2', 'end']\n"


IMPATIENT = """
import sys
from ostiary.drivers.process import keeper
keeper.FIRST = 0.1
keeper.main()
"""


def test_a_keeper_to_whom_nobody_comes_ends(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", IMPATIENT, str(tmp_path)], check=True, timeout=60)
    with (tmp_path / "keeper.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # which it holds as long as it lives


async def test_a_keeper_that_is_stuck_is_as_good_as_gone_until_it_goes_on(tmp_path: Path) -> None:
    house = House("process", str(tmp_path / "droplets"), "")
    driver = ProcessDriver(Path(house.place), os.environ)
    await driver.open()
    spec = await begun(driver, house.script("sleep 60"))
    events, keeper = driver.watch(), driver.linked().pid
    driver.silence = 0.5
    os.kill(keeper, signal.SIGSTOP)
    with pytest.raises(Unavailable, match="The keeper of the droplets does not answer"):
        await driver.look()
    with pytest.raises(Unavailable, match="The keeper of the droplets has ended"):
        await anext(events)
    os.kill(keeper, signal.SIGCONT)
    driver.silence = 60
    await driver.open()
    assert driver.linked().pid == keeper
    assert [(each, seen.state) for each, seen in (await driver.look()).items()] == [(spec.droplet, "running")]
    await driver.close(stop=True)


async def test_what_is_ordered_of_a_droplet_that_is_being_removed_is_done_to_its_successor(tmp_path: Path) -> None:
    house = House("process", str(tmp_path / "droplets"), "")
    driver = ProcessDriver(Path(house.place), os.environ)
    await driver.open()
    spec = await begun(driver, house.script("sleep 60"))
    first = (await driver.look())[spec.droplet].started
    removing = asyncio.ensure_future(driver.remove(spec.droplet))
    await asyncio.sleep(0)
    await asyncio.gather(driver.create(spec), driver.start(spec.droplet))
    await removing
    seen = (await driver.look())[spec.droplet]
    assert seen.state == "running"
    assert seen.started != first
    await driver.remove(spec.droplet)
    await driver.close(stop=True)
