"""A worker that did not get its turn for a while: nobody else was late, so nothing has timed out."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.gateway.door import Line, door
from tests.gateway.wire import connected, until

from ostiary.core.snapshot import Gateway, Upstream

QUIET = Gateway(access_log="")
LINES = [Line("* /a", "/b")]
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SHORT = 150_000
"""Microseconds; the worker is kept waiting for longer than that."""
HELD_UP = 0.8


def stand_still() -> None:
    """Keep the loop from turning."""
    time.sleep(HELD_UP)


@contextmanager
def beside() -> Iterator[tuple[socket.socket, str]]:
    """A backend that goes on while the loop stands still: a socket that listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener, f"127.0.0.1:{listener.getsockname()[1]}"


async def test_an_answer_that_came_meanwhile_is_given_although_its_time_is_over() -> None:
    loop = asyncio.get_running_loop()
    with beside() as (listener, address):
        upstreams = [Upstream("u", (address,), timeout=SHORT)]
        async with door(LINES, upstreams, QUIET) as (_, _, port), connected(port) as wire:
            asked = asyncio.create_task(wire.ask(GET))
            taken, _ = await loop.sock_accept(listener)
            with taken:
                await loop.sock_recv(taken, 65_536)
                taken.send(ANSWER)
                stand_still()
                assert (await asked).status == 200
                await wire.say(GET)
                assert (await loop.sock_recv(taken, 65_536)).startswith(b"GET /b")


async def test_a_connection_that_stood_meanwhile_is_used_although_its_time_is_over() -> None:
    loop = asyncio.get_running_loop()
    with beside() as (listener, address):
        upstreams = [Upstream("u", (address,), connect_timeout=SHORT)]
        async with door(LINES, upstreams, QUIET) as (worker, _, port), connected(port) as wire:
            asked = asyncio.create_task(wire.ask(GET))
            await until(lambda: worker.upstreams["u"].backends[0].connections == 1)
            stand_still()
            taken, _ = await loop.sock_accept(listener)
            with taken:
                await loop.sock_recv(taken, 65_536)
                taken.send(ANSWER)
                assert (await asked).status == 200


async def test_a_backend_that_says_nothing_is_late_even_for_a_worker_that_is_held_up_again_and_again() -> None:
    with beside() as (_, address):
        upstreams = [Upstream("u", (address,), timeout=SHORT)]
        async with door(LINES, upstreams, QUIET) as (_, _, port), connected(port) as wire:
            asked = asyncio.create_task(wire.ask(GET))
            for _ in range(4):
                stand_still()
                for _ in range(5):
                    await asyncio.sleep(0)
            assert (await asked).status == 504
