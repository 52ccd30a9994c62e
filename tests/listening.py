"""Servers for tests, which lose no connection: what they have accepted, they close.

Not asyncio's own: closed between accepting a connection and that one's first turn, it loses it, and where warnings are
errors the test fails that happens to run when the connection is collected.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What happens on a connection; it is closed afterwards."""


class Listener:
    """Has `talk` on each connection to a listening socket."""

    def __init__(self, talk: Talk, sock: socket.socket, context: ssl.SSLContext | None = None) -> None:
        self._talk, self._sock, self._context = talk, sock, context
        self._talks: set[asyncio.Task[None]] = set()
        self.address = sock.getsockname()
        sock.setblocking(False)
        asyncio.get_running_loop().add_reader(sock, self._accept)

    @property
    def port(self) -> int:
        """Of an Internet socket."""
        number: int = self.address[1]
        return number

    def stop(self) -> None:
        """Accept no more; what is open goes on."""
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    async def close(self) -> None:
        """Accept no more and end what is open."""
        self.stop()
        await asyncio.sleep(0)  # a task that is cancelled before its first turn would close nothing
        for task in self._talks:
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            task = asyncio.get_running_loop().create_task(self._serve(self._sock.accept()[0]))
            self._talks.add(task)
            task.add_done_callback(self._talks.discard)

    async def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, asyncio.CancelledError):  # who breaks off the handshake is not talked with
            reader, writer = await streams(client, self._context)
            try:
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    await self._talk(reader, writer)
                writer.close()
                await writer.wait_closed()
            finally:
                writer.transport.abort()


async def streams(
    client: socket.socket, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Those of an accepted connection."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, client, ssl=context)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


@asynccontextmanager
async def listening(
    talk: Talk, host: str = "127.0.0.1", port: int = 0, *, path: str = "", context: ssl.SSLContext | None = None
) -> AsyncIterator[Listener]:
    """A listener at a port, by default a free one, or at the Unix socket `path`."""
    listener = Listener(talk, unix(path) if path else socket.create_server((host, port)), context)
    try:
        yield listener
    finally:
        await listener.close()


def unix(path: str) -> socket.socket:
    """A listening Unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    return sock
