"""Answers as bytes, whole or in pieces."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from email.utils import formatdate
from functools import lru_cache

from ostiary.core.http1 import REASONS
from ostiary.dialects.message import Answer, Request

CHUNKED = "Transfer-Encoding: chunked"
LAST_CHUNK = b"0\r\n\r\n"
_ID = b"\r\nX-Request-ID: "


def serialise(request: Request, answer: Answer, close: bool, *, chunked: bool = True) -> bytes:
    """Head and body of an answer as one piece. Where more come, the body is `chunked` or ended by the close."""
    reason = answer.reason or REASONS.get(answer.status, "")
    bodiless = answer.status in (204, 304)
    lines = [f"HTTP/1.1 {answer.status} {reason}", f"Date: {_date(int(time.time()))}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    if answer.stream is not None:
        lines += [CHUNKED] if chunked else []
    elif not bodiless:
        lines.append(f"Content-Length: {len(answer.body)}")
    lines.append(f"X-Request-ID: {request.request_id}")
    if close:
        lines.append("Connection: close")
    head = "\r\n".join((*lines, "\r\n")).encode("latin-1")
    if bodiless or request.method == "HEAD":
        return head
    return head + (answer.body if answer.stream is None else framed(answer.body, chunked))


def serialise_again(request: Request, answer: Answer, close: bool) -> bytes:
    """The same for an answer that many get: whole, with a body, and no secret in it, because its bytes are kept."""
    before, after, end = _around(answer, int(time.time()))
    return b"".join((before, request.request_id.encode("latin-1"), end if close else after))


@lru_cache(64)
def _around(answer: Answer, now: int) -> tuple[bytes, bytes, bytes]:
    """What stands before the id of a request, and behind it on a connection that stays or is closed."""
    before, name, after = serialise(Request("", ""), answer, False).partition(_ID)
    return before + name, after, serialise(Request("", ""), answer, True).partition(_ID)[2]


def framed(piece: bytes, chunked: bool) -> bytes:
    """A piece as a chunk (RFC 9112 section 7.1), if it is to be one; an empty chunk would be the end."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece


class Pouring:
    """The pieces of an answer on their way to a client, in the task that makes one of these."""

    def __init__(self, transport: asyncio.Transport, chunked: bool, patience: float) -> None:
        self.transport = transport
        self.chunked = chunked
        """Else the end of the connection is the end of the body: HTTP/1.0."""
        self.patience = patience
        """Seconds for which a client may leave unread what it was sent."""
        self.task = asyncio.current_task()
        self.room = asyncio.Event()
        """Whether the client reads; its connection says so."""
        self.room.set()

    async def pour(self, pieces: AsyncGenerator[bytes, None]) -> None:
        """Write them as they come, and then the end; without it where the client stops reading."""
        async with aclosing(pieces):
            async for piece in pieces:
                self.transport.write(framed(piece, self.chunked))
                if not await self._read():
                    self.transport.abort()
                    return
        self.transport.write(LAST_CHUNK if self.chunked else b"")

    async def _read(self) -> bool:
        """Whether the client reads, or does so in time."""
        if self.room.is_set():
            return True
        try:
            async with asyncio.timeout(self.patience):
                return await self.room.wait()
        except TimeoutError:
            return False

    def cut(self) -> None:
        """No more of them: the client has left, or the node ends."""
        if self.task is not None:
            self.task.cancel()


@lru_cache(1)
def _date(now: int) -> str:
    return formatdate(now, usegmt=True)
