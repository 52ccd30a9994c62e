"""Health checks of droplets, by callbacks alone: hundreds of idle ones cost next to nothing.

While a droplet starts it is asked more often than later, so that it is in use as soon as it can be. A probe that hangs
has failed. Later all droplets are asked at the same few moments: one by one, each woke the process by itself, which
cost four times as much.
"""

import asyncio
import errno
import re
import socket
from collections.abc import Callable

from ostiary.core.droplets import Health
from ostiary.core.snapshot import SECOND

FIRST = 0.02
"""Seconds before the first probe, and between those that follow while it starts: each time twice as long."""
MOMENTS = 4
"""In the time between two probes of one droplet, at which those of all others are."""
HELD = 0.2
"""Seconds after which a connection that an engine has taken counts as taken by the droplet."""
ENOUGH = 32
"""Bytes in which the status of an answer stands."""
ROOM = 4096
"""Bytes that are read at once: who closes what has unread bytes resets it, and that is an error to who answers."""
_WELL = re.compile(rb"HTTP/1\.[01] [1-3][0-9]{2}[ \r]")
_START = re.compile(rb"HTTP/1\.[01] [0-9]{3}[ \r]")


class Probe:
    """Looks after what listens on a port of 127.0.0.1. `told` hears each time when it is well or no longer so.

    `relayed`: every connection is taken there for the droplet, and ended where that does not take it.
    """

    def __init__(
        self, health: Health, port: int, told: Callable[[bool], None], *, healthy: bool = False, relayed: bool = False
    ) -> None:
        self._health = health
        self._port = port
        self._told = told
        self._relayed = relayed
        self._healthy = healthy
        self._starting = not healthy
        self._streak = 0
        self._pause = FIRST
        self._request = (
            f"GET {health.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: ostiary\r\nConnection: close\r\n\r\n"
        ).encode()
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._begun = False
        self._read = b""
        self._next = self._loop.call_later(FIRST, self._ask) if self._starting else self._later()

    def end(self) -> None:
        """Ask no more."""
        self._next.cancel()
        self._close()

    def _ask(self) -> None:
        made = self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._read = b""
        outcome = made.connect_ex(("127.0.0.1", self._port))
        if outcome == errno.EINPROGRESS:  # on the loopback it stands already, as a second call finds out
            outcome = made.connect_ex(("127.0.0.1", self._port))
        if outcome == 0:
            self._connected()
        elif outcome in (errno.EALREADY, errno.EINPROGRESS):
            self._limit = self._loop.call_later(self._health.timeout / SECOND, self._answer, False)
            self._loop.add_writer(made, self._finished)
        else:
            self._answer(False)

    def _finished(self) -> None:
        if self._socket is None:
            return
        self._loop.remove_writer(self._socket)
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._answer(False)
        else:
            self._connected()

    def _connected(self) -> None:
        if self._socket is None:
            return self._answer(False)
        if not self._health.path:
            return self._hold(self._socket) if self._relayed else self._answer(True)
        try:
            self._socket.send(self._request)
        except OSError:
            return self._answer(False)
        self._limit = self._limit or self._loop.call_later(self._health.timeout / SECOND, self._answer, False)
        return self._loop.add_reader(self._socket, self._readable)

    def _hold(self, made: socket.socket) -> None:
        """It is well if it is not hung up on."""
        if self._limit is not None:
            self._limit.cancel()
        self._limit = self._loop.call_later(HELD, self._answer, True)
        self._loop.add_reader(made, lambda: self._answer(self._heard(made)))

    def _heard(self, made: socket.socket) -> bool:
        try:
            return made.recv(ENOUGH) != b""
        except OSError:
            return False

    def _readable(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(ROOM)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._read += data
        if not data or len(self._read) >= ENOUGH or _START.match(self._read):
            self._answer(_WELL.match(self._read) is not None)

    def _answer(self, well: bool) -> None:
        self._close()
        self._streak = self._streak + 1 if well != self._healthy else 0
        if self._streak >= (self._health.healthy_after if well else self._health.unhealthy_after):
            self._streak, self._healthy = 0, well
            self._starting = False
            self._next = self._later()
            return self._told(well)
        self._pause = min(self._pause * 2, self._health.every / SECOND)
        self._next = self._loop.call_later(self._pause, self._ask) if self._starting else self._later()
        return None

    def _later(self) -> asyncio.TimerHandle:
        """Ask again after the usual time, at a moment at which others are asked too."""
        every = self._health.every / SECOND
        between = every / MOMENTS
        return self._loop.call_at(round((self._loop.time() + every) / between) * between, self._ask)

    def _close(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
