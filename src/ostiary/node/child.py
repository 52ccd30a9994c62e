"""What every process of a node does with its signals and with the end of its supervisor."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

from ostiary.supervisor import ALIVE, SIGNALS


def keep_to_itself() -> None:
    """Hand on nothing that the supervisor has handed over: to its children uvloop, unlike asyncio, leaves all of it."""
    for each in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):  # the folder itself, which is closed by now
            os.set_inheritable(int(each.name), int(each.name) <= 2)


def until_told(end: Callable[[], None], reload: Callable[[], None] | None = None) -> None:
    """Call `end` at SIGTERM or when the supervisor is gone, and `reload` at SIGHUP; then let signals in.

    SIGINT is left to the supervisor (a terminal sends it to everybody), and so is SIGHUP without `reload`.
    """
    loop = asyncio.get_running_loop()

    def alone() -> None:
        loop.remove_reader(ALIVE)
        end()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if reload is None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    else:  # never ignored before: that would discard the one that is waiting
        loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_reader(ALIVE, alone)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
