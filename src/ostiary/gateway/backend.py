"""A backend: the pool of connections to it, and how it has been of late.

Passive health: one that refuses a connection or lets one time out is passed over for `fail_timeout`, unless no other is
left. An unused connection is taken last-in first-out, so that the oldest fall idle and are closed.
"""

import asyncio
from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING

from ostiary.gateway.backend_connection import BackendConnection

if TYPE_CHECKING:
    from ostiary.gateway.exchange import Exchange
    from ostiary.gateway.upstream import Upstream

MOMENT = 0.02
"""Seconds, beyond the connect timeout, in which a connection that stands may be noticed."""


class Backend:
    """One host and port that answers: its pool, and how it has been of late."""

    __slots__ = (
        "_waiting", "active", "address", "connections", "down_until", "gone", "host", "host_line", "idle", "upstream",
    )  # fmt: skip

    def __init__(self, upstream: "Upstream", address: str, host: str = "") -> None:
        self.upstream = upstream
        self.address = address
        self.host = host or address.rpartition(":")[0].strip("[]")
        """What a director calls it; several droplets share an address."""
        said = "localhost" if address.startswith("unix:") else address
        self.host_line = b"host: " + said.encode("ascii") + b"\r\n"
        self.idle: list[BackendConnection] = []
        self.active = 0
        self.connections = 0
        self.down_until = 0
        self.gone = False
        """It serves no further exchange."""
        self._waiting: deque[Exchange] = deque()

    def take(self, exchange: "Exchange") -> BackendConnection:
        """The unused connection that was used last, for `exchange`. There must be one."""
        self.active += 1
        connection = self.idle.pop()
        connection.exchange = exchange
        connection.used = True
        return connection

    def connect(self, exchange: "Exchange") -> None:
        """Get a new connection for `exchange`: `exchange.connected` or `.unreachable` is called later."""
        self.active += 1
        if self.connections >= self.upstream.definition.max_connections:
            self._waiting.append(exchange)
        else:
            self._connect(exchange)

    def _connect(self, exchange: "Exchange") -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._open(exchange, exchange.ticket))
        self.upstream.tasks.add(task)
        task.add_done_callback(self.upstream.tasks.discard)

    async def _open(self, exchange: "Exchange", ticket: int) -> None:
        try:
            connection = await self._reach()
        except OSError as problem:
            self.connections -= 1
            self._failed(exchange, ticket, isinstance(problem, TimeoutError))
            return
        if connection.transport.is_closing():
            self._failed(exchange, ticket, False)
            return
        self.down_until = 0
        self.upstream.counters[f"upstream.{self.upstream.definition.name}.connects"] += 1
        connection.exchange = exchange
        if not exchange.connected(connection, ticket):
            connection.exchange = None
            self.release(connection)

    def _failed(self, exchange: "Exchange", ticket: int, timed_out: bool) -> None:
        """There is no connection for `exchange` (its place is free for the next who waits)."""
        self.active -= 1
        self.fail(monotonic_ns())
        exchange.unreachable(self, ticket, timed_out)
        self._wake()

    def _wake(self) -> None:
        if self._waiting and self.connections < self.upstream.definition.max_connections:
            self._connect(self._waiting.popleft())

    async def _reach(self) -> BackendConnection:
        """A new connection. OSError (TimeoutError among them) when there is none within the connect timeout."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:
            # In two steps: whoever was held up sees first that it is connected.
            late = loop.call_later(
                self.upstream.definition.connect_timeout / 1e6, lambda: limit.reschedule(loop.time() + MOMENT)
            )
            try:
                return await self._dial(loop)
            finally:
                late.cancel()

    async def _dial(self, loop: asyncio.AbstractEventLoop) -> BackendConnection:
        if self.address.startswith("unix:"):
            return (await loop.create_unix_connection(lambda: BackendConnection(self), self.address[5:]))[1]
        host, _, port = self.address.rpartition(":")
        definition, context = self.upstream.definition, self.upstream.context
        name = (definition.tls.name or host.strip("[]")) if definition.tls else None
        made = await loop.create_connection(
            lambda: BackendConnection(self), host.strip("[]"), int(port), ssl=context, server_hostname=name
        )
        return made[1]

    def fail(self, now: int) -> None:
        """Pass this backend over for a while (`now`: monotonic nanoseconds)."""
        self.down_until = now + self.upstream.definition.fail_timeout * 1000
        self.upstream.counters[f"upstream.{self.upstream.definition.name}.failures"] += 1

    def release(self, connection: BackendConnection) -> None:
        """Take back a connection whose exchange has ended well."""
        self.active -= 1
        if connection.spoiled or self.gone or connection.transport.is_closing():
            connection.close()
            return
        connection.ready()
        if self._waiting:
            self._hand_over(connection)
            return
        connection.since = 0
        self.idle.append(connection)

    def _hand_over(self, connection: BackendConnection) -> None:
        exchange = self._waiting.popleft()
        connection.exchange, connection.used = exchange, True
        if not exchange.connected(connection, exchange.ticket):
            connection.exchange = None
            self.release(connection)

    def discard(self, connection: BackendConnection) -> None:
        """End a connection whose exchange has not ended well, or whose backend asked for it."""
        self.active -= 1
        connection.close()

    def leave(self, exchange: "Exchange") -> None:
        """`exchange` waits no longer for a connection."""
        if exchange in self._waiting:
            self._waiting.remove(exchange)
            self.active -= 1

    def lost(self, connection: BackendConnection) -> None:
        """`connection` is gone; one who waits may have a new one."""
        self.connections -= 1
        if connection in self.idle:
            self.idle.remove(connection)
        self._wake()

    def close_idle(self, now: int, most: int) -> None:
        """Close connections that this look (or an earlier one) finds unused for `most` nanoseconds."""
        for connection in list(self.idle):
            connection.since = connection.since or now
            if now - connection.since >= most:
                self.idle.remove(connection)
                connection.close()
