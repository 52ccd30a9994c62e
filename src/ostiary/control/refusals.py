"""Refusals as the audit has them: each by itself, but of those who are barred no more than a record a second.

An address that is barred may go on asking hundreds of times a second, and what is said of that is the same each time:
the first refusal stands there at once, the others of each second as one record, whose target says how many. Those of
all addresses are written together: one by one they cost as much as the refusals themselves.
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
    more: int = 0


class Refusals:
    """Those that are being counted."""

    def __init__(self, period: float = PERIOD) -> None:
        self._period = period
        self._counts: dict[Who, _Count] = {}
        self._timer: asyncio.TimerHandle | None = None
        """The end of a period; None: nobody is counted."""
        self._writing: set[asyncio.Task[None]] = set()

    def one_more(self, who: Who) -> bool:
        """Count a refusal with those of the same that are being counted; False: there are none."""
        count = self._counts.get(who)
        if count is None:
            return False
        count.more += 1
        return True

    async def keep(self, control: Control, call: Call, refusal: Refusal) -> None:
        """Have the audit hold a refusal, by its return or, counted, within a second."""
        if isinstance(refusal, Limited):
            who = (call.address, call.surface, call.operation, call.principal.name)
            if self.one_more(who):
                return
            self._counts[who] = _Count(control, call, refusal.code)
            self._timer = self._timer or self._later()
        await control.audit.append(call.record(control.clock(), refusal.code))

    async def settled(self) -> None:
        """Write what is counted; for the end of the process."""
        if self._timer is not None:
            self._timer.cancel()
            self._sum_up()
        while self._writing:
            await asyncio.wait(self._writing)

    def _later(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._period, self._sum_up)

    def _sum_up(self) -> None:
        """The end of a period. Who did not come in it is counted no more."""
        found = {who: count for who, count in self._counts.items() if count.more}
        self._counts = {who: _Count(count.control, count.call, count.code) for who, count in found.items()}
        self._timer = self._later() if found else None
        if found:
            task = asyncio.get_running_loop().create_task(_write(list(found.values())))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)


async def _write(counts: list[_Count]) -> None:
    """One record each, in one commit."""
    control = counts[0].control
    now = control.clock()
    try:
        await control.audit.append(*(each.call.record(now, each.code, f"{each.more} more") for each in counts))
    except Unavailable as refusal:
        missing = sum(each.more for each in counts)
        log.error("%s refusals are missing in the audit: %s", missing, refusal.message)
