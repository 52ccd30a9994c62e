"""One large body through a gateway, up or down, over a blocking socket: how many bytes arrived, and how fast."""

import socket
import time
from typing import NamedTuple

from bench.backend import PIECE, STALL
from bench.generator import content_length
from bench.process import Failed

STALLED = 0.5
"""Seconds in which the receiver reads nothing, so that whatever is buffered on the way is buffered."""


class Transfer(NamedTuple):
    """What arrived."""

    size: int
    seconds: float

    @property
    def speed(self) -> float:
        """MB a second."""
        return self.size / self.seconds / 1e6


def download(port: int, size: int, stall: float = 0) -> Transfer:
    """GET `size` bytes, reading nothing for `stall` seconds after the head."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(f"GET /bulk/{size} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        announced, body = _head(connection)
        if announced != size:
            raise Failed(f"{announced} bytes announced instead of {size}")
        time.sleep(stall)
        got, buffer = len(body), bytearray(len(PIECE))
        while got < size and (count := connection.recv_into(buffer)):
            got += count
    return _complete(got, size, began + stall)


def upload(port: int, size: int, stall: float = 0) -> Transfer:
    """PUT `size` bytes; the backend reads nothing for `stall` seconds."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        head = f"PUT /bulk HTTP/1.1\r\nHost: bench\r\n{STALL}: {stall * 1000:.0f}\r\nContent-Length: {size}\r\n\r\n"
        connection.sendall(head.encode())
        for start in range(0, size, len(PIECE)):
            connection.sendall(PIECE[: size - start])
        length, body = _head(connection)
        while len(body) < length:
            body += connection.recv(1024)
    return _complete(int(body), size, began + stall)


def _head(connection: socket.socket) -> tuple[int, bytes]:
    """The announced length of an answer and what came of its body already; Failed where it is not 200."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        if not more:
            raise Failed("no answer")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    if head[9:12] != b"200":
        raise Failed(f"{data[:300].decode(errors='replace')}")
    return content_length(head), body


def _complete(got: int, size: int, began: float) -> Transfer:
    if got != size:
        raise Failed(f"{got} bytes arrived of {size}")
    return Transfer(size, time.monotonic() - began)
