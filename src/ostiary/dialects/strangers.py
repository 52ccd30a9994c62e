"""Strangers: connections on which nothing was granted yet. They are few an address, so that none blocks the others."""

from typing import Protocol

MOST = 64
"""Of one address at a time."""


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
        """Note a new one. Where there are too many of its address, the oldest idle one goes; else the new one."""
        there = self._there.setdefault(connection.peer, {})
        if len(there) >= MOST:
            gone = next((each for each in there if each.idle), connection)
            gone.end()
            self.know(gone)
            there = self._there.setdefault(connection.peer, {})
            if gone is connection:
                return
        there[connection] = None

    def know(self, connection: Stranger) -> None:
        """It is a stranger no more, or no more at all."""
        there = self._there.get(connection.peer, {})
        there.pop(connection, None)
        if not there:
            self._there.pop(connection.peer, None)
