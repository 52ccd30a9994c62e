"""Both ends of the wire, raw: a client that says bytes and reads answers, and backends that record what they got.

Nothing of the code under test reads or writes here: framing is read anew, simply, by what RFC 9112 section 6.3 says.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.listening import Talk, listening

Fields = list[tuple[bytes, bytes]]
PATIENCE = 30.0
"""Seconds that anything may take before a test fails; a machine that runs tests may be busy."""


@dataclass
class Message:
    """A message as it came: first line, fields (lower-case names) in their order, body without framing."""

    start: bytes
    fields: Fields
    body: bytes = b""
    connection: int = 0
    pieces: list[bytes] = field(default_factory=list)
    """The chunks that the body came in, if it came in chunks."""

    @property
    def status(self) -> int:
        """The status of a response."""
        return int(self.start.split(b" ", 2)[1])

    def all(self, name: bytes) -> list[bytes]:
        """The values of `name` in their order."""
        return [value for field, value in self.fields if field == name]

    def one(self, name: bytes) -> bytes:
        """The only value of `name`."""
        (value,) = self.all(name)
        return value


async def read_head(reader: asyncio.StreamReader) -> Message:
    """A head, from the stream. IncompleteReadError at its end."""
    lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    pairs = [line.split(b":", 1) for line in lines[1:]]
    return Message(lines[0], [(name.lower(), value.strip()) for name, value in pairs])


async def read_chunks(reader: asyncio.StreamReader, message: Message) -> None:
    """A body in chunks, into `message`."""
    while size := int((await reader.readuntil(b"\r\n"))[:-2].split(b";")[0], 16):
        message.pieces.append(await reader.readexactly(size))
        assert await reader.readexactly(2) == b"\r\n"
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    message.body = b"".join(message.pieces)


async def read_body(reader: asyncio.StreamReader, message: Message) -> None:
    """A body as the fields of `message` delimit it; none where they do not."""
    if message.all(b"transfer-encoding") == [b"chunked"]:
        assert message.all(b"content-length") == []
        await read_chunks(reader, message)
    elif message.all(b"content-length"):
        message.body = await reader.readexactly(int(message.one(b"content-length")))


class Wire:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.interim: list[Message] = []

    async def say(self, data: bytes) -> None:
        """Write `data`, and wait until the other end has taken most of it."""
        self.writer.write(data)
        try:
            await asyncio.wait_for(self.writer.drain(), PATIENCE)
        except ConnectionError:
            pass

    async def head(self) -> Message:
        """The head of the next final response; what comes before (1xx) goes to `interim`."""
        while True:
            message = await asyncio.wait_for(read_head(self.reader), PATIENCE)
            if message.status >= 200 or message.status == 101:
                return message
            self.interim.append(message)

    async def answer(self, method: bytes = b"GET") -> Message:
        """The next final response, with its body."""
        message = await self.head()
        if method == b"HEAD" or message.status in (101, 204, 304):
            return message
        if message.all(b"transfer-encoding") or message.all(b"content-length"):
            await asyncio.wait_for(read_body(self.reader, message), PATIENCE)
        else:
            assert message.one(b"connection") == b"close"
            message.body = await asyncio.wait_for(self.reader.read(), PATIENCE)
        return message

    async def ask(self, request: bytes) -> Message:
        """Say `request` and give its answer."""
        await self.say(request)
        return await self.answer(request.split(b" ", 1)[0])

    async def end(self) -> bytes:
        """What still comes until the other end closes (which it must); a reset counts as closing."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE)
        except ConnectionResetError:
            return b""

    def half_close(self) -> None:
        """Say that nothing more will be said."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Be gone without a farewell: the other end gets a reset, not an end."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        """End the connection."""
        self.writer.close()
        try:
            await asyncio.wait_for(self.writer.wait_closed(), PATIENCE)
        except (OSError, ssl.SSLError):
            pass


@asynccontextmanager
async def connected(port: int, context: ssl.SSLContext | None = None, limit: int = 1 << 20) -> AsyncIterator[Wire]:
    """A client's connection to a port of this machine."""
    name = "localhost" if context else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name, limit=limit)
    wire = Wire(reader, writer)
    try:
        yield wire
    finally:
        await wire.close()


Reply = bytes | list[bytes]
"""What a backend says: bytes, or pieces written one after the other; a last piece b"" closes the connection."""


class Recorder:
    """A backend that records every request and answers it with `reply(request)`."""

    def __init__(self, reply: Callable[[Message], Reply | Awaitable[Reply]]) -> None:
        self.reply = reply
        self.requests: list[Message] = []
        self.heads: list[Message] = []
        self.connections = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        number = self.connections
        while True:
            try:
                message = await read_head(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            message.connection = number
            self.heads.append(message)
            await read_body(reader, message)
            self.requests.append(message)
            reply = self.reply(message)
            for piece in _pieces(reply if isinstance(reply, bytes | list) else await reply):
                if not piece:
                    return
                writer.write(piece)
                await writer.drain()


def _pieces(reply: Reply) -> list[bytes]:
    return [reply] if isinstance(reply, bytes) else reply


def ok(body: bytes = b"ok", head: bytes = b"") -> bytes:
    """A 200 with Content-Length; `head` are further lines."""
    return b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (head, len(body), body)


@asynccontextmanager
async def backend(talk: Talk, context: ssl.SSLContext | None = None, path: str = "") -> AsyncIterator[str]:
    """A backend that has `talk` on each connection (and then closes it), at a port or at a path; its address."""
    async with listening(talk, path=path, context=context) as listener:
        yield f"unix:{path}" if path else f"127.0.0.1:{listener.port}"


@asynccontextmanager
async def recording(
    reply: Callable[[Message], Reply | Awaitable[Reply]] = lambda message: ok(), context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Recorder, str]]:
    """A recording backend and its address."""
    recorder = Recorder(reply)
    async with backend(recorder.serve, context) as address:
        yield recorder, address


def says(data: bytes, close: bool = True) -> Talk:
    """A backend's talk: read one head, say `data`, and close (or wait for the other end to)."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        if not close:
            await reader.read()

    return talk


def closed_port() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition` holds (a state of the code under test that no event tells of)."""
    for _ in range(int(PATIENCE / 0.002)):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came to be")
