"""Refusals as the audit has them: each by itself, but of those who are barred no more than a record a second.

An address that is barred may go on asking hundreds of times a second, and what is said of that is the same each time:
the first refusal stands there at once, those of the following second as one record, whose target says how many.
"""

import asyncio
import logging

from msgspec import Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.core.refusal import Limited, Refusal, Unavailable

PERIOD = 1.0
"""Seconds whose refusals are one record."""
Who = tuple[str, str, str, str]
"""Address, surface, operation, and the name of the principal."""

log = logging.getLogger("ostiary.control")


class _Count(Struct):
    """Refusals since the last record."""

    control: Control
    call: Call
    code: str
    timer: asyncio.TimerHandle
    more: int = 0


class Refusals:
    """Those that are being counted."""

    def __init__(self, period: float = PERIOD) -> None:
        self._period = period
        self._counts: dict[Who, _Count] = {}
        self._writing: set[asyncio.Task[None]] = set()

    async def keep(self, control: Control, call: Call, refusal: Refusal) -> None:
        """Have the audit hold a refusal, by its return or, counted, within a second."""
        if isinstance(refusal, Limited):
            who = (call.address, call.surface, call.operation, call.principal.name)
            if who in self._counts:
                self._counts[who].more += 1
                return
            self._counts[who] = _Count(control, call, refusal.code, self._later(who))
        await control.audit.append(call.record(control.clock(), refusal.code))

    async def settled(self) -> None:
        """Write what is counted; for the end of the process."""
        for who, count in tuple(self._counts.items()):
            count.timer.cancel()
            self._sum_up(who)
        while self._writing:
            await asyncio.wait(self._writing)

    def _later(self, who: Who) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._period, self._sum_up, who)

    def _sum_up(self, who: Who) -> None:
        """The end of a period. One in which nothing came is the last."""
        count = self._counts.pop(who)
        if count.more:
            task = asyncio.get_running_loop().create_task(_write(count))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
            self._counts[who] = _Count(count.control, count.call, count.code, self._later(who))


async def _write(count: _Count) -> None:
    record = count.call.record(count.control.clock(), count.code, f"{count.more} more")
    try:
        await count.control.audit.append(record)
    except Unavailable as refusal:
        log.error("%s refusals are missing in the audit: %s", count.more, refusal.message)
