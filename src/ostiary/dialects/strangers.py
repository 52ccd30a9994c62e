"""Strangers: connections on which nothing was granted yet. They are few an address, so that none blocks the others."""

import asyncio
from typing import Protocol

MOST = 64
"""Of one address, but for those who have just come."""
GRACE = 0.5
"""Seconds that a request may be on its way, however many come at once."""


class Stranger(Protocol):
    """A connection."""

    peer: str

    @property
    def idle(self) -> bool:
        """Whether no whole head has come of what is asked next."""
        ...

    def end(self) -> None:
        """Close it."""


class Strangers:
    """The strangers of one listener, by address, oldest first."""

    def __init__(self) -> None:
        self._there: dict[str, dict[Stranger, None]] = {}

    def meet(self, connection: Stranger) -> None:
        """Note a new one. Where there are too many of its address, idle ones go in a moment, the oldest first."""
        there = self._there.setdefault(connection.peer, {})
        there[connection] = None
        if len(there) > MOST:
            asyncio.get_running_loop().call_later(GRACE, self._thin, connection.peer, connection)

    def _thin(self, peer: str, youngest: Stranger) -> None:
        """End what is idle beyond the number, up to the one that was one too many a moment ago."""
        there = self._there.get(peer, {})
        for each in list(there):
            if len(there) <= MOST:
                return
            if each.idle:
                each.end()
                self.know(each)
            if each is youngest:
                return

    def know(self, connection: Stranger) -> None:
        """It is a stranger no more, or no more at all."""
        there = self._there.get(connection.peer, {})
        there.pop(connection, None)
        if not there:
            self._there.pop(connection.peer, None)
