"""The load, a process of its own: `python -m bench.generator JOB RESULT`, both files.

Open loop: requests are due at fixed moments and their latency counts from these, whatever the answers do, so that a
stall is seen by all requests that fell into it (closed-loop tools hide stalls). Closed loop (rate 0): every
connection sends its next request when its answer is there. Sockets and epoll by hand: 10 microseconds a request,
so that the core it shares with the backend has room.
"""

import contextlib
import itertools
import select
import signal
import socket
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from bench.turns import take_turns_soon

clock = time.monotonic
BEGUN = "begun"
UNBOUND = 1 << 62
PATIENCE = 10.0
"""Seconds that answers may take after the last request; what has not come by then has failed."""


class Job(Struct):
    """What to send. `seconds` 0: until SIGTERM."""

    port: int
    connections: int
    seconds: float
    rate: float
    """Requests a second; 0: closed loop."""
    headers: list[str]
    paths: list[str]
    """Asked for in turn."""
    expect: list[str] = []
    """What an echo backend answers to each: /gN and this text. N is recorded. Empty: bodies are not looked at."""
    most: int = UNBOUND
    """Requests to send in a closed loop, if the time does not end before."""
    tokens: list[str] = []
    """Shown in turn as Bearer tokens, beside the paths."""
    forms: list[str] = []
    """Sent in turn as bodies of POST, beside the paths."""
    kind: str = "application/x-www-form-urlencoded"
    """Media type of the forms."""
    sources: list[str] = []
    """Addresses that connections come from, in turn; none: as it comes."""
    holds: str = ""
    """What every answer has in it."""


class Result(Struct):
    """What came of it. Times are seconds of the machine's monotonic clock."""

    began: float
    ended: float
    done: int
    wrong: int
    failures: dict[str, int]
    due: bytes
    """When each answered request was due, doubles of this machine's byte order, as the next three."""
    sent: bytes
    answered: bytes
    generations: bytes
    """N of each answer; -1 where bodies are not looked at."""


class Row(NamedTuple):
    """A request that was answered."""

    due: float
    sent: float
    answered: float
    generation: float


def rows(result: Result) -> list[Row]:
    """The requests that were answered, in the order of their answers."""
    columns = [array("d", each) for each in (result.due, result.sent, result.answered, result.generations)]
    return [Row(*each) for each in zip(*columns, strict=True)]


class Connection:
    """One keep-alive connection and the request on it."""

    __slots__ = ("buffer", "due", "index", "length", "sent", "sock")

    def __init__(self, port: int, source: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(source, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.buffer = b""
        self.length = 0
        """Of the whole answer; 0 while its head is not complete, or nothing is under way."""
        self.index = -1
        """Of the path asked for; -1: idle."""
        self.due = self.sent = 0.0


class Generator:
    """Sends a job's requests and keeps what came of them."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.requests = requests(job)
        self.sources = itertools.cycle(job.sources or [""])
        self.holds = job.holds.encode()
        self.expect = [text.encode() for text in job.expect]
        self.next = 0
        self.left = job.most
        self.poll = select.epoll()
        self.connections: dict[int, Connection] = {}
        self.free: deque[Connection] = deque()
        self.waiting: deque[float] = deque()
        """Due, while no connection was free."""
        self.busy = 0
        self.wrong = 0
        self.failures: Counter[str] = Counter()
        self.columns = array("d"), array("d"), array("d"), array("d")
        self.until = float("inf")

    def connect(self) -> None:
        """One more connection, free."""
        connection = Connection(self.job.port, next(self.sources))
        self.connections[connection.sock.fileno()] = connection
        self.poll.register(connection.sock, select.EPOLLIN)
        self.free.append(connection)

    def run(self, begun: Callable[[], object]) -> Result:
        """Send until the end of the job, then wait for what is under way. Calls `begun` when it begins."""
        for _ in range(self.job.connections):
            self.connect()
        begun()
        began = clock()
        if self.job.seconds:
            self.until = began + self.job.seconds
        if self.job.rate:
            self._open_loop(began)
        else:
            self._closed_loop()
        ended = clock()
        self._wait()
        due, sent, answered, generations = (column.tobytes() for column in self.columns)
        done = len(self.columns[0])
        return Result(began, ended, done, self.wrong, dict(self.failures), due, sent, answered, generations)

    def stop(self, *_: object) -> None:
        """Send no more from now on."""
        self.until = 0.0

    def _open_loop(self, began: float) -> None:
        step, number = 1 / self.job.rate, 0
        while (now := clock()) < self.until:
            while (due := began + number * step) <= now:
                number += 1
                if self.free:
                    self._send(self.free.popleft(), due)
                else:
                    self.waiting.append(due)
            if not self._receive(0):
                select.select([self.poll], [], [], max(0.0, due - clock()))

    def _closed_loop(self) -> None:
        while self.left and (now := clock()) < self.until:
            while self.free and self.left:
                self.left -= 1
                self._send(self.free.popleft(), now)
            self._receive(0.1)

    def _wait(self) -> None:
        until = clock() + PATIENCE
        while (self.busy or self.waiting) and clock() < until:
            while self.free and self.waiting:
                self._send(self.free.popleft(), self.waiting.popleft())
            self._receive(0.1)
        if missing := self.busy + len(self.waiting):
            self.failures["no answer"] += missing

    def _send(self, connection: Connection, due: float) -> None:
        index = self._turn()
        connection.index, connection.due, connection.sent = index, due, clock()
        self.busy += 1
        try:
            connection.sock.send(self.requests[index])
        except OSError as error:
            self._lost(connection, type(error).__name__)

    def _turn(self) -> int:
        """Which request is next."""
        index = self.next
        self.next = index + 1 if index + 1 < len(self.requests) else 0
        return index

    def _receive(self, seconds: float) -> bool:
        events = self.poll.poll(seconds)
        for number, _ in events:
            connection = self.connections.get(number)
            if connection is None:
                continue
            try:
                data = connection.sock.recv(65_536)
            except BlockingIOError:
                continue
            except OSError as error:
                self._lost(connection, type(error).__name__)
                continue
            if data:
                self._answer(connection, data)
            else:
                self._lost(connection, "closed")
        return bool(events)

    def _answer(self, connection: Connection, data: bytes) -> None:
        if connection.index < 0:
            return self._lost(connection, "unasked answer")
        if connection.buffer:
            data = connection.buffer + data
        if not connection.length:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                connection.buffer = data
                return None
            connection.length = end + 4 + content_length(data[:end])
        if len(data) < connection.length:
            connection.buffer = data
            return None
        self._whole(connection, data)
        connection.index, connection.length, connection.buffer = -1, 0, b""
        self.busy -= 1
        if self.waiting:
            self._send(connection, self.waiting.popleft())
        else:
            self.free.append(connection)
        return None

    def _whole(self, connection: Connection, data: bytes) -> None:
        if data[9:12] != b"200":
            self.failures[data[9:12].decode(errors="replace")] += 1
            return
        if self.holds not in data:
            self.wrong += 1
            return
        generation = -1.0
        if self.expect:
            expected = self.expect[connection.index]
            if not data.endswith(expected):
                self.wrong += 1
                return
            target = data[: len(data) - len(expected)]
            generation = float(target[target.rindex(b"/g") + 2 :])
        for column, value in zip(self.columns, (connection.due, connection.sent, clock(), generation), strict=True):
            column.append(value)

    def _lost(self, connection: Connection, why: str) -> None:
        """The connection is gone; with a request on it, that request has failed."""
        del self.connections[connection.sock.fileno()]
        connection.sock.close()
        if connection.index >= 0:
            self.busy -= 1
            self.failures[why] += 1
        else:
            self.free.remove(connection)
        with contextlib.suppress(OSError):
            self.connect()


def requests(job: Job) -> list[bytes]:
    """All requests of a job, whole: as many as it has paths, tokens or forms, whichever are most."""
    turns = max(len(job.paths), len(job.tokens), len(job.forms))
    every = (itertools.cycle(each or [""]) for each in (job.paths, job.tokens, job.forms))
    return [_request(job, *each) for each in itertools.islice(zip(*every, strict=False), turns)]


def _request(job: Job, path: str, token: str, form: str) -> bytes:
    lines = [f"{'POST' if form else 'GET'} {path} HTTP/1.1", f"Host: 127.0.0.1:{job.port}", *job.headers]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if form:
        lines += [f"Content-Type: {job.kind}", f"Content-Length: {len(form)}"]
    return "\r\n".join([*lines, "", form]).encode()


def content_length(head: bytes) -> int:
    """What the head of an answer announces; answers without it are taken for empty."""
    lower = head.lower()
    start = lower.find(b"\r\ncontent-length:")
    return int(lower[start + 17 :].split(b"\r\n", 1)[0]) if start >= 0 else 0


def _say() -> None:
    print(BEGUN, flush=True)


def main(job: str, result: str) -> None:
    """Do the job in one file, leave the result in another."""
    take_turns_soon()
    generator = Generator(msgspec.json.decode(Path(job).read_bytes(), type=Job))
    signal.signal(signal.SIGTERM, generator.stop)
    Path(result).write_bytes(msgspec.msgpack.encode(generator.run(_say)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
