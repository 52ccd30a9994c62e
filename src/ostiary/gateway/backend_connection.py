"""A connection to a backend: what comes on it, one exchange at a time."""

import asyncio
from typing import TYPE_CHECKING, cast

from ostiary.core.http1 import BadMessage, ChunkDecoder
from ostiary.gateway.response_head import NO_BODY, ResponseHead

if TYPE_CHECKING:
    from ostiary.gateway.backend import Backend
    from ostiary.gateway.exchange import Exchange

MAX_HEAD = 65_536
"""Bytes of a response head."""
MOST_INTERIM = 16
"""1xx responses in front of one final response."""

HEAD, BODY, CHUNKS, UNTIL_CLOSE, TUNNEL = range(5)
"""What comes next: a response head; a body of known length, in chunks, or until the end; bytes of a tunnel."""
_NO_CHUNKS = ChunkDecoder()


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
