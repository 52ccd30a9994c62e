"""Turns on a core: how soon a worker that wakes up gets one that something else is using.

Linux (EEVDF, since 6.6) lets a running thread use up its slice, about 1.5 to 3 ms, before one of an equal slice that
wakes up gets its turn; one that asked for a shorter slice (since 6.12) does not wait. It gets no more of the core for
that, only sooner: what it does takes tens of microseconds.
"""

import ctypes
import logging
import os
import platform
from struct import Struct

SHORT = 100_000
"""Nanoseconds: the shortest that the kernel gives."""
SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
"""Number of the system call, which the C libraries in use have no function for."""
ATTRIBUTES = Struct("=IIQiIQQQ")
"""sched_attr (sched_setattr(2)): size, policy, flags, nice, priority, runtime, deadline, period."""

log = logging.getLogger("bench")


def take_turns_soon(nanoseconds: int = SHORT) -> None:
    """Ask for slices of that length for this thread and those that it will start.

    An older kernel takes it and does nothing; where it cannot be asked, the debug log says so.
    """
    number = SCHED_SETATTR.get(platform.machine())
    if number is None:
        log.debug("No short slices: unknown machine %s", platform.machine())
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    asked = ATTRIBUTES.pack(ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, nanoseconds, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, 0, asked, 0):
        log.debug("No short slices: %s", os.strerror(ctypes.get_errno()))
