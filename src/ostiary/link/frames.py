"""One end of the link: whole messages in, whole messages out, in order, over a stream socket.

A frame is a 4-byte big-endian length and one msgpack message. A frame of more than `LARGE` bytes (routes of a snapshot)
takes a turn of the event loop for itself: what comes after it waits until the other callbacks have run, so that a
worker that takes in 100,000 routes keeps answering requests in between.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar, cast

import msgspec

from ostiary.link.messages import encode

LARGE = 4 * 1024
LONGEST = 64 * 1024 * 1024
HIGH_WATER = 1024 * 1024

Message = TypeVar("Message")


def frame(message: msgspec.Struct) -> bytes:
    """`message` as it travels."""
    body = encode(message)
    return len(body).to_bytes(4, "big") + body


class Broken(Exception):
    """What came over the link is not a frame, or the peer does not take what it is sent."""


class Channel(asyncio.Protocol, Generic[Message]):
    """`receive` is called with each message, `lost` once at the end: with None, or with what went wrong here.

    An exception out of `decode` or `receive` ends the connection and is handed to `lost`.
    """

    def __init__(
        self,
        decode: Callable[[bytes], Message],
        opened: Callable[["Channel[Message]"], None],
        receive: Callable[[Message], None],
        lost: Callable[[Exception | None], None],
    ) -> None:
        self._decode, self._opened, self._receive, self._lost = decode, opened, receive, lost
        self._buffer = bytearray()
        self._resting = False
        self._failure: Exception | None = None
        self._drained: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._resting:
            self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.resume_writing()
        self._lost(self._failure)

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        waiting, self._drained = self._drained, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    @property
    def open(self) -> bool:
        """Whether what is sent can still arrive."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def send(self, message: msgspec.Struct) -> None:
        """Send `message`; silently nothing once the connection is gone (`lost` tells)."""
        self.write(frame(message))

    def write(self, frames: bytes) -> None:
        """Send what `frame` made."""
        if self._transport is not None:
            self._transport.write(frames)

    async def drained(self) -> None:
        """Wait until the peer has taken nearly all that was sent, or is gone."""
        if self._drained is not None:
            await self._drained

    def abort(self, failure: Exception | None = None) -> None:
        """End the connection at once; `lost` gets `failure`."""
        self._failure = self._failure or failure
        if self._transport is not None:
            self._transport.abort()

    def peer(self, level: int, option: int, size: int) -> bytes:
        """A socket option of the connection, `size` bytes long."""
        if self._transport is None:
            return bytes(size)
        return cast(bytes, self._transport.get_extra_info("socket").getsockopt(level, option, size))

    def _take(self) -> None:
        self._resting = False
        try:
            taken = self._frames()
        except Exception as failure:
            self.abort(failure)
            raise
        del self._buffer[:taken]
        self._read_on()

    def _frames(self) -> int:
        """Hand on the whole frames in the buffer, until they were LARGE together; return how many bytes they were."""
        at = 0
        while self._transport is not None and len(self._buffer) - at >= 4:
            size = int.from_bytes(self._buffer[at : at + 4], "big")
            if size > LONGEST:
                raise Broken(f"a frame of {size} bytes")
            end = at + 4 + size
            if len(self._buffer) < end:
                break
            message = self._decode(bytes(self._buffer[at + 4 : end]))
            at = end
            self._receive(message)
            if at > LARGE:
                self._resting = True
                break
        return at

    def _read_on(self) -> None:
        if self._transport is None:
            return
        if self._resting:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._take)
        else:
            self._transport.resume_reading()
