"""The barrier: waiting until no worker acts on what a change ended."""

import asyncio
from collections.abc import Callable


class Barrier:
    """Waits until no worker acts on what a change ended. `holding`: worker -> when its last lease runs out."""

    def __init__(self, holding: dict[int, int]) -> None:
        self.holding = holding
        self.dropped: dict[str, int] = {}
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.let_go()

    def confirm(self, worker: int, dropped: dict[str, int]) -> None:
        """`worker` has applied the change, or is no more."""
        self.holding.pop(worker, None)
        for kind, count in dropped.items():
            self.dropped[kind] = self.dropped.get(kind, 0) + count
        self.let_go()

    def let_go(self) -> None:
        if not self.holding and not self.settled.done():
            self.settled.set_result(None)

    async def wait(self, clock: Callable[[], int]) -> None:
        """Return when all have confirmed, or the last lease of those who have not has run out."""
        while self.holding and (left := max(self.holding.values()) - clock()) > 0:
            await asyncio.wait({self.settled}, timeout=left / 1e9 + 0.001)
