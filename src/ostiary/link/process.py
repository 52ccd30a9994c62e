"""Another process of this node: noticing its end, and ending it."""

import asyncio
import os
import signal
from collections.abc import Callable


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
