"""Backends, one process each: `python -m bench.backend PORT canned|echo|bulk`.

canned: 200 and a small JSON body for every request head. echo: the request's target as the body. Both over keep-alive.
bulk: PUT /bulk takes a body and answers with its length, GET /bulk/N gives N bytes; a thread a connection.
"""

import asyncio
import socketserver
import sys
import time
from typing import Final, cast

import uvloop

from bench.turns import take_turns_soon

BODY: Final = b'{"hello":"world","items":[1,2,3,4,5,6,7,8,9,10]}'
HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\nserver: up\r\ndate: Sat, 21 Nov 2026 00:00:00 GMT\r\n"
CANNED: Final = (HEAD + b"content-length: %d\r\n\r\n") % (b"application/json", len(BODY)) + BODY
ECHO: Final = HEAD % b"text/plain" + b"content-length: %d\r\n\r\n%s"
PIECE: Final = bytes(1 << 18)
STALL: Final = "x-stall"
"""A header with milliseconds that the bulk backend waits before it reads a body."""


class Canned(asyncio.Protocol):
    """Counts the ends of heads and answers as often; nobody who measures sends a body here."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        heads = (self.rest + data).split(b"\r\n\r\n")
        self.rest = heads.pop()
        if heads:
            self.transport.write(b"".join(map(self.answer, heads)))

    def answer(self, head: bytes) -> bytes:
        """The answer to one request."""
        return CANNED


class Echo(Canned):
    """Says which target was asked for."""

    def answer(self, head: bytes) -> bytes:
        target = head.split(b" ", 2)[1]
        return ECHO % (len(target), target)


class Bulk(socketserver.StreamRequestHandler):
    """Large bodies, either way, as fast as blocking sockets can."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            method, target, _ = line.decode().split(" ")
            fields = self._fields()
            if method == "GET":
                self._give(int(target.rpartition("/")[2]))
            else:
                self._take(fields)

    def _fields(self) -> dict[str, str]:
        fields = {}
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        return fields

    def _give(self, length: int) -> None:
        self.wfile.write(HEAD % b"application/octet-stream" + b"content-length: %d\r\n\r\n" % length)
        for start in range(0, length, len(PIECE)):
            self.wfile.write(PIECE[: length - start])

    def _take(self, fields: dict[str, str]) -> None:
        time.sleep(int(fields.get(STALL, "0")) / 1000)
        taken = sum(map(len, iter(self._chunk, b""))) if "content-length" not in fields else self._count(fields)
        answer = b"%d" % taken
        self.wfile.write(HEAD % b"text/plain" + b"content-length: %d\r\n\r\n%s" % (len(answer), answer))

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def _count(self, fields: dict[str, str]) -> int:
        left = length = int(fields["content-length"])
        while left and (data := self.rfile.read1(min(left, len(PIECE)))):
            left -= len(data)
        return length - left


class BulkServer(socketserver.ThreadingTCPServer):
    """Listens for large bodies."""

    allow_reuse_address = True
    daemon_threads = True


async def serve(port: int, protocol: type[Canned]) -> None:
    """Answer on `port` until killed."""
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main(port: int, kind: str) -> None:
    """Serve until killed."""
    take_turns_soon()
    if kind == "bulk":
        BulkServer(("127.0.0.1", port), Bulk).serve_forever()
    uvloop.run(serve(port, {"canned": Canned, "echo": Echo}[kind]))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
