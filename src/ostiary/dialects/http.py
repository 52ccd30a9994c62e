"""Control's HTTP server: the strict HTTP/1.1 of the data plane (core.http1), one request at a time a connection.

Why our own connection and not an ASGI server: one parser guards both planes, dialects need their own reason phrases,
and head and body leave in one write. A request becomes a value, its answer is a value; only what is followed (a log)
comes in pieces (wire.py), and ends the connection.

    head -> room for the body -> who asks, where the body is not there yet and the dialect wants to know
      -> body (or the note that it is too large) -> the answer, at once or by a task -> one write

A client that hangs up stops nothing but what it followed: the task of a change runs to its end. Everything waits under
a deadline, every buffer has a bound, and a connection that ends on a refusal is shut down for writing first and drained
for a moment, so that the answer is not lost in a reset (RFC 9112 section 9.6).
"""

import asyncio
import contextlib
import logging
import os
import re
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, NamedTuple, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from ostiary.core.http1 import BadMessage, ChunkDecoder, RequestHead, parse_request_head, unfinished
from ostiary.core.mask import Network
from ostiary.core.refusal import Refusal
from ostiary.dialects.message import (
    REQUEST_ID,
    Answer,
    Application,
    Guarded,
    Look,
    Quick,
    Request,
    client_address,
    within,
)
from ostiary.dialects.strangers import Strangers
from ostiary.dialects.wire import Pouring, serialise, serialise_again

log = logging.getLogger("ostiary.http")

R = TypeVar("R")
_TARGET = re.compile(rb"[!-~]{1,32} (?:[A-Za-z]+://[^/ ]*)?(/[!-~]*)")
_LAST_ID = b"\r\nx-request-id: "
"""What workers end a head with: all that differs from one request of a kind to the next."""
_END_OF_ID = b"\r\n\r\n"
_TICK = 0.001
"""Seconds that the loop's clock may be behind a timer."""
_BUFFER = 1 << 18
"""Bytes that wait behind a request in progress before reading pauses."""


_NONE = Request("", "")
"""While no head is there."""


def _new_id() -> str:
    return os.urandom(12).hex()


class Bounds(Struct, frozen=True):
    """Limits of a listener; times in seconds."""

    head_time: float = 10.0
    body_time: float = 30.0
    idle_time: float = 60.0
    write_time: float = 30.0
    """How long a client may leave an answer unread."""
    linger_time: float = 2.0
    max_head: int = 16_384
    max_connections: int = 1024


class Listener:
    """What the connections of one listening socket share. `proxies` are asked anew for each request (reloads)."""

    def __init__(
        self,
        application: Application,
        proxies: Callable[[], Iterable[Network]] = tuple,
        *,
        public: bool = False,
        secure: bool = False,
        bounds: Bounds | None = None,
    ) -> None:
        self.application = application
        self.proxies = proxies
        self.public = public
        self.secure = secure
        self.bounds = bounds or Bounds()
        self.connections: set[Connection] = set()
        self.strangers = Strangers()
        self.guarded = application if isinstance(application, Guarded) else None
        self.quick = application if isinstance(application, Quick) else None
        self.tasks: set[asyncio.Task[None]] = set()
        self.draining = False
        self._server: asyncio.Server | None = None

    async def listen(self, sock: socket.socket) -> None:
        """Serve a bound socket (TCP or Unix) until `drain`."""
        loop = asyncio.get_running_loop()
        unix = sock.family == socket.AF_UNIX
        create = loop.create_unix_server if unix else loop.create_server
        self._server = await create(lambda: Connection(self), sock=sock, backlog=512)

    async def drain(self, seconds: float = 10.0) -> None:
        """Accept no more, let what runs answer, then close; what is not done after `seconds` is cancelled."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.drain()
        if self.tasks:
            _, late = await asyncio.wait(tuple(self.tasks), timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for connection in tuple(self.connections):
            connection.end()


class _Known(NamedTuple):
    """A head that was read, and what it became under these trusted proxies. `start` is without a last request id."""

    start: bytes
    proxies: tuple[Network, ...]
    head: RequestHead
    request: Request
    room: int
    expects: list[str]
    look: Look | None


class Connection(asyncio.Protocol):
    """One client's connection: `_take` is what the next bytes are for."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.bounds = listener.bounds
        self.buffer = bytearray()
        self.transport: asyncio.Transport
        self.peer = ""
        self._take: Callable[[], bool] = self._head
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._then: Callable[[], object] | None = None
        self._request = _NONE
        self._known: _Known | None = None
        self._look: Look | None = None
        self._close = False
        self._begun = False
        self._full = False
        self._invite = False
        self._after: Callable[[], None] | None = None
        self._chunking = True
        self._half = False
        self._pouring: Pouring | None = None
        self._left = 0
        self._room = 0
        self._pieces: list[bytes] = []
        self._chunks: ChunkDecoder | None = None

    # -- callbacks of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self.peer = str(name[0]) if isinstance(name, tuple) else ""
        self.listener.connections.add(self)
        self._deadline(self.bounds.head_time, self._idle)
        if not self.listener.public:
            self.listener.strangers.meet(self)
        if len(self.listener.connections) > self.bounds.max_connections:
            self._refuse(503, "too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self.listener.connections.discard(self)
        self.listener.strangers.know(self)
        self._deadline(0)
        if self._timer is not None:
            self._timer.cancel()
        self._take = self._nothing
        self._sent()
        if self._pouring is not None:
            self._pouring.cut()

    def eof_received(self) -> bool:
        """A half-closed client still gets the answers to what it has sent whole; it follows nothing."""
        self._half = True
        return self._take in (self._busy, self._waiting)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self._take():
            pass

    def pause_writing(self) -> None:
        """The client does not read: nothing more is answered until it does."""
        self._full = True
        if self._pouring is not None:
            self._pouring.room.clear()

    def resume_writing(self) -> None:
        self._full = False
        if self._pouring is not None:
            self._pouring.room.set()
        self._sent()
        if self._take == self._waiting:
            self._next()

    # -- states: each takes what it can of the buffer and says whether to go on with the next

    def _head(self) -> bool:
        while self.buffer[:2] == b"\r\n":  # RFC 9112 section 2.2: empty lines in front of a request line
            del self.buffer[:2]
        if not self.buffer:
            return False
        end = self.buffer.find(b"\r\n\r\n", 0, self.bounds.max_head)
        if end < 0 and not self._begun:
            self._begun = True
            self._deadline(self.bounds.head_time, self._idle)
        try:
            if end < 0:
                unfinished(bytes(self.buffer), self.bounds.max_head)
                return False
            known, request = self._read(bytes(self.buffer[: end + 4]))
        except BadMessage as bad:
            return self._bad(bad)
        del self.buffer[: end + 4]
        return self._begin(known, request)

    def _begin(self, known: _Known, request: Request) -> bool:
        head = known.head
        self._request, self._room, self._look = request, known.room, known.look
        self._chunking = bool(head.line.minor)
        self._close = head.close or not self._chunking
        if any(value != "100-continue" for value in known.expects):
            return self._refuse(417, "unknown expectation")
        if head.framing.length > self._room:
            request.oversized = self._close = True
            return self._start()
        self._pieces, self._left = [], max(head.framing.length, 0)
        self._chunks = ChunkDecoder() if head.framing.chunked else None
        if not self._left and self._chunks is None:
            return self._start()
        self._invite = bool(known.expects and head.line.minor)
        if self.listener.guarded is not None and (self._chunks is not None or len(self.buffer) < self._left):
            self._take = self._busy
            self._deadline(0)
            self._task(self._guard(self.listener.guarded, request))
            return False
        return self._await_body()

    async def _guard(self, guarded: Guarded, request: Request) -> None:
        """Look at who asks before the body is waited for."""
        answer = await self._made(request, guarded.admit(request))
        if answer is not None:
            self._close = True
            self._write(request, answer)
        elif self._take == self._busy:
            self._await_body()
            self.transport.resume_reading()
            while self._take():
                pass

    def _await_body(self) -> bool:
        if self._invite and not self.buffer:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._chunks is not None or len(self.buffer) < self._left:
            self._deadline(self.bounds.body_time, self._late)
        self._take = self._body if self._chunks is None else self._chunked
        return True

    def _read(self, raw: bytes) -> tuple[_Known, Request]:
        """A head, parsed; one that begins like the one before on this connection is what that was, but for its id."""
        proxies = tuple(self.listener.proxies())
        start, mark, end = raw.rpartition(_LAST_ID)
        ident = end.removesuffix(_END_OF_ID).decode("latin-1") if mark else _new_id()
        known = self._known
        if known and known.start == (start or raw) and known.proxies == proxies and REQUEST_ID.fullmatch(ident):
            return known, replace(known.request, request_id=ident)
        head = parse_request_head(raw)
        request = self._believe(head, proxies)
        last = not mark or request.headers["x-request-id"] == [ident]
        known = self._understand(start or raw, proxies, head, request)
        self._known = known if last else None
        return known, replace(request)

    def _understand(self, start: bytes, proxies: tuple[Network, ...], head: RequestHead, request: Request) -> _Known:
        listener = self.listener
        look = listener.quick.look(request) if listener.quick is not None else None
        expects = [value.lower() for value in request.headers.get("expect", [])]
        return _Known(start, proxies, head, request, listener.application.room(request), expects, look)

    def _believe(self, head: RequestHead, proxies: tuple[Network, ...]) -> Request:
        listener = self.listener
        path, _, query = head.line.target.decode("ascii").partition("?")
        headers: dict[str, list[str]] = {}
        for name, value in head.fields:
            headers.setdefault(name.decode("ascii"), []).append(value.decode("latin-1"))
        believed = listener.public or within(self.peer, proxies)
        request = Request(
            head.line.method.decode("ascii"), path, query, headers, head.host.decode("ascii"),
            peer=self.peer, address=self.peer, secure=listener.secure, public=listener.public,
        )  # fmt: skip
        if believed:
            request.address = client_address(self.peer, headers, proxies)
            request.host = request.one("x-forwarded-host") or request.host
            request.secure = (request.one("x-forwarded-proto").lower() or "http") == "https"
        given = request.one("x-request-id")
        request.request_id = given if REQUEST_ID.fullmatch(given) else _new_id()
        return request

    def _body(self) -> bool:
        if len(self.buffer) < self._left:
            return False
        self._pieces = [bytes(self.buffer[: self._left])]
        del self.buffer[: self._left]
        return self._start()

    def _chunked(self) -> bool:
        chunks = self._chunks
        if chunks is None or not self.buffer:
            return False
        data = bytes(self.buffer)
        self.buffer.clear()
        try:
            pieces = chunks.feed(data)
        except BadMessage as bad:
            return self._bad(bad)
        self._room -= sum(map(len, pieces))
        if self._room < 0:
            self._request.oversized = self._close = True
            return self._start()
        self._pieces += pieces
        if not chunks.done:
            return False
        self.buffer += chunks.rest
        return self._start()

    def _busy(self) -> bool:
        if len(self.buffer) > _BUFFER:
            self.transport.pause_reading()
        return False

    def _waiting(self) -> bool:
        return self._busy()

    def _nothing(self) -> bool:
        self.buffer.clear()
        return False

    # -- the exchange

    def _start(self) -> bool:
        request = self._request
        request.body = b"" if request.oversized else b"".join(self._pieces)
        self._pieces = []
        self._deadline(0)
        self._take = self._busy
        answer = self._at_once(request)
        if answer is None:
            self._task(self._exchange(request))
            return False
        self._write(request, answer, again=True)
        if self.buffer:  # others come first: any number of requests may stand in line here
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._go_on()
        return False

    def _at_once(self, request: Request) -> Answer | None:
        """The answer, where it needs no waiting."""
        if self._look is None or request.oversized:
            return None
        try:
            return self._look(request)
        except Exception:
            log.exception("request failed", extra=_about(request))
            return self._defect(request)

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.listener.tasks.add(task)
        task.add_done_callback(self.listener.tasks.discard)

    async def _exchange(self, request: Request) -> None:
        answer = await self._made(request, self.listener.application.answer(request))
        self._write(request, answer)
        if answer.stream is not None and request.method != "HEAD":
            await self._pour(answer.stream)
        else:
            self._go_on()

    async def _made(self, request: Request, making: Awaitable[R]) -> R | Answer:
        """The answer, also where making it fails."""
        try:
            return await making
        except Exception:
            log.exception("request failed", extra=_about(request))
            return self._defect(request)

    def _defect(self, request: Request) -> Answer:
        return self.listener.application.refuse(request, 500, "an unexpected error occurred")

    def _go_on(self) -> None:
        """After an answer: the next request, unless that was the last."""
        if self._take == self._busy:
            self._next()

    def _next(self) -> None:
        if self._full:
            self._take = self._waiting
            self._deadline(self.bounds.write_time, self.transport.abort)
            return
        self._request, self._begun, self._take = _NONE, False, self._head
        self._deadline(self.bounds.idle_time, self._idle)
        self.transport.resume_reading()
        while self._take():
            pass
        if self._half and self._take not in (self._busy, self._waiting, self._nothing):
            self.end()  # the rest of what was begun will never come

    def _write(self, request: Request, answer: Answer, *, again: bool = False) -> None:
        self._after = answer.after
        if self.transport.is_closing():
            self._sent()
            return
        if answer.status < 400:
            self.listener.strangers.know(self)
        if answer.after is not None:
            self.transport.set_write_buffer_limits(0)  # so that `resume_writing` says that nothing is left
        pieces = answer.stream is not None
        last = self._half and b"\r\n\r\n" not in self.buffer
        close = self._close or last or answer.close or self.listener.draining or pieces
        if again and answer.body and not pieces and request.method != "HEAD":
            self.transport.write(serialise_again(request, answer, close))
        else:
            self.transport.write(serialise(request, answer, close, chunked=self._chunking))
        if not self._full:
            self._sent()
        if close and (not pieces or request.method == "HEAD"):
            self._linger()

    async def _pour(self, pieces: AsyncGenerator[bytes, None]) -> None:
        """Write the pieces as they come; cancelled when the client leaves or the node ends."""
        if self._half or self.listener.draining or self.transport.is_closing():
            self.end()
            return
        self._take = self._nothing
        self._pouring = Pouring(self.transport, self._chunking, self.bounds.write_time)
        try:
            await self._pouring.pour(pieces)
        except Refusal as refusal:
            log.warning("what was followed broke off: %s", refusal.message)
        except Exception:
            log.exception("what was followed broke off")
        finally:
            self._pouring = None
            self._linger()

    def _sent(self) -> None:
        """All of an answer is the system's, or nobody takes it any more."""
        after, self._after = self._after, None
        if after is not None:
            after()

    def _bad(self, bad: BadMessage) -> bool:
        return self._refuse(bad.status, bad.reason)

    def _refuse(self, status: int, reason: str) -> bool:
        request = self._request if self._request.path else self._guess()
        answer = self.listener.application.refuse(request, status, reason)
        self._close = True
        self._write(request, answer)
        return False

    def _guess(self) -> Request:
        """What a refused head seems to have asked for: it decides only in whose words it is refused."""
        match = _TARGET.match(bytes(self.buffer[:1024]))
        path = match[1].partition(b"?")[0].decode("ascii") if match else ""
        return Request("", path, peer=self.peer, address=self.peer, request_id=_new_id())

    # -- time and the end

    def _deadline(self, seconds: float, then: Callable[[], object] | None = None) -> None:
        """What happens after so many seconds, in the place of what was to happen before.

        A timer that is set stays, and looks when it goes off: an answer costs none.
        """
        self._then = then
        if then is None:
            return
        loop = asyncio.get_running_loop()
        self._due = loop.time() + seconds
        if self._timer is None or self._timer.when() > self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        then, left = self._then, self._due - asyncio.get_running_loop().time()
        if then is not None and left > _TICK:
            self._deadline(left, then)
        elif then is not None:
            self._then = None
            then()

    def _idle(self) -> None:
        """No whole head in time: silence ends silently, half a head gets its 408."""
        if self.buffer:
            self._refuse(408, "the request head did not come in time")
        else:
            self.end()

    def _late(self) -> None:
        self._refuse(408, "the request body did not come in time")

    def _linger(self) -> None:
        self._take = self._nothing
        self.buffer.clear()
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError):
                self.transport.write_eof()
        self._deadline(self.bounds.linger_time, self.end)

    @property
    def idle(self) -> bool:
        """Whether no whole head has come of what is asked next."""
        return self._take == self._head

    def drain(self) -> None:
        """Close now if nothing is asked; else after the answer, of which no further pieces come."""
        if self._pouring is not None:
            self._pouring.cut()
        if self._take == self._head and not self.buffer:
            self.end()

    def end(self) -> None:
        """Close after what is written; a client that does not read it is cut off."""
        self._deadline(self.bounds.linger_time, self.transport.abort)
        self.transport.close()


def _about(request: Request) -> dict[str, dict[str, str]]:
    """What the log says of a request that failed."""
    return {"pairs": {"request_id": request.request_id, "path": request.path}}
