"""Flushing: users of a host go to where the ring says now. For operators, and for hosts that were found dead.

Users who have connections are moved a few at a time, all others at once. Each step is one transaction; then workers
forget where its users go; then what flows for them ends, and they wait for that.
"""

from collections.abc import Callable, Sequence
from functools import partial

from msgspec import Struct

from ostiary.control.control import Control
from ostiary.control.sessions import everybody
from ostiary.control.steering import chunks
from ostiary.core.director import Arc, DirectorRules, Host, leaving, user_hash
from ostiary.core.refusal import Unavailable
from ostiary.core.snapshot import SECOND
from ostiary.link.messages import Change, Drain, Unsteer
from ostiary.link.receipt import Receipt
from ostiary.store.places import User


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
        await self.control.steering.quiet(self.rules.name)
        busy = await self._busy()
        alone = Unsteer(self.rules.name, hosts=[self.host.host]) if not busy else None
        await self._step(partial(self._leaving, without=busy), alone)
        held = 0
        for group in groups(busy, parallel):
            if held:
                await self.control.steering.moved(self.rules.name, held)
            held = await self._step(partial(self._of, hashes=group), None)

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

    def _leaving(self, kept: Sequence[Host], without: Sequence[int]) -> list[Arc]:
        board = self.control.steering.read(self.rules.name)(kept)
        return leaving(board.ring(self.host.tag).arcs(), self.host.host, without)

    def _of(self, kept: Sequence[Host], hashes: Sequence[int]) -> list[Arc]:
        ring = self.control.steering.read(self.rules.name)(kept).ring(self.host.tag)
        arcs = [Arc(each, each, ring.host(each)) for each in hashes]
        return [arc for arc in arcs if arc.host != self.host.host]

    async def _step(self, arcs: Callable[[Sequence[Host]], list[Arc]], unsteer: Unsteer | None) -> int:
        """Move some; the name of the move, 0 where nobody was moved. `unsteer`: what workers forget, if not they."""
        control, name = self.control, self.rules.name
        held = control.steering.hold(name, max(self.grace, SECOND))
        moved: list[User] = []
        try:
            flushed = await control.directors.flush(name, self.host.host, arcs, self.host.tag, held, control.clock())
            gone = flushed.moved + flushed.forgotten
            if gone:
                forget = unsteer or Unsteer(name, gone)
                self.receipt = await control.workers.apply(Change(flushed.seq, steering=[forget]))
            moved = flushed.moved
        finally:
            if moved:
                control.steering.drain(name, held, moved, self.grace)
            else:
                control.steering.release(name, held)
        self.moved += len(flushed.moved)
        self.forgotten += len(flushed.forgotten)
        grace, forgotten = self.grace, flushed.forgotten
        await control.steering.cut(Drain(name, each, grace=grace, close=True) for each in chunks(forgotten))
        return held if moved else 0


def groups(items: Sequence[int], size: int) -> list[Sequence[int]]:
    """In pieces of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]


async def forget(control: Control, rules: DirectorRules, hosts: Sequence[str]) -> tuple[int, Receipt | None]:
    """Forget all users of these hosts, whose connections stay; how many."""
    changed = await control.directors.forget(rules.name, hosts, control.clock())
    if not changed.value:
        return 0, None
    return changed.value, await control.workers.apply(
        Change(changed.seq, steering=[Unsteer(rules.name, hosts=list(hosts))])
    )
