"""What an exchange costs in the worker's own code: a real worker whose sockets are stubs, in this process.

Between programs under load, a difference of a microsecond drowns in noise; here nothing else is measured.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from ostiary.core.routing.template import read_match
from ostiary.core.snapshot import Director, Gateway, Policy, Route, Snapshot, Upstream
from ostiary.gateway.backend_connection import BackendConnection
from ostiary.gateway.client import Client
from ostiary.gateway.worker import Worker
from ostiary.link.messages import Place, Question, Routes

BACKEND = "127.0.0.1:9"
USER = "samik"
RESPONSE = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"ok": true}\n'
TURNS, EXCHANGES = 300, 200
HOUR = 3600 * 1_000_000_000
EVEN, STEERED = "even", "steered"


class Wire(asyncio.Transport):
    """A transport that keeps nothing."""

    def write(self, data: object) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default


def steering_us() -> float:
    """Microseconds of CPU that steering a known user adds to an exchange. The least of many short turns."""
    return asyncio.run(_steering_us())


async def _steering_us() -> float:
    worker = _worker([Upstream(EVEN, (BACKEND,)), Upstream(STEERED, (BACKEND,), "director", director=_by_header())])
    turns = [_exchanges(worker, name) for name in (EVEN, STEERED)]
    taken = [[turn() for turn in turns] for _ in range(TURNS)]
    return min(steered for _, steered in taken) - min(even for even, _ in taken)


def _by_header() -> Director:
    return Director(user_from="header X-User")


def _worker(upstreams: Sequence[Upstream]) -> Worker:
    """One that serves a route to each upstream."""
    worker = Worker(1, cast(Any, None))  # nobody has to ask control
    routes = {f"GET /{each.name}".encode(): _route(each.name, number) for number, each in enumerate(upstreams)}
    worker.prepare(Snapshot(1, Gateway(access_log=""), tuple(upstreams), (Policy(),), len(routes)))
    worker.routes(Routes(1, routes, []))
    worker.prepared()
    worker.swap(1)
    worker.lease(time.monotonic_ns() + HOUR)
    return worker


def _route(name: str, upstream: int) -> msgspec.Raw:
    match = f"GET /{name}"
    return msgspec.Raw(msgspec.msgpack.encode(Route(match, "GET", read_match(match).pieces, "/to", upstream, 0, 0)))


def _exchanges(worker: Worker, name: str) -> Callable[[], float]:
    """A turn of exchanges over one connection to the route `name`: microseconds of CPU for each."""
    client, wire, upstream = Client(worker), Wire(), worker.upstreams[name]
    client.connection_made(wire)
    backend = upstream.backend(BACKEND) if upstream.director else upstream.backends[0]
    if upstream.director is not None:
        question = Question(name, "", USER)
        upstream.director.take_in(Place(question, "127.0.0.1", BACKEND, 7, 900), backend, time.monotonic_ns())
    connection = BackendConnection(backend)
    connection.connection_made(wire)
    backend.connections, backend.active = 1, 1
    backend.release(connection)
    request = f"GET /{name} HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nX-User: {USER}\r\n\r\n".encode()

    def turn() -> float:
        began = time.thread_time_ns()
        for _ in range(EXCHANGES):
            client.data_received(request)
            connection.data_received(RESPONSE)
        return (time.thread_time_ns() - began) / EXCHANGES / 1000

    return turn
