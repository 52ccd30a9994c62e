"""Health checks, against what listens on a port."""

import asyncio
from typing import Self

from ostiary.control.probes import Probe
from ostiary.core.droplets import Health
from ostiary.core.snapshot import SECOND

LIMIT = 20.0
"""Seconds that this may take at most; a machine that runs tests may be busy."""
HEAD = b"HTTP/1.0 200 OK\r\nServer: plain\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n"


class Plain(asyncio.Protocol):
    """Sends head and body apart, as simple servers do. `ended` holds what the connection ended with."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(exc)

    def __call__(self) -> Self:
        return self


async def test_who_answers_a_probe_is_not_cut_off_in_the_middle() -> None:
    plain, well = Plain(), asyncio.Event()
    server = await asyncio.get_running_loop().create_server(plain, "127.0.0.1", 0)
    health = Health(path="/", port=80, every=600 * SECOND, timeout=600 * SECOND)
    probe = Probe(health, server.sockets[0].getsockname()[1], lambda now: well.set() if now else None)
    async with asyncio.timeout(LIMIT):
        await well.wait()
        assert await plain.ended is None
    probe.end()
    server.close()


class Relay(asyncio.Protocol):
    """Takes every connection as an engine's proxy does, and ends it while nobody stands behind it."""

    def __init__(self) -> None:
        self.behind = False
        self.ended = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self.behind:
            self.ended += 1
            self.behind = self.ended == 3
            transport.close()

    def __call__(self) -> Self:
        return self


async def test_a_connection_that_an_engine_takes_and_ends_was_not_taken() -> None:
    relay, well = Relay(), asyncio.Event()
    server = await asyncio.get_running_loop().create_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    probe = Probe(Health(port=80, every=600 * SECOND), port, lambda now: well.set() if now else None, relayed=True)
    async with asyncio.timeout(LIMIT):
        await well.wait()
    assert relay.ended == 3
    probe.end()
    server.close()
