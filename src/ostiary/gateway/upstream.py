"""Upstreams: which backend takes an exchange."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Sequence
from time import monotonic_ns

from ostiary.core.snapshot import Upstream as Definition
from ostiary.gateway.backend import Backend
from ostiary.gateway.director import Director
from ostiary.gateway.response_head import ResponseHead

MOST_HEADS, LONGEST_HEAD = 256, 2048
"""Response heads that an upstream remembers parsed, and bytes of the longest: on most backends they repeat, but for
the date."""


class Upstream:
    """A set of backends and how one is chosen."""

    __slots__ = (
        "_next",
        "backends",
        "context",
        "counters",
        "definition",
        "director",
        "heads",
        "named",
        "only",
        "tasks",
        "timeout",
    )

    def __init__(self, definition: Definition, counters: Counter[str]) -> None:
        self.definition = definition
        self.counters = counters
        self.named = {address: Backend(self, address) for address in definition.backends}
        """Every backend by its address."""
        self.backends = list(self.named.values())
        """Those among which is chosen."""
        self.director = Director(definition.name, definition.director) if definition.director else None
        self.only: Backend | None = None
        self._alone()
        self.context: ssl.SSLContext | None = None
        self.heads: dict[bytes, ResponseHead] = {}
        self.timeout = definition.timeout * 1000
        self.tasks: set[asyncio.Task[None]] = set()
        self._next = 0

    def parse(self, raw: bytes) -> ResponseHead:
        """The response head in `raw` (up to its empty line), remembered; BadMessage (502) when it is malformed."""
        head = ResponseHead(raw)
        if len(self.heads) >= MOST_HEADS:
            self.heads.clear()
        if len(raw) <= LONGEST_HEAD:
            self.heads[raw] = head
        return head

    def _alone(self) -> None:
        self.only = self.backends[0] if len(self.backends) == 1 and self.director is None else None

    def backend(self, address: str, host: str = "") -> Backend:
        """The backend at `address` (HOST:PORT), known or not; a director calls it `host`."""
        found = self.named.get(address)
        if found is None:
            found = self.named[address] = Backend(self, address, host)
        return found

    def let_go(self, hosts: Sequence[str]) -> None:
        """No user goes to these hosts any more: their unused connections close."""
        for backend in list(self.named.values()):
            if backend.host in hosts:
                self._leave(backend)

    def join(self, members: Sequence[str]) -> None:
        """Have these backends besides its own from now on; what is under way at others ends there.

        Those of a director come and go with its users.
        """
        if self.director is not None:
            return
        wanted = dict.fromkeys((*self.definition.backends, *members))
        for backend in [each for address, each in self.named.items() if address not in wanted]:
            self._leave(backend)
        self.backends = [self.backend(address) for address in wanted]
        self._alone()

    def _leave(self, backend: Backend) -> None:
        del self.named[backend.address]
        backend.gone = True
        backend.close_idle(monotonic_ns(), 0)

    def choose(self, now: int, tried: set[Backend] | None = None) -> Backend | None:
        """The backend for the next exchange, not one of `tried`; None when none is left.

        Backends that failed lately come only when all have (then nothing is lost by asking them again).
        """
        candidates = [b for b in self.backends if not tried or b not in tried]
        healthy = [b for b in candidates if b.down_until <= now]
        return self._pick(healthy or candidates)

    def _pick(self, backends: list[Backend]) -> Backend | None:
        if not backends:
            return None
        self._next += 1
        if self.definition.balance == "round_robin":
            return backends[self._next % len(backends)]
        least = min(backend.active for backend in backends)
        among = [backend for backend in backends if backend.active == least]
        return among[self._next % len(among)]

    def tick(self, now: int) -> None:
        """Close connections that were unused too long."""
        for backend in list(self.named.values()):
            backend.close_idle(now, self.definition.idle_timeout * 1000)

    def retire(self) -> None:
        """No new configuration names this upstream: exchanges under way end, then its connections close."""
        for backend in list(self.named.values()):
            self._leave(backend)
