"""Upkeep: rows whose time is over are deleted, a few at a time and mostly at rest, while control lives."""

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from ostiary.core.refusal import Unavailable
from ostiary.core.snapshot import SECOND
from ostiary.store.purge import STALE, Stale

EVERY = 60.0
"""Seconds from the end of one round to the next."""
REST = 4
"""After each transaction upkeep rests this many times as long as it took, the wait for other writes included."""

log = logging.getLogger("ostiary.control")


class Purge(Protocol):
    """What deletes."""

    async def purge(self, stale: Stale, now: int) -> int:
        """Delete some of the rows that are over at `now`; how many, 0: none are left."""


class Upkeep:
    """Goes round STALE. `clock` is Unix time, `ticks` never goes back (microseconds); `pause` waits for seconds."""

    def __init__(
        self,
        purge: Purge,
        clock: Callable[[], int],
        ticks: Callable[[], int],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._purge = purge
        self._clock = clock
        self._ticks = ticks
        self._pause = pause

    async def run(self) -> None:
        """Go round for ever; ends by being cancelled. Where the store cannot be reached, the next round tries again."""
        while True:
            try:
                await self.round()
            except Unavailable as refusal:
                log.warning("Expired rows stay for now: %s", refusal.message)
            await self._pause(EVERY)

    async def round(self) -> dict[str, int]:
        """Delete all that is over now; how many rows of each table."""
        now = self._clock()
        return {stale.table: await self._all(stale, now) for stale in STALE}

    async def _all(self, stale: Stale, now: int) -> int:
        total, began = 0, self._ticks()
        while gone := await self._purge.purge(stale, now):
            total += gone
            await self._pause(REST * (self._ticks() - began) / SECOND)
            began = self._ticks()
        return total
