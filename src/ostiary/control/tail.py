"""The tail of the change log: what is in there and was not told to workers by whoever wrote it is told by this.

`ostiary create-user` changes people in the store itself. What people hold is looked up there at each use; the tokens
of applications that they use are remembered by workers, which must hear of it. Of changes of directors none may be
missed, because workers keep what they know of users when control ends (link/steered.py).
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from ostiary.core.director import Unsteer
from ostiary.core.refusal import Unavailable
from ostiary.link.messages import Change
from ostiary.link.receipt import Receipt
from ostiary.store.ports import Changes, LoggedChange

EVERY = 1.0
"""Seconds between two looks."""
MOST = 1000
ENDING = frozenset({"user.revoked", "user.cut_off", "user.disabled", "user.deleted"})
"""Kinds of changes that take tokens away from the user whom they name."""
STEERING = "director."
"""With what those kinds begin that say what workers must forget of directors."""

log = logging.getLogger("ostiary.control")


class Workers(Protocol):
    """The part of the link that is used here."""

    @property
    def applied(self) -> Iterable[int]:
        """Numbers of the changes that it was lately given."""

    async def apply(self, change: Change) -> Receipt:
        """Returns when every worker has applied `change` or can no longer act on the old state."""


_unsteer = msgspec.json.Decoder(Unsteer).decode


class Tail:
    """Follows the change log from the number `after` on, and tells `told` up to which number all is in force.

    `moved` has the numbers of the moves that were told of late, a few thousand.
    """

    def __init__(
        self, changes: Changes, workers: Workers, after: int, told: Callable[[int], None],
        pause: Callable[[float], Awaitable[None]], moved: Iterable[int] = (),
    ) -> None:  # fmt: skip
        self._changes = changes
        self._workers = workers
        self._after = after
        self._said = -1
        self._told = told
        self._pause = pause
        self._moved = moved

    async def run(self) -> None:
        """Follow for ever; ends by being cancelled."""
        while True:
            try:
                while await self.step():
                    pass
            except (Unavailable, OSError) as problem:
                log.warning("The change log cannot be followed for now: %s", problem)
            await self._pause(EVERY)

    async def step(self) -> bool:
        """Have workers apply what is new and was not told them; whether there may be more."""
        found = await self._changes.after(self._after, MOST)
        await self._tell(found)
        self._after = found[-1].seq if found else self._after
        if self._said != self._after:
            self._told(self._after)
            self._said = self._after
        return len(found) == MOST

    async def _tell(self, found: Sequence[LoggedChange]) -> None:
        own = {*self._workers.applied, *self._moved} if found else set()
        others = [each for each in found if each.seq not in own]
        users = sorted({each.subject for each in others if each.kind in ENDING})
        steering = [_unsteer(each.subject) for each in others if each.kind.startswith(STEERING)]
        if users or steering:
            await self._workers.apply(Change(found[-1].seq, users=users, steering=steering))
