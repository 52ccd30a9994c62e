"""Where clients connect: the sockets, accepting from them, and the certificate of each handshake."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence

BACKLOG = 4096


class Listener:
    """Makes a `client` of each connection. Others have the sockets too (the supervisor, successors): they stay."""

    def __init__(self, client: Callable[[], asyncio.Protocol]) -> None:
        self._client = client
        self._sockets: Sequence[socket.socket] = ()
        self._servers: list[asyncio.Server] = []
        self._first: ssl.SSLContext | None = None
        self._context: ssl.SSLContext | None = None
        self._wanted = False

    def open(self, sockets: Sequence[socket.socket], first: ssl.SSLContext | None) -> None:
        """Have these sockets from now on; with `first` for TLS. `accept` follows."""
        self._sockets, self._wanted = sockets, True
        self._first = self._handing_over(first) if first is not None else None

    def can_use(self, context: bool) -> bool:
        """Whether there may be a context from now on, or none: TLS is switched on and off by a restart only."""
        return not self._sockets or (self._first is not None) == context

    def use(self, context: ssl.SSLContext | None) -> None:
        """Have handshakes from now on use this: certificates and client authorities come from it.

        What a handshake has settled before it is handed over (lowest version, whether a client certificate is asked
        for) is kept equal.
        """
        self._context = context
        if self._first is None or context is None:
            return
        self._first.minimum_version = context.minimum_version
        self._first.verify_mode = context.verify_mode
        if context.verify_mode is ssl.CERT_REQUIRED:
            # A session begun before certificates were asked for must not be resumed past that.
            self._first.options |= ssl.OP_NO_TICKET

    def _handing_over(self, first: ssl.SSLContext) -> ssl.SSLContext:
        """The context that the listener keeps: at each handshake it hands over to the one in use."""

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
            if self._context is not None:
                connection.context = self._context

        first.sni_callback = choose
        return first

    async def accept(self) -> None:
        """Accept connections, unless that is stopped."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets if self._wanted and not self._servers else ():
            server = await loop.create_server(self._client, sock=sock.dup(), ssl=self._first, backlog=BACKLOG)
            self._servers.append(server)
            if not self._wanted:  # meanwhile
                self.pause()

    def pause(self) -> None:
        """Accept nobody for now."""
        self._wanted = False
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()

    def stop(self) -> None:
        """Let nobody connect."""
        self.pause()
        for sock in self._sockets:
            # Shut a second time (a predecessor did it) it may stay half shut: later connections would read nothing.
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.shutdown(socket.SHUT_RD)

    def start(self) -> None:
        """Let clients connect again: they wait from now on; a moment later, by `accept`, somebody takes them in."""
        self._wanted = bool(self._sockets)
        for sock in self._sockets:
            sock.listen(BACKLOG)

    def close(self) -> None:
        """Accept nobody, for good."""
        self.pause()
        for sock in self._sockets:
            sock.close()
        self._sockets = ()
