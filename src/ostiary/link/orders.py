"""Orders: what control has every worker carry out, and what each says when it has."""

import asyncio
from collections.abc import Iterable

import msgspec

from ostiary.core.refusal import Unavailable
from ostiary.link.messages import Do

Result = tuple[int, msgspec.Raw]
"""The process that carried an order out, and what it said (msgpack)."""


class Silent(Unavailable):
    """Some workers have not answered in time; `results` is what the others said."""

    def __init__(self, silent: Iterable[int], results: list[Result]) -> None:
        workers = ", ".join(map(str, sorted(silent)))
        super().__init__("workers.silent", f"Of worker {workers} no answer came in time")
        self.results = results


class Pending:
    """An order under way: which slots it waits for, and what has come."""

    def __init__(self, do: Do, slots: Iterable[int]) -> None:
        self.do = do
        self.waiting = set(slots)
        self.results: list[Result] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._look()

    def settle(self, slot: int, result: Result | None) -> None:
        """The slot's worker has done it, or (None) is no more."""
        if slot not in self.waiting:
            return
        self.waiting.discard(slot)
        if result is not None:
            self.results.append(result)
        self._look()

    def _look(self) -> None:
        if not self.waiting and not self.done.done():
            self.done.set_result(None)


class Orders:
    """All orders under way."""

    def __init__(self) -> None:
        self._pending: dict[int, Pending] = {}

    async def wait(self, pending: Pending, patience: float) -> list[Result]:
        """What the workers said. Refuses Silent (`workers.silent`) after `patience` seconds."""
        self._pending[pending.do.seq] = pending
        try:
            async with asyncio.timeout(patience):
                await pending.done
        except TimeoutError:
            raise Silent(pending.waiting, pending.results) from None
        finally:
            del self._pending[pending.do.seq]
        return pending.results

    def settle(self, slot: int, seq: int, result: Result) -> None:
        """A worker has done order `seq`."""
        if seq in self._pending:
            self._pending[seq].settle(slot, result)

    def gone(self, slot: int) -> None:
        """The worker of a slot is no more: nothing of what it was told to end is left."""
        for pending in self._pending.values():
            pending.settle(slot, None)

    def of(self, slot: int) -> list[Do]:
        """What a worker that has come back must still be told."""
        return [each.do for each in self._pending.values() if slot in each.waiting]
