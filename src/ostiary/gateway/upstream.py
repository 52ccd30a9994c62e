"""Upstreams: which backend takes an exchange, the pool of connections to it, and the connection itself.

Passive health: a backend that refuses a connection or lets one time out is passed over for `fail_timeout`, unless no
other is left. An unused connection is taken last-in first-out, so that the oldest fall idle and are closed.
"""

import asyncio
import ssl
from collections import Counter, deque
from collections.abc import Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, cast

from ostiary.core.http1 import BadMessage, ChunkDecoder, framing, parse_fields, parse_status_line, tokens
from ostiary.core.snapshot import Upstream as Definition
from ostiary.gateway.director import Director

if TYPE_CHECKING:
    from ostiary.gateway.exchange import Exchange

MAX_HEAD = 65_536
MOST_HEADS, LONGEST_HEAD = 256, 2048
"""Response heads that an upstream remembers parsed: on most backends they repeat, but for the date."""
MOST_INTERIM = 16
"""1xx responses in front of one final response."""

MOMENT = 0.02
"""Seconds, beyond the connect timeout, in which a connection that stands may be noticed."""

HEAD, BODY, CHUNKS, UNTIL_CLOSE, TUNNEL = range(5)

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
NO_BODY = frozenset((204, 304))
_NO_CHUNKS = ChunkDecoder()


class ResponseHead:
    """A response head, parsed: what of it goes to the client, and how its body is delimited.

    `start` is the status line and the fields that pass, without framing by chunks and without the empty line.
    """

    __slots__ = ("chunked", "close", "length", "start", "status", "upgrade")

    def __init__(self, raw: bytes) -> None:
        line, _, block = raw.partition(b"\r\n")
        minor, self.status = parse_status_line(line)
        try:
            fields = parse_fields(block)
            self.length, self.chunked = framing(fields)
        except BadMessage as bad:
            raise BadMessage(502, f"backend: {bad.reason}") from None
        options = tokens(fields, b"connection")
        self.close = b"close" in options or (not minor and b"keep-alive" not in options)
        self.upgrade = b"".join(b"%s: %s\r\n" % field for field in fields if field[0] == b"upgrade")
        drop = HOP_BY_HOP.union(options) | {b"x-request-id"}
        if self.status == 204 or self.status < 200:
            drop |= {b"content-length"}
        kept = [b"%s: %s\r\n" % field for field in fields if field[0] not in drop]
        reason = line[9:] if len(line) > 12 else line[9:] + b" "
        self.start = b"HTTP/1.1 " + reason + b"\r\n" + b"".join(kept) + b"via: 1.1 ostiary\r\n"


class BackendConnection(asyncio.Protocol):
    """One connection to a backend; it serves one exchange at a time, or none (then it lies in the pool)."""

    __slots__ = (
        "_buffer",
        "_chunks",
        "_paused",
        "backend",
        "exchange",
        "interim",
        "left",
        "phase",
        "since",
        "spoiled",
        "started",
        "transport",
        "used",
    )

    def __init__(self, backend: "Backend") -> None:
        self.backend = backend
        self.exchange: Exchange | None = None
        self.phase = HEAD
        self.left = 0
        self.used = False
        self.interim = 0
        self.started = False
        self.since = 0
        self._buffer = b""
        self._chunks = _NO_CHUNKS
        self._paused = False
        self.spoiled = False
        """It said more than it should: it serves this exchange to the end and no other."""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    # -- bytes from the backend

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.close()
            return
        phase = self.phase
        if phase == HEAD:
            self._head(exchange, data)
        elif phase == BODY:
            self._body(exchange, data)
        elif phase == CHUNKS:
            self._decode(exchange, data)
        elif phase == UNTIL_CLOSE:
            exchange.response_data(data)
        else:
            exchange.tunnel_data(data)

    def _head(self, exchange: "Exchange", data: bytes) -> None:
        self.started = True
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if len(data) > MAX_HEAD and not 0 <= end <= MAX_HEAD:
            exchange.backend_failed(self, "response head too large")
            return
        if end < 0:
            self._buffer = data
            return
        self._buffer = b""
        upstream = self.backend.upstream
        raw = data[: end + 2]
        head = upstream.heads.get(raw)
        if head is None:
            try:
                head = upstream.parse(raw)
            except BadMessage as bad:
                exchange.backend_failed(self, bad.reason)
                return
        body = data[end + 4 :]
        if head.status < 200:
            self._interim(exchange, head, body)
            return
        self.interim = 0
        if head.length >= 0 and len(body) == head.length and not head.close and exchange.simple:
            exchange.whole_response(self, head, body)
            return
        self._begin(exchange, head, body)

    def _interim(self, exchange: "Exchange", head: ResponseHead, rest: bytes) -> None:
        """A 1xx: 101 makes a tunnel, 100 was already said by the gateway, others are passed on."""
        if head.status == 101:
            if exchange.upgrading:
                self.phase = TUNNEL
                exchange.tunnel(self, head, rest)
            else:
                exchange.backend_failed(self, "backend switched protocols unasked")
            return
        self.interim += 1
        if self.interim > MOST_INTERIM:
            exchange.backend_failed(self, "too many interim responses")
            return
        if head.status != 100:
            exchange.interim_response(head)
        if rest:
            self._head(exchange, rest)

    def _begin(self, exchange: "Exchange", head: ResponseHead, body: bytes) -> None:
        """The start of a response whose body comes in pieces, or of one that needs more than passing on."""
        self.left = head.length
        if exchange.bodiless or head.status in NO_BODY:
            self.left, self.phase = 0, BODY
        elif head.chunked:
            self.phase, self._chunks = CHUNKS, ChunkDecoder()
        elif head.length >= 0:
            self.phase = BODY
        else:
            self.phase = UNTIL_CLOSE
        exchange.response_head(self, head)
        if self.exchange is not exchange:
            return
        if self.phase == BODY and (not self.left or body):
            self._body(exchange, body)
        elif body:
            self.data_received(body)

    def _body(self, exchange: "Exchange", data: bytes) -> None:
        left = self.left - len(data)
        self.left = left
        if left > 0:
            exchange.response_data(data)
            return
        if left:
            # More than was announced: what follows cannot be trusted to be a response.
            data = data[:left]
            self.spoiled = True
        if data:
            exchange.response_data(data)
        if self.exchange is exchange:
            exchange.response_end(self)

    def _decode(self, exchange: "Exchange", data: bytes) -> None:
        chunks = self._chunks
        try:
            pieces = chunks.feed(data)
        except BadMessage as bad:
            exchange.backend_failed(self, f"backend: {bad.reason}")
            return
        for piece in pieces:
            exchange.response_data(piece)
            if self.exchange is not exchange:
                return
        if chunks.done and self.exchange is exchange:
            if chunks.rest:
                self.spoiled = True
            exchange.response_end(self)

    # -- the transport

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, reason: Exception | None) -> None:
        exchange, self.exchange = self.exchange, None
        self.backend.lost(self)
        if exchange is None:
            return
        if self.phase == UNTIL_CLOSE and reason is None:
            exchange.response_end(self)
        elif self.phase == TUNNEL:
            exchange.tunnel_ended(self)
        else:
            exchange.backend_lost(self)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.backend_full()

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.backend_drained()

    def pause(self) -> None:
        """Read no more for now: the client does not keep up."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def ready(self) -> None:
        """Begin anew, for the next exchange."""
        self.phase = HEAD
        self.started = False
        if self._paused:
            self.resume()

    def close(self) -> None:
        """End the connection; nothing of it is used again. What a tunnel still has to send is sent."""
        self.exchange = None
        if self.phase == TUNNEL:
            self.transport.close()
        else:
            self.transport.abort()


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


class Upstream:
    """A set of backends and how one is chosen."""

    __slots__ = (
        "_next",
        "backends",
        "context",
        "counters",
        "definition",
        "director",
        "heads",
        "named",
        "only",
        "tasks",
        "timeout",
    )

    def __init__(self, definition: Definition, counters: Counter[str]) -> None:
        self.definition = definition
        self.counters = counters
        self.named = {address: Backend(self, address) for address in definition.backends}
        """Every backend by its address."""
        self.backends = list(self.named.values())
        """Those among which is chosen."""
        self.director = Director(definition.name, definition.director) if definition.director else None
        self.only: Backend | None = None
        self._alone()
        self.context: ssl.SSLContext | None = None
        self.heads: dict[bytes, ResponseHead] = {}
        self.timeout = definition.timeout * 1000
        self.tasks: set[asyncio.Task[None]] = set()
        self._next = 0

    def parse(self, raw: bytes) -> ResponseHead:
        """The response head in `raw` (up to its empty line), remembered; BadMessage (502) when it is malformed."""
        head = ResponseHead(raw)
        if len(self.heads) >= MOST_HEADS:
            self.heads.clear()
        if len(raw) <= LONGEST_HEAD:
            self.heads[raw] = head
        return head

    def _alone(self) -> None:
        self.only = self.backends[0] if len(self.backends) == 1 and self.director is None else None

    def backend(self, address: str, host: str = "") -> Backend:
        """The backend at `address` (HOST:PORT), known or not; a director calls it `host`."""
        found = self.named.get(address)
        if found is None:
            found = self.named[address] = Backend(self, address, host)
        return found

    def let_go(self, hosts: Sequence[str]) -> None:
        """No user goes to these hosts any more: their unused connections close."""
        for backend in list(self.named.values()):
            if backend.host in hosts:
                self._leave(backend)

    def join(self, members: Sequence[str]) -> None:
        """Have these backends besides its own from now on; what is under way at others ends there.

        Those of a director come and go with its users.
        """
        if self.director is not None:
            return
        wanted = dict.fromkeys((*self.definition.backends, *members))
        for backend in [each for address, each in self.named.items() if address not in wanted]:
            self._leave(backend)
        self.backends = [self.backend(address) for address in wanted]
        self._alone()

    def _leave(self, backend: Backend) -> None:
        del self.named[backend.address]
        backend.gone = True
        backend.close_idle(monotonic_ns(), 0)

    def choose(self, now: int, tried: set[Backend] | None = None) -> Backend | None:
        """The backend for the next exchange, not one of `tried`; None when none is left.

        Backends that failed lately come only when all have (then nothing is lost by asking them again).
        """
        candidates = [b for b in self.backends if not tried or b not in tried]
        healthy = [b for b in candidates if b.down_until <= now]
        return self._pick(healthy or candidates)

    def _pick(self, backends: list[Backend]) -> Backend | None:
        if not backends:
            return None
        self._next += 1
        if self.definition.balance == "round_robin":
            return backends[self._next % len(backends)]
        least = min(backend.active for backend in backends)
        among = [backend for backend in backends if backend.active == least]
        return among[self._next % len(among)]

    def tick(self, now: int) -> None:
        """Close connections that were unused too long."""
        for backend in list(self.named.values()):
            backend.close_idle(now, self.definition.idle_timeout * 1000)

    def retire(self) -> None:
        """No new configuration names this upstream: exchanges under way end, then its connections close."""
        for backend in list(self.named.values()):
            self._leave(backend)
