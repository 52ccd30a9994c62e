"""Hosts of a director that note every visit: `python -m bench.hosts PORT FILE ROOM ADDRESS...`, one process for all.

A request says what it wants: `/visit?REQUEST.WAIT.PIECES`, WAIT being milliseconds before the answer, which comes in
so many pieces, a tenth of a second apart; no pieces: at once. The user is the number in `x-user: uNUMBER`.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

from bench.turns import take_turns_soon
from bench.visits import ANSWERED, LOST, Book

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
WHOLE = HEAD + b"content-length: 2\r\n\r\nok"
START = HEAD + b"transfer-encoding: chunked\r\n\r\n"
PIECE, LAST = b"5\r\npiece\r\n", b"0\r\n\r\n"
BETWEEN = 0.1


class Host(asyncio.Protocol):
    """One connection to a host."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.rest = b""
        self.place = -1
        """Where the visit under way is noted; -1: there is none."""
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.number = int(transport.get_extra_info("sockname")[0].rpartition(".")[2])

    def data_received(self, data: bytes) -> None:
        head, end, self.rest = (self.rest + data).partition(b"\r\n\r\n")
        if not end:
            self.rest = head
            return
        request, wait, pieces = map(int, head[: head.index(b" HTTP/")].rpartition(b"?")[2].split(b"."))
        user = int(head.partition(b"\r\nx-user: u")[2].partition(b"\r\n")[0])
        self.place = self.book.begin(self.number, user, request, time.monotonic())
        if wait:
            self.loop.call_later(wait / 1000, self._answer, self.place, pieces)
        else:
            self._answer(self.place, pieces)

    def _answer(self, place: int, pieces: int) -> None:
        if self.place == place and pieces:
            self.transport.write(START)
            self._go_on(place, pieces)
        elif self.place == place:
            self._end(WHOLE)

    def _go_on(self, place: int, pieces: int) -> None:
        if self.place != place:
            return
        if not pieces:
            self._end(LAST)
            return
        self.transport.write(PIECE)
        self.loop.call_later(BETWEEN, self._go_on, place, pieces - 1)

    def _end(self, last: bytes) -> None:
        self.book.end(self.place, ANSWERED, time.monotonic())
        self.place = -1
        self.transport.write(last)

    def connection_lost(self, reason: Exception | None) -> None:
        if self.place >= 0:
            self.book.end(self.place, LOST, time.monotonic())
        self.place = -1


async def serve(port: int, book: Book, addresses: list[str]) -> None:
    """Answer at all addresses until killed."""
    loop = asyncio.get_running_loop()
    for address in addresses:
        await loop.create_server(lambda: Host(book), address, port, backlog=1024)
    await loop.create_future()


def main(port: int, file: str, room: int, addresses: list[str]) -> None:
    """Serve until killed."""
    take_turns_soon()
    uvloop.run(serve(port, Book(Path(file), room), addresses))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:])
