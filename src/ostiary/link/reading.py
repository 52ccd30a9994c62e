"""Admissions for workers: what gathers while one question to the store is under way is asked together in the next."""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence

from ostiary.core.admission import Admission
from ostiary.link.frames import Channel
from ostiary.link.messages import Answers, Change, ToControl
from ostiary.link.slot import Slot

log = logging.getLogger(__name__)

BATCH = 512
"""Digests in one question to the store."""
Admissions = dict[bytes, Admission | None]


class Reading:
    """All questions under way. `admit` is the authority's; `begin` runs work beside, and drops it at the end."""

    def __init__(
        self,
        admit: Callable[[Sequence[bytes]], Awaitable[Admissions]],
        begin: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        self._admit = admit
        self._begin = begin
        self._reads: list[list[Change]] = []
        """Of each question under way, the changes made meanwhile."""

    def note(self, change: Change) -> None:
        """A change is being made: no answer may overtake it."""
        for read in self._reads:
            read.append(change)

    def ask(self, slot: Slot, digests: Sequence[bytes]) -> None:
        """A worker asks about these tokens; it is told as soon as it is known."""
        slot.asked.update(dict.fromkeys(digests))
        if not slot.reading:
            slot.reading = True
            self._begin(self._read(slot))

    async def _read(self, slot: Slot) -> None:
        """Answer what a worker asked, all that has gathered at once."""
        try:
            while slot.asked and slot.channel is not None:
                await self._answer(slot, slot.channel)
        except Exception:
            log.exception("admissions cannot be read")
            slot.asked.clear()
        finally:
            slot.reading = False

    async def _answer(self, slot: Slot, channel: Channel[ToControl]) -> None:
        """Read a batch. What a change made meanwhile touches is read again."""
        batch = list(slot.asked)[:BATCH]
        for digest in batch:
            del slot.asked[digest]
        changes: list[Change] = []
        self._reads.append(changes)
        try:
            admissions = await self._admit(batch)
        finally:
            self._reads = [read for read in self._reads if read is not changes]
        if slot.channel is channel:
            again = stale(admissions, changes)
            slot.asked.update(dict.fromkeys(again))
            channel.send(Answers({digest: admissions.get(digest) for digest in batch if digest not in again}))


def stale(admissions: Admissions, changes: Sequence[Change]) -> set[bytes]:
    """Which of `admissions`, read while `changes` were made, may be from before them."""
    return {
        digest
        for digest, admission in admissions.items()
        if any(change.touches(digest, admission) for change in changes)
    }
