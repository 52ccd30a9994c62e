"""The machine: its cores and who gets which, ports, and its shape in one line."""

import os
import platform
import random
import socket
import sys
from pathlib import Path
from typing import NamedTuple


class Cores(NamedTuple):
    """The core of the program that is measured, and the core of the backend and the load."""

    proxy: int
    load: int


def cores() -> Cores:
    """The last two that this process may use; the same one twice where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(proxy=allowed[-1], load=allowed[-2 if len(allowed) > 1 else -1])


def free_port() -> int:
    """A port below the range that the kernel gives to outgoing connections, so that none of these takes it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def shape() -> str:
    """Cores, processor, memory, kernel and interpreter."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{len(os.sched_getaffinity(0))} cores, {_processor()}, {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}, {platform.python_implementation()} {sys.version.split()[0]}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
