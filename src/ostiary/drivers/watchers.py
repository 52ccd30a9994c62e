"""Who watches a driver: each hears what happens from the moment it began to watch."""

import asyncio
from collections.abc import AsyncIterator

from ostiary.core.refusal import Unavailable
from ostiary.drivers.port import Seen


class Watchers:
    def __init__(self) -> None:
        self.queues: set[asyncio.Queue[Seen | Unavailable]] = set()

    def join(self) -> AsyncIterator[Seen]:
        """Everything from now on, not only from the first look at it."""
        queue: asyncio.Queue[Seen | Unavailable] = asyncio.Queue()
        self.queues.add(queue)
        return self.heard(queue)

    async def heard(self, queue: asyncio.Queue[Seen | Unavailable]) -> AsyncIterator[Seen]:
        try:
            while not isinstance(heard := await queue.get(), Unavailable):
                yield heard
            raise heard
        finally:
            self.queues.discard(queue)

    def tell(self, heard: Seen | Unavailable) -> None:
        """Tell everybody; an Unavailable is the last that they hear."""
        for each in self.queues:
            each.put_nowait(heard)
