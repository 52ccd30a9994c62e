"""Flushing: users of a host go to where the ring says now. For operators, and for hosts that were found dead.

Users who have connections are moved a few at a time, all others at once. Each step is one transaction; then workers
forget where its users go; then what flows for them ends, and they wait for that.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from msgspec import Struct

from ostiary.control.control import Control
from ostiary.control.sessions import everybody
from ostiary.control.steering import chunks, draining
from ostiary.core.director import DirectorRules, Host, user_hash
from ostiary.core.refusal import Unavailable
from ostiary.link.messages import Change, Drain, Unsteer
from ostiary.link.receipt import Receipt
from ostiary.store.places import Flushed


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
        name, host, directors = self.rules.name, self.host.host, self.control.directors
        read = self.control.steering.read(name)
        busy = await self._busy()
        every = frozenset(busy)
        await self._step(lambda held, now: directors.flush(name, host, read, held, now, every), [host])
        held = 0
        for group in groups(busy, parallel):
            if held:
                await self.control.steering.moved(name, held)
            held = await self._step(partial(directors.flush_users, name, host, read, hashes=group), [])

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

    async def _step(self, flush: Callable[[int, int], Awaitable[Flushed]], hosts: list[str]) -> int:
        """Move some; the name of the move, 0 where nobody was moved. `hosts`: whose users workers forget, if not they.

        Who is forgotten has nothing at the old host any more when this returns; who is moved waits for that alone.
        """
        control, name, grace = self.control, self.rules.name, self.grace
        held = control.steering.hold(name, grace)
        moved: list[Drain] = []
        forgotten: list[Drain] = []
        try:
            flushed = await flush(held, control.clock())
            moved = draining(name, flushed.moved, grace)
            forgotten = draining(name, flushed.forgotten, grace, close=True)
            if flushed.seq:
                gone = Unsteer(name, hosts=hosts) if hosts else Unsteer(name, flushed.moved + flushed.forgotten)
                self.receipt = await control.workers.apply(Change(flushed.seq, steering=[gone]))
        finally:
            if moved:
                control.steering.end_soon(name, held, moved)
            else:
                await control.steering.end(name, held, forgotten)
        self.moved += len(flushed.moved)
        self.forgotten += len(flushed.forgotten)
        return held if moved else 0


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
