"""Ports of 127.0.0.1 for droplets: free ones, from below where the system takes those of outgoing connections."""

import errno
import socket
from collections.abc import Callable, Container

from ostiary.core.refusal import Unavailable

LOWEST, HIGHEST = 20_000, 32_767


class FreePorts:
    """Gives each port once round before one that was given back comes again. `entropy` says where it begins."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._next = LOWEST + int.from_bytes(entropy(4)) % (HIGHEST - LOWEST + 1)

    def take(self, count: int, taken: Container[int]) -> list[int]:
        """That many which nobody listens on and which are not `taken`. Refuses Unavailable `ports.none`."""
        found: list[int] = []
        for _ in range(HIGHEST - LOWEST + 1):
            if len(found) == count:
                break
            port = self._next
            self._next = LOWEST if port == HIGHEST else port + 1
            if port not in taken and free(port):
                found.append(port)
        if len(found) < count:
            raise Unavailable("ports.none", f"No port from {LOWEST} to {HIGHEST} is free", 60)
        return found


def free(port: int) -> bool:
    """Whether somebody could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                raise
            return False
    return True
