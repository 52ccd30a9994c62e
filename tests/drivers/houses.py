"""What the one suite needs of each driver: drivers of one node, droplets that run a script, what is left of them."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

from tests.drivers.engine import IMAGE

from ostiary.drivers.docker.driver import DockerDriver
from ostiary.drivers.port import Driver, Limits, Spec
from ostiary.drivers.process.driver import ProcessDriver

T = TypeVar("T")
SECOND = 1_000_000
FREE = Limits()
NUMBERS = count(0xA00000000001)
MARKS = count(7_000_000 + os.getpid() % 100_000 * 1000)


class House:
    """A node. `kind` and `place` say which: the socket of an engine, or the directory of a keeper."""

    def __init__(self, kind: str, place: str, node: str) -> None:
        self.kind, self.place, self.node = kind, place, node

    def driver(self) -> Driver:
        """Another driver of the same node."""
        if self.kind == "process":
            return ProcessDriver(Path(self.place), os.environ)
        return DockerDriver(self.place, self.node, "never")

    def script(
        self, text: str, *arguments: str, env: dict[str, str] | None = None, limits: Limits = FREE, name: str = "x"
    ) -> Spec:
        """A droplet that runs a script of the shell, which is here a program like any other."""
        return Spec(
            f"{next(NUMBERS):012x}", name, ("/bin/sh", "-c", text, "sh", *arguments),
            image=IMAGE, env=env or {}, limits=limits,
        )  # fmt: skip


def mark() -> str:
    """A number of seconds that nobody else sleeps: how processes of a test are found."""
    return str(next(MARKS))


def sleepers(mark: str) -> set[int]:
    """The living processes that sleep for `mark`, in whatever container."""
    found = set()
    for each in Path("/proc").iterdir():
        with suppress(OSError):
            if each.name.isdigit() and mark.encode() in (each / "cmdline").read_bytes().split(b"\0"):
                found.add(int(each.name))
    return found


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for what nobody tells of."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def begun(driver: Driver, spec: Spec) -> Spec:
    await driver.create(spec)
    await driver.start(spec.droplet)
    return spec


async def lines(driver: Driver, spec: Spec, last: bytes, seconds: float = 30) -> list[bytes]:
    """Its log up to the line `last`, as it comes."""
    found: list[bytes] = []
    async with asyncio.timeout(seconds), listening(driver.follow(spec.droplet, 10_000)) as heard:
        while not found or found[-1] != last:
            found.append(await heard.get())
    return found


async def ended(driver: Driver, spec: Spec, seconds: float = 30) -> int | None:
    """Wait for its end; its exit code."""
    async with asyncio.timeout(seconds), listening(driver.watch()) as heard:
        while (seen := (await driver.look())[spec.droplet]).state == "running":
            await heard.get()
    assert seen.state == "exited"
    return seen.exit_code


@asynccontextmanager
async def listening(stream: AsyncIterator[T]) -> AsyncIterator[asyncio.Queue[T]]:
    """What a stream brings, in a queue."""
    queue: asyncio.Queue[T] = asyncio.Queue()

    async def read() -> None:
        async for each in stream:
            queue.put_nowait(each)

    task = asyncio.create_task(read())
    try:
        yield queue
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def both(*waits: Awaitable[T]) -> list[T]:
    """What comes of all of them at once."""
    async with asyncio.timeout(60):
        return await asyncio.gather(*waits)
