"""The tail of the change log: what others wrote into this node's store is told to its workers too.

`ostiary create-user` changes people in the store itself. What people hold is looked up there at each use; the tokens
of applications that they use are remembered by workers, which must hear of it.
"""

import logging
from collections.abc import Awaitable, Callable, Container
from typing import Protocol

from ostiary.core.refusal import Unavailable
from ostiary.link.messages import Change
from ostiary.link.receipt import Receipt
from ostiary.store.ports import Changes

EVERY = 1.0
"""Seconds between two looks."""
MOST = 1000
ENDING = frozenset({"user.revoked", "user.cut_off", "user.disabled", "user.deleted"})
"""Kinds of changes that take tokens away from the user whom they name."""

log = logging.getLogger("ostiary.control")


class Workers(Protocol):
    """The part of the link that is used here."""

    @property
    def applied(self) -> Container[int]:
        """Numbers of the changes that it was lately given."""

    async def apply(self, change: Change) -> Receipt:
        """Returns when every worker has applied `change` or can no longer act on the old state."""


class Tail:
    """Follows the change log from the number `after` on, and tells `told` up to which number all is in force."""

    def __init__(
        self, changes: Changes, workers: Workers, after: int, told: Callable[[int], None],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._changes = changes
        self._workers = workers
        self._after = after
        self._said = -1
        self._told = told
        self._pause = pause

    async def run(self) -> None:
        """Follow for ever; ends by being cancelled."""
        while True:
            try:
                await self.step()
            except (Unavailable, OSError) as problem:
                log.warning("The change log cannot be followed for now: %s", problem)
            await self._pause(EVERY)

    async def step(self) -> None:
        """Have workers apply what is new and not this node's own doing."""
        found = await self._changes.after(self._after, MOST)
        own = self._workers.applied
        users = sorted({each.subject for each in found if each.kind in ENDING and each.seq not in own})
        if users:
            await self._workers.apply(Change(found[-1].seq, users=users))
        self._after = found[-1].seq if found else self._after
        if self._said != self._after:
            self._told(self._after)
            self._said = self._after
