"""Connections of those who have shown nothing yet: judged by the head, and few an address."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from ostiary.dialects.http import Listener
from ostiary.dialects.message import Answer, Request
from ostiary.dialects.strangers import MOST

HEAD = b"POST /%b HTTP/1.1\r\nhost: h\r\n%b\r\n"


class Guarded:
    """Lets nobody in but those who ask for `/open`; `/break` is a defect."""

    def room(self, request: Request) -> int:
        return 1000

    async def admit(self, request: Request) -> Answer | None:
        if request.path == "/break":
            raise KeyError("a defect")
        return None if request.path == "/open" else Answer(401, b"no")

    async def answer(self, request: Request) -> Answer:
        return await self.admit(request) or Answer(200, request.body)

    def refuse(self, request: Request, status: int, reason: str) -> Answer:
        return Answer(status, reason.encode())


class Peer:
    """One client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> bytes:
        """The body of the next answer, behind its status."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return head[9:12] + b" " + await asyncio.wait_for(self.reader.readexactly(length), 30)

    async def ended(self) -> None:
        assert await asyncio.wait_for(self.reader.read(), 30) == b""


class Place:
    """A guarded listener."""

    def __init__(self, listener: Listener, port: int) -> None:
        self.listener, self.port = listener, port
        self.peers: list[Peer] = []

    async def connect(self, data: bytes = b"") -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port))
        peer.writer.write(data)
        self.peers.append(peer)
        return peer


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    listener = Listener(Guarded())
    sock = socket.create_server(("127.0.0.1", 0))
    await listener.listen(sock)
    place = Place(listener, sock.getsockname()[1])
    yield place
    for peer in place.peers:
        peer.writer.close()
    await listener.drain(1)


@pytest.mark.parametrize(
    "framing",
    [b"content-length: 900\r\n", b"transfer-encoding: chunked\r\n", b"content-length: 9\r\nexpect: 100-continue\r\n"],
)
async def test_who_may_not_is_told_before_the_body_comes(place: Place, framing: bytes) -> None:
    peer = await place.connect(HEAD % (b"shut", framing))
    assert await peer.answer() == b"401 no"
    await peer.ended()


async def test_who_may_is_heard_to_the_end(place: Place) -> None:
    peer = await place.connect(HEAD % (b"open", b"content-length: 6\r\n") + b"abc")
    peer.writer.write(b"def" + HEAD % (b"open", b"transfer-encoding: chunked\r\n"))
    assert await peer.answer() == b"200 abcdef"
    peer.writer.write(b"3\r\nghi\r\n0\r\n\r\n")
    assert await peer.answer() == b"200 ghi"


async def test_who_may_is_invited_to_send_the_body(place: Place) -> None:
    peer = await place.connect(HEAD % (b"open", b"content-length: 2\r\nexpect: 100-continue\r\n"))
    assert await asyncio.wait_for(peer.reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
    peer.writer.write(b"ok")
    assert await peer.answer() == b"200 ok"


async def test_a_defect_of_the_guard_is_a_500(place: Place) -> None:
    peer = await place.connect(HEAD % (b"break", b"content-length: 2\r\n"))
    assert await peer.answer() == b"500 an unexpected error occurred"


async def test_idle_strangers_keep_nobody_waiting(place: Place) -> None:
    idle = [await place.connect() for _ in range(200)]
    known = await place.connect(HEAD % (b"open", b"content-length: 2\r\n") + b"ok")
    assert await known.answer() == b"200 ok"
    for peer in idle[: 200 - MOST]:
        await peer.ended()
    assert len(place.listener.connections) == MOST + 1


async def test_many_who_come_at_once_and_ask_are_all_answered(place: Place) -> None:
    peers = [await place.connect() for _ in range(4 * MOST)]
    for peer in peers:
        peer.writer.write(HEAD % (b"open", b"content-length: 2\r\n") + b"ok")
    assert [await peer.answer() for peer in peers] == [b"200 ok"] * (4 * MOST)


async def test_who_was_granted_something_stays_however_many_come(place: Place) -> None:
    known = await place.connect(HEAD % (b"open", b"content-length: 2\r\n") + b"ok")
    assert await known.answer() == b"200 ok"
    refused = await place.connect(HEAD % (b"shut", b"content-length: 2\r\n") + b"ok")
    assert await refused.answer() == b"401 no"
    for _ in range(MOST):
        last = await place.connect(HEAD % (b"shut", b"content-length: 0\r\n"))
        assert await last.answer() == b"401 no"
    await refused.ended()
    known.writer.write(HEAD % (b"open", b"content-length: 5\r\n") + b"again")
    assert await known.answer() == b"200 again"
