"""Another process of this node: noticing its end, and ending it."""

import asyncio
import os
import signal
import socket
import struct
from collections.abc import Callable

from ostiary.link.frames import Channel
from ostiary.link.messages import ToControl

CREDENTIALS = struct.Struct("3i")


def peer(channel: Channel[ToControl]) -> tuple[int, bool]:
    """The process at the other end (0 where the system does not say), and whether it is the same user's as this one."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0, True
    pid, uid, _ = CREDENTIALS.unpack(channel.peer(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return pid, uid == os.getuid()


class Process:
    """The process `pid`; `ended` is called once when it is no more.

    Uses a pidfd, which cannot come to mean another process. Where there is none (not on Linux), or for the own
    process, `ended` is never called and `kill` does nothing: then leases alone bound what it may still do.
    """

    def __init__(self, pid: int, ended: Callable[[], None]) -> None:
        self.pid = pid
        self._ended = ended
        self._fd = -1
        if pid > 0 and pid != os.getpid() and hasattr(os, "pidfd_open"):
            self._watch()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            loop.call_soon(self._ended)
            return
        loop.add_reader(self._fd, self._gone)

    def _gone(self) -> None:
        self.close()
        self._ended()

    @property
    def watched(self) -> bool:
        """Whether the process is there and its end will be noticed."""
        return self._fd >= 0

    def kill(self) -> None:
        """End it at once. `ended` follows."""
        if self.watched:
            signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    def close(self) -> None:
        """Watch no longer."""
        if self.watched:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
