"""A link in one process: a server with a small authority, and workers with a door that writes down what it is told."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from ostiary.core.admission import Admission
from ostiary.core.director import Unsteer
from ostiary.core.snapshot import Gateway, Route, Snapshot
from ostiary.link.client import Client, Use
from ostiary.link.frames import frame
from ostiary.link.messages import Change, Grant, Order, Pattern, Place, Report, Routes, Want
from ostiary.link.server import Server


class Authority:
    """Knows some digests. While `gate` is closed, reads wait after they have read; while `broken`, they fail."""

    def __init__(self) -> None:
        self.known: dict[bytes, Admission | None] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False
        self.read = asyncio.Event()
        self.reads: list[list[bytes]] = []

    async def admit(self, digests: Sequence[bytes]) -> dict[bytes, Admission | None]:
        if self.broken:
            raise OSError("disk")
        self.reads.append(list(digests))
        answers = {digest: self.known.get(digest) for digest in digests}
        self.read.set()
        await self.gate.wait()
        return answers

    async def guessed(self, guesses: Mapping[bytes, str]) -> dict[str, int]:
        return dict.fromkeys(guesses.values(), 1000)

    def draw(self, wants: Sequence[Want]) -> list[Grant]:
        return [Grant(want.key, want.cells, 0) for want in wants]


class Door:
    """Writes down what it is told; `until` waits for something to have been told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.leases: list[int] = []
        self.unsteered: list[Unsteer] = []
        self.reporting = 0
        self.problem = ""
        self.defect: Exception | None = None
        self.obeys: Client | None = None
        """Whom it tells at once that an order is carried out."""
        self._more = asyncio.Event()

    def _write(self, *words: object) -> None:
        self.told.append(words)
        self._more.set()

    async def until(self, *words: object) -> None:
        await self._wait(lambda: words in self.told)

    def lease(self, until: int) -> None:
        self.leases.append(until)
        self._more.set()

    async def leased(self, times: int) -> None:
        await self._wait(lambda: len(self.leases) >= times)

    async def _wait(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():
                self._more.clear()
                await self._more.wait()

    def answers(self, admissions: dict[bytes, Admission | None]) -> None:
        self._write("answers", admissions)

    def barred(self, until: dict[str, int]) -> None:
        self._write("barred", sorted(until))

    def granted(self, grants: list[Grant]) -> None:
        self._write("granted", grants)

    def steered(self, places: list[Place]) -> None:
        self._write("steered", places)

    def doubt(self, used: list[Use]) -> None:
        if used:
            self._write("doubt", sorted(used))

    def do(self, seq: int, order: Order) -> None:
        self._write("do", order)
        if self.obeys is not None:
            self.obeys.done(seq, ["alice"])

    def change(self, change: Change) -> dict[str, int]:
        self._write("change", change.clients, change.everything, change.streams)
        self.unsteered += change.steering
        return {"admissions": 1}

    def prepare(self, snapshot: Snapshot) -> None:
        self._write("prepare", snapshot.revision)
        if self.defect is not None:
            raise self.defect

    def routes(self, routes: Routes) -> None:
        self._write("routes", len(routes.exact), len(routes.patterns))

    def prepared(self) -> str:
        self._write("prepared")
        return self.problem

    def swap(self, revision: int) -> None:
        self._write("swap", revision)

    def report(self, seq: int) -> Report:
        self.reporting += 1
        return Report(seq, [], {"reports": self.reporting}, {})

    def connected(self, up: bool) -> None:
        self._write("connected", up)


class Link:
    """A server at a Unix socket, and the workers of the test."""

    def __init__(self, authority: Authority, server: Server, path: str) -> None:
        self.authority, self.server, self.path = authority, server, path

    @asynccontextmanager
    async def worker(self, number: int, door: Door, client: Client | None = None) -> AsyncIterator[Client]:
        """Worker `number` with `door`, for as long as the block lasts."""
        client = client or Client(number, os.getpid())
        task = asyncio.create_task(client.run(self.path, door))
        try:
            yield client
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def listener(path: str) -> socket.socket:
    """A listening Unix socket, as the supervisor would hold it."""
    Path(path).unlink(missing_ok=True)
    held = socket.socket(socket.AF_UNIX)
    held.bind(path)
    held.listen()
    held.setblocking(False)
    return held


@asynccontextmanager
async def serving(server: Server, held: socket.socket) -> AsyncIterator[None]:
    """`server` runs for as long as the block lasts."""
    task = asyncio.create_task(server.serve(held))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def snapshot(revision: int, routes: int = 3) -> tuple[Snapshot, list[bytes]]:
    """A configuration of `routes` exact routes and as many with variables, as control sends it."""
    packed = msgspec.Raw(msgspec.msgpack.encode(Route("r", "GET", (), "/", 0, 0)))
    frames = [
        frame(Routes(revision, {b"GET /%d" % number: packed}, [Pattern("GET", (), number, packed)]))
        for number in range(routes)
    ]
    return Snapshot(revision, Gateway(), (), (), 2 * routes), frames
