"""Flushing: users of a host go to where the ring says now. For operators, and for hosts that were found dead.

Users who have connections are moved a few at a time, all others at once. Each step is one transaction; then workers
forget where its users go; then what flows for them ends, and they wait for that.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple

from msgspec import Struct

from ostiary.control.control import Control
from ostiary.control.sessions import everybody
from ostiary.control.steering import chunks, draining
from ostiary.core.director import DirectorRules, Host, Unsteer, user_hash
from ostiary.core.refusal import Unavailable
from ostiary.link.messages import Change, Drain
from ostiary.link.receipt import Receipt


class Step(NamedTuple):
    """Users who have left a host at once: what workers forget of them, and what ends what flows for them."""

    seq: int = 0
    moved: int = 0
    forgotten: int = 0
    gone: Unsteer | None = None
    drains: Sequence[Drain] = ()


class Flush(Struct):
    """The flush of one host, as far as it has come."""

    control: Control
    rules: DirectorRules
    host: Host
    grace: int
    """Microseconds that exchanges in flight may go on."""
    moved: int = 0
    forgotten: int = 0
    receipt: Receipt | None = None

    @property
    def changes(self) -> list[str]:
        """What was done, for a person."""
        counts = ((self.moved, "moved"), (self.forgotten, "forgotten"))
        return [f"{self.host.host}: {count} users {what}" for count, what in counts if count]

    async def run(self, parallel: int) -> None:
        """Move all users whose place on the ring is elsewhere; those without any are forgotten, as in a kick.

        At most `parallel` users who have connections at a time. Returns when the last move has been made. Refuses
        Unavailable; what was done until then stands, and the rest can be flushed again.
        """
        busy = await self._busy()
        await self._step(partial(self._all_but, frozenset(busy)))
        held = 0
        for group in groups(busy, parallel):
            if held:
                await self.control.steering.moved(self.rules.name, held)
            held = await self._step(partial(self._these, group))

    async def _busy(self) -> list[int]:
        """Hashes of users of the host who have connections and are to leave it."""
        rules, host, steering = self.rules, self.host, self.control.steering
        try:
            sessions = await everybody(self.control)
        except Unavailable:
            sessions = []  # a worker hangs: its lease has run out by now, and nothing is gained by going slowly
        hashes = {user_hash(each.user, rules.user_hash) for each in sessions}
        ring, now = (await steering.board(rules.name)).ring(host.tag), self.control.clock()
        found = [
            each
            for chunk in chunks(sorted(hashes))
            for each in await self.control.directors.find(rules.name, host.tag, chunk, now)
        ]
        return [each.hash for each in found if each.host == host.host != ring.host(each.hash)]

    async def _step(self, leave: Callable[[int], Awaitable[Step]]) -> int:
        """Move some; the name of the move, 0 where nobody was moved.

        Who is forgotten has nothing at the old host any more when this returns; who is moved waits for that alone.
        """
        control, name = self.control, self.rules.name
        held, step = control.steering.hold(name, self.grace), Step()
        try:
            step = await leave(held)
            if step.gone is not None:
                self.receipt = await control.workers.apply(Change(step.seq, steering=[step.gone]))
        finally:
            if step.moved:
                control.steering.end_soon(name, held, step.drains)
            else:
                await control.steering.end(name, held, step.drains)
        self.moved += step.moved
        self.forgotten += step.forgotten
        return held if step.moved else 0

    async def _all_but(self, spared: Collection[int], held: int) -> Step:
        """All but these leave, by one mark: nobody names them, here or to the workers."""
        control, name, host = self.control, self.rules.name, self.host.host
        read, now = control.steering.read(name), control.clock()
        left = await control.directors.flush(name, host, read, held, now, spared)
        if left is None:
            return Step()
        forgets = left.mark.forgets
        drain = Drain(name, grace=self.grace, close=forgets, mark=left.mark)
        counts = (0, left.users) if forgets else (left.users, 0)
        return Step(left.mark.number, *counts, Unsteer(name, hosts=[host]), [drain])

    async def _these(self, hashes: Sequence[int], held: int) -> Step:
        """These leave, as far as they are to."""
        control, name = self.control, self.rules.name
        read, now = control.steering.read(name), control.clock()
        flushed = await control.directors.flush_users(name, self.host.host, read, held, now, hashes)
        users = flushed.moved + flushed.forgotten
        drains = draining(name, users, self.grace, close=bool(flushed.forgotten))
        gone = Unsteer(name, users) if users else None
        return Step(flushed.seq, len(flushed.moved), len(flushed.forgotten), gone, drains)


def groups(items: Sequence[int], size: int) -> list[Sequence[int]]:
    """In pieces of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]


async def forget(control: Control, rules: DirectorRules, hosts: Sequence[str]) -> tuple[int, Receipt | None]:
    """Forget all users of these hosts, whose connections stay, and who wait for nothing; how many."""
    changed = await control.directors.forget(rules.name, hosts, 0, control.clock())
    if not changed.value:
        return 0, None
    return changed.value, await control.workers.apply(
        Change(changed.seq, steering=[Unsteer(rules.name, hosts=list(hosts))])
    )
