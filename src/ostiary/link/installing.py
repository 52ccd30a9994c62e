"""Snapshots, given to all workers in two phases, and to those that come later."""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence

from ostiary.core.refusal import Invalid, Unavailable
from ostiary.core.snapshot import Snapshot
from ostiary.link.frames import Channel
from ostiary.link.messages import Prepared, Swap, Swapped, ToControl
from ostiary.link.slot import Image, Slot

log = logging.getLogger(__name__)


class Movement:
    """Something about some worker has changed: who waits for that looks again."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def made(self) -> None:
        """Wake whoever waits."""
        self._event.set()
        self._event = asyncio.Event()

    async def next(self) -> None:
        """Wait for the next one."""
        await self._event.wait()


class Installing:
    """Which snapshot serves, and which is being installed.

    `replace` ends a worker that makes no progress for `patience` seconds; `begin` runs work beside.
    """

    def __init__(
        self,
        slots: Collection[Slot],
        movement: Movement,
        replace: Callable[[Slot, str], None],
        begin: Callable[[Coroutine[None, None, None]], None],
        patience: float,
    ) -> None:
        self._slots = slots
        self._movement = movement
        self._replace = replace
        self._begin = begin
        self._patience = patience
        self._current: Image | None = None
        self._candidate: Image | None = None
        self._problem = ""

    async def install(self, snapshot: Snapshot, routes: Sequence[bytes]) -> None:
        """Make every worker serve `snapshot`: all build it beside the one that serves; then all swap.

        Raises Invalid where one cannot build it, Unavailable while another installation runs.
        """
        if self._candidate is not None:
            raise Unavailable("reload.running", "another configuration is being installed")
        image = self._candidate = Image(snapshot, routes)
        self._problem = ""
        try:
            for slot in self._slots:
                self._offer(slot, image)
            await self._settle(lambda slot: slot.prepared == image.revision or bool(self._problem))
            if self._problem:
                raise Invalid("snapshot.refused", self._problem)
            self._current = image
        finally:
            self._candidate = None
        for slot in self._slots:
            self._order_swap(slot, image)
        await self._settle(lambda slot: slot.serves == image.revision)

    def greet(self, slot: Slot) -> None:
        """A worker has come: what it lacks."""
        if self._current is not None and slot.serves != self._current.revision:
            self._post(slot, self._current)
            self._order_swap(slot, self._current)
        if self._candidate is not None:
            self._offer(slot, self._candidate)

    def _offer(self, slot: Slot, image: Image) -> None:
        """Have a slot prepare `image`, unless it has served it since before this control began."""
        slot.moved()
        if self._current is None and slot.serves == image.revision:
            slot.prepared, slot.kept = image.revision, image
        else:
            slot.prepared = 0
            self._post(slot, image)

    def _order_swap(self, slot: Slot, image: Image) -> None:
        slot.moved()
        if slot.kept is not image:
            slot.serves = 0
            self._post(slot, Swap(image.revision))

    def _post(self, slot: Slot, item: Image | Swap) -> None:
        """Send an image or a swap after those before it, no faster than the worker takes them in."""
        if slot.channel is None:
            return
        slot.outbox.append(item)
        if not slot.feeding:
            slot.feeding = True
            self._begin(self._feed(slot))

    async def _feed(self, slot: Slot) -> None:
        try:
            while slot.outbox and slot.channel is not None:
                await self._feed_one(slot, slot.channel, slot.outbox.popleft())
        finally:
            slot.feeding = False

    async def _feed_one(self, slot: Slot, channel: Channel[ToControl], item: Image | Swap) -> None:
        if isinstance(item, Swap):
            channel.send(item)
            return
        for piece in item.frames:
            channel.write(piece)
            await channel.drained()
            await asyncio.sleep(0)
            if slot.channel is not channel:
                return
            slot.moved()

    def prepared(self, slot: Slot, message: Prepared) -> None:
        """A worker has built a snapshot, or cannot."""
        if message.problem:
            log.error("worker %d cannot build revision %d: %s", slot.number, message.revision, message.problem)
            if self._candidate is not None and self._candidate.revision == message.revision:
                self._problem = message.problem
        else:
            slot.prepared = message.revision
        slot.moved()
        self._movement.made()

    def swapped(self, slot: Slot, message: Swapped) -> None:
        """A worker serves another snapshot from now on."""
        slot.serves = message.revision
        slot.moved()
        self._movement.made()

    async def _settle(self, settled: Callable[[Slot], bool]) -> None:
        """Wait until `settled` holds for every slot in which something runs; replace those that make no progress."""
        loop = asyncio.get_running_loop()
        while waiting := [slot for slot in self._slots if not slot.ended and not settled(slot)]:
            slowest = min(waiting, key=lambda slot: slot.progress)
            left = slowest.progress + self._patience - loop.time()
            if left <= 0:
                self._replace(slowest, "it does not take the new configuration")
                continue
            try:
                async with asyncio.timeout(left):
                    await self._movement.next()
            except TimeoutError:
                pass
