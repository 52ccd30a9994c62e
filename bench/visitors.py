"""Users of a director, a process of its own: `python -m bench.visitors JOB RESULT`, both files.

At first each comes once; then (`begun`) requests are due at a steady rate, an open loop, until SIGTERM. Half of them
are of a few regular users, who have two connections each of their own, so that they ask for several things at once, by
way of several workers; the others share connections, as behind a proxy. Most requests are quick, some are slow, a few
are streams. Where the gateway ends a connection before an answer has begun, the same is asked again, as clients do.
"""

import asyncio
import contextlib
import itertools
import random
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import cast

import msgspec
import uvloop
from msgspec import Struct

from bench.turns import take_turns_soon

clock = time.monotonic
BEGUN = "begun"
LOST, CUT, LATE = 0, -1, -2
"""In place of a status: the connection ended before an answer; in the middle of one; there was none in the end."""
OK = 200
QUICK, SLOW, STREAM = range(3)
SLOW_ONES, STREAMS = 0.06, 0.01
"""Their share of requests."""
REGULAR = 0.5
"""The share of requests that regular users make."""
PATIENCE = 20.0
TURN = 0.001


class Job(Struct):
    """Who comes, and how often."""

    port: int
    users: int
    regular: int
    """Users with connections of their own."""
    shared: int
    """Connections of all others."""
    rate: float
    seed: int = 7


class Ask(Struct, array_like=True):
    """A request and what became of it. Times are seconds of the machine's monotonic clock."""

    request: int
    user: int
    kind: int
    due: float
    sent: float = 0.0
    answered: float = 0.0
    status: int = LATE
    worker: str = ""
    """Which process answered last on this connection, as its request ids say."""
    again: bool = False
    """It was asked again, under another number."""
    said: str = ""
    """The body of an answer that is not the one that was asked for."""


class Seat:
    """A place for one connection, which is made again when it ends."""

    __slots__ = ("free", "line", "own")

    def __init__(self, own: int) -> None:
        self.own = own
        """The user whose it is; -1: anybody's."""
        self.line: Line | None = None
        self.free = False


class Line(asyncio.Protocol):
    """A connection, and the request on it."""

    def __init__(self, crowd: "Crowd", seat: Seat) -> None:
        self.crowd, self.seat = crowd, seat
        self.ask: Ask | None = None
        self.worker = ""
        self.data = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, ask: Ask) -> None:
        self.ask = ask
        ask.sent = clock()
        self.transport.write(self.crowd.text(ask))

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        if not end or self.ask is None or not _whole(head, body):
            return
        ask, self.ask, self.data = self.ask, None, b""
        self.worker = head.partition(b"x-request-id: ")[2].partition(b"-")[0].decode()
        ask.status, ask.answered, ask.worker = int(head[9:12]), clock(), self.worker
        if ask.status != OK:
            ask.said = body.decode(errors="replace")
        self.crowd.ended()
        if b"connection: close" in head:
            self.transport.close()
        else:
            self.crowd.freed(self.seat)

    def connection_lost(self, reason: Exception | None) -> None:
        ask, self.ask = self.ask, None
        self.crowd.lost(self.seat)
        if ask is None:
            return
        ask.status, ask.answered, ask.worker = CUT if self.data else LOST, clock(), self.worker
        if ask.status == LOST and ask.answered < ask.due + PATIENCE:
            self.crowd.ask_again(ask)
        self.crowd.ended()


def _whole(head: bytes, body: bytes) -> bool:
    lower = head.lower()
    if b"\r\ntransfer-encoding: chunked" in lower:
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= int(lower.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0] or 0)


class Crowd:
    """Everybody."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.random = random.Random(job.seed)
        self.numbers = itertools.count(1)
        self.asked: list[Ask] = []
        self.seats = {user: (Seat(user), Seat(user)) for user in range(job.regular)}
        self.free: deque[Seat] = deque()
        self.waiting: deque[Ask] = deque()
        """Due, while no shared connection was free."""
        self.under_way = 0
        """Requests that wait for their answers, or to be sent."""
        self.quiet = asyncio.Event()
        """Set while there are none."""
        self.tasks: set[asyncio.Task[None]] = set()
        self.ending = asyncio.Event()

    async def run(self) -> None:
        """From the first connection to the last answer."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.ending.set)
        own = [seat for seats in self.seats.values() for seat in seats]
        for seat in [*own, *(Seat(-1) for _ in range(self.job.shared))]:
            await self._connect(seat)
        await self._arrive()
        print(BEGUN, flush=True)
        await self._come_and_go()
        await self._until_answered()

    async def _arrive(self) -> None:
        for start in range(0, self.job.users, self.job.shared):
            for user in range(start, min(start + self.job.shared, self.job.users)):
                self._give(Ask(next(self.numbers), user, QUICK, clock()))
            await self._until_answered()

    async def _come_and_go(self) -> None:
        began, step = clock(), 1 / self.job.rate
        for number in itertools.count():
            due = began + number * step
            if (left := due - clock()) > 0:
                await asyncio.sleep(max(TURN, left))
            if self.ending.is_set():
                return
            self._give(self._next(due))

    async def _until_answered(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self.quiet.wait()

    def _next(self, due: float) -> Ask:
        chance = self.random.random()
        user = self.random.randrange(self.job.regular if self.random.random() < REGULAR else self.job.users)
        kind = STREAM if chance < STREAMS else SLOW if chance < STREAMS + SLOW_ONES else QUICK
        return Ask(next(self.numbers), user, kind, due)

    def text(self, ask: Ask) -> bytes:
        """The whole request."""
        wait = self.random.randrange(50, 500) if ask.kind == SLOW else 0
        pieces = self.random.randrange(5, 30) if ask.kind == STREAM else 0
        target = b"/visit?%d.%d.%d" % (ask.request, wait, pieces)
        return b"GET %s HTTP/1.1\r\nHost: x\r\nX-User: u%d\r\n\r\n" % (target, ask.user)

    def _give(self, ask: Ask) -> None:
        """Send it over a connection of its user, else over one that is shared, as soon as there is one."""
        self.asked.append(ask)
        self.under_way += 1
        self.quiet.clear()
        own = [seat for seat in self.seats.get(ask.user, ()) if seat.free]
        if own:
            self._send(self.random.choice(own), ask)
        elif self.free:
            self._send(self.free.popleft(), ask)
        else:
            self.waiting.append(ask)

    def _send(self, seat: Seat, ask: Ask) -> None:
        seat.free = False
        if seat.line is not None:
            seat.line.send(ask)

    def ended(self) -> None:
        """A request has its answer, or will have none."""
        self.under_way -= 1
        if not self.under_way:
            self.quiet.set()

    def ask_again(self, ask: Ask) -> None:
        """The same under a new number, due when it was."""
        ask.again = True
        self._give(Ask(next(self.numbers), ask.user, ask.kind, ask.due))

    def freed(self, seat: Seat) -> None:
        """A connection has nothing to do."""
        if seat.own < 0 and self.waiting:
            self._send(seat, self.waiting.popleft())
            return
        seat.free = True
        if seat.own < 0:
            self.free.append(seat)

    def lost(self, seat: Seat) -> None:
        """A connection has ended; another in its place."""
        if seat.own < 0 and seat.free:
            self.free.remove(seat)
        seat.line, seat.free = None, False
        task = asyncio.get_running_loop().create_task(self._connect(seat))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _connect(self, seat: Seat) -> None:
        made = None
        while made is None:
            try:
                made = await asyncio.get_running_loop().create_connection(
                    lambda: Line(self, seat), "127.0.0.1", self.job.port
                )
            except OSError:
                await asyncio.sleep(0.01)
        seat.line = made[1]
        self.freed(seat)


def main(job: str, result: str) -> None:
    """Do the job in one file, leave what was asked in another."""
    take_turns_soon()
    crowd = Crowd(msgspec.json.decode(Path(job).read_bytes(), type=Job))
    uvloop.run(crowd.run())
    Path(result).write_bytes(msgspec.msgpack.encode(crowd.asked))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
