"""A data plane to test: a real Worker on real sockets, its control a small fake that answers at once."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from time import monotonic_ns

import msgspec

from ostiary.core.admission import Admission
from ostiary.core.limit import take
from ostiary.core.routing.template import read_match
from ostiary.core.snapshot import Gateway, Policy, Route, Snapshot, Upstream
from ostiary.gateway.worker import Worker
from ostiary.link.messages import Grant, Pattern, Place, Question, Routes, Want

FOREVER = 1 << 60
PLAIN = Policy()


@dataclass
class FakeControl:
    """Answers the worker's questions from a dictionary, in the next turn of the loop."""

    tokens: dict[str, Admission] = field(default_factory=dict)
    tats: dict[bytes, int] = field(default_factory=dict)
    asked: list[bytes] = field(default_factory=list)
    draws: int = 0
    guesses: dict[bytes, str] = field(default_factory=dict)
    places: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    """Name -> host, backend, hash."""
    questions: list[Question] = field(default_factory=list)
    touched: list[tuple[str, str, int]] = field(default_factory=list)
    results: dict[int, object] = field(default_factory=dict)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an order was carried out."""
    held: bool = False
    """Whether users wait to be told where they go."""
    expire: int = 900
    worker: Worker = field(init=False)
    silent: bool = False

    def ask(self, digests: list[bytes]) -> None:
        self.asked += digests
        if self.silent:
            return
        known = {sha256(text.encode()).digest(): admission for text, admission in self.tokens.items()}
        answers = {digest: known.get(digest) for digest in digests}
        asyncio.get_running_loop().call_soon(self.worker.answers, answers)

    def steer(self, questions: list[Question]) -> None:
        self.questions += questions
        if not self.held:
            asyncio.get_running_loop().call_soon(self.place)

    def place(self) -> None:
        """Answer what was asked."""
        questions, self.questions = self.questions, []
        nowhere = ("", "", 0)
        self.worker.steered([Place(q, *self.places.get(q.name, nowhere), self.expire) for q in questions])

    def touch(self, used: list[tuple[str, str, int]]) -> None:
        self.touched += used

    def done(self, seq: int, result: object) -> None:
        self.results[seq] = result
        self.heard.set()

    async def carried_out(self, seq: int) -> object:
        """What the worker says of order `seq`, when it has done it."""
        while seq not in self.results:
            self.heard.clear()
            async with asyncio.timeout(30):
                await self.heard.wait()
        return self.results[seq]

    def guessed(self, guesses: dict[bytes, str]) -> None:
        self.guesses |= guesses

    def draw(self, wants: list[Want]) -> None:
        self.draws += len(wants)
        if self.silent:
            return
        grants = [self._grant(want) for want in wants]
        asyncio.get_running_loop().call_soon(self.worker.granted, grants)

    def _grant(self, want: Want) -> Grant:
        now = monotonic_ns() // 1000
        verdict = take(want.limit, self.tats.get(want.key, 0), now, want.cells)
        self.tats[want.key] = verdict.tat
        return Grant(want.key, verdict.cells, verdict.wait, verdict.left)


@dataclass
class Line:
    """One route of a test: as a configuration would write it."""

    match: str
    to: str
    upstream: str = "u"
    policy: Policy = PLAIN
    order: int = 0


def install(worker: Worker, revision: int, lines: list[Line], upstreams: list[Upstream], gateway: Gateway) -> None:
    """Have `worker` serve a snapshot made of these lines, as the link would."""
    build(worker, revision, lines, upstreams, gateway)
    worker.swap(revision)


def build(worker: Worker, revision: int, lines: list[Line], upstreams: list[Upstream], gateway: Gateway) -> None:
    """Have `worker` build a snapshot made of these lines beside the one that it serves."""
    policies = list(dict.fromkeys(map(_key, lines)))
    names = [each.name for each in upstreams]
    exact: dict[bytes, msgspec.Raw] = {}
    patterns: list[Pattern] = []
    for line in lines:
        read = read_match(line.match)
        methods, pieces = read.methods, read.pieces
        for method in methods:
            route = Route(
                line.match, method, pieces, line.to, names.index(line.upstream), policies.index(_key(line)), line.order
            )
            raw = msgspec.Raw(msgspec.msgpack.encode(route))
            if len(pieces) == 1 and hasattr(pieces[0], "text"):
                exact[f"{method} {pieces[0].text}".encode()] = raw
            else:
                patterns.append(Pattern(method, pieces, line.order, raw))
    parsed = tuple(msgspec.msgpack.decode(key, type=Policy) for key in policies)
    worker.prepare(Snapshot(revision, gateway, tuple(upstreams), parsed, len(exact) + len(patterns)))
    worker.routes(Routes(revision, exact, patterns))
    problem = worker.prepared()
    assert problem == ""


def _key(line: Line) -> bytes:
    return msgspec.msgpack.encode(line.policy)


def free() -> int:
    """A port that was free just now: bound to it by number, a socket keeps it when it stops listening for a while."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def door(
    lines: list[Line],
    upstreams: list[Upstream],
    gateway: Gateway | None = None,
    tokens: dict[str, Admission] | None = None,
) -> AsyncIterator[tuple[Worker, FakeControl, int]]:
    """A serving worker, its fake control, and the port it listens on."""
    control = FakeControl(tokens or {})
    worker = Worker(0, control)
    control.worker = worker
    install(worker, 1, lines, upstreams, gateway or Gateway(access_log=""))
    worker.lease(FOREVER)
    worker.connected(True)
    with socket.create_server(("127.0.0.1", free())) as sock:
        port = sock.getsockname()[1]
        serving = asyncio.create_task(worker.serve([sock]))
        try:
            yield worker, control, port
        finally:
            for client in list(worker.clients):
                client.transport.abort()
            await worker.drain()
            await serving
            for upstream in worker.upstreams.values():
                upstream.retire()
