"""Control's end of the link: leases, changes with their barrier, snapshots in two phases, admissions.

The guarantee: when `apply` returns, no worker uses what the change ended. For each worker one of these has come about:

    it said Applied;
    its process has ended (a pidfd says so), and its successor begins with nothing;
    the last lease that it was sent before the change has run out. A later lease stands behind the change in its stream.

A worker that was connected to a predecessor of this control may hold that one's lease, so that until it says Hello it
counts as holding a lease given at this control's first moment. Whoever says Hello drops all its admissions first: it
may have missed changes while it was alone. Where users of directors go it keeps, but for what it missed (steered.py).
"""

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Protocol

import msgspec

from ostiary.core.admission import Admission
from ostiary.core.director import Unsteer
from ostiary.core.refusal import Refusal
from ostiary.core.snapshot import Snapshot
from ostiary.link.barrier import Barrier
from ostiary.link.frames import Broken, Channel
from ostiary.link.installing import Installing, Movement
from ostiary.link.messages import (
    NEVER,
    Applied,
    Ask,
    Barred,
    Change,
    Collect,
    Do,
    Done,
    Draw,
    Grant,
    Granted,
    Guesses,
    Hello,
    Lease,
    Order,
    Prepared,
    Report,
    Steer,
    Swapped,
    ToControl,
    Touch,
    Want,
    decode_to_control,
)
from ostiary.link.orders import Orders, Pending, Result
from ostiary.link.process import Process, peer
from ostiary.link.reading import Reading
from ostiary.link.receipt import Receipt, WorkerStatus
from ostiary.link.slot import Slot
from ostiary.link.steered import Past, Steering
from ostiary.link.telling import Telling

log = logging.getLogger(__name__)

LEASE = 5_000_000_000
"""Nanoseconds that a lease is valid."""
RENEWAL = 1.0
"""Seconds between two leases."""
PATIENCE = 10.0
"""Seconds without a sign of progress after which a worker that is to take a snapshot is replaced."""
REPORTING = 1.0
"""Seconds that a collection waits for the slowest worker."""
MOST_UNSENT = 128 * 1024 * 1024
"""Bytes that may wait for a worker that does not read, before it is replaced."""
MOST_UNCONFIRMED = 100_000


class Authority(Protocol):
    """Who answers what workers ask."""

    async def admit(self, digests: Sequence[bytes]) -> dict[bytes, Admission | None]:
        """What is true at some moment after this call, for each of `digests`."""

    def draw(self, wants: Sequence[Want]) -> list[Grant]:
        """One Grant a Want, in their order."""

    async def guessed(self, guesses: Mapping[bytes, str]) -> dict[str, int]:
        """Count tokens that never were against their addresses; those barred now, with the microseconds left."""


class Server:
    """Control's end of the link, for workers numbered 1 to `workers`.

    `clock` is the machine's monotonic clock in nanoseconds, the one that workers read; `lease` is in nanoseconds too,
    and must be the same for all who control these workers in turn. `patience` is in seconds. `past` was read before
    anybody could connect.
    """

    def __init__(
        self,
        authority: Authority,
        workers: int,
        clock: Callable[[], int] = time.monotonic_ns,
        lease: int = LEASE,
        patience: float = PATIENCE,
        steering: Steering | None = None,
        past: Past | None = None,
    ) -> None:
        self._authority = authority
        self._telling = Telling(steering, self._begin)
        self._past = past or Past()
        self.told = self._past.newest
        """The number of the change log up to which all changes of directors were given to it, or to a predecessor."""
        self._orders = Orders()
        self._standing = Change(0, streams=False, stopped=[])
        """What every worker that comes must be told: members, and stopped services (a predecessor's serve again)."""
        self._clock, self._lease = clock, lease
        self._slots = {number: Slot(number, clock() + lease) for number in range(1, workers + 1)}
        self._seq = 0
        self.applied: deque[int] = deque(maxlen=1024)
        """Numbers of the changes that it was last given."""
        self._reading = Reading(authority.admit, self._spawn)
        self._reports: list[Report] = []
        self._tasks: asyncio.TaskGroup | None = None
        self._movement = Movement()
        self._installing = Installing(self._slots.values(), self._movement, self._replace, self._spawn, patience)

    async def serve(self, listener: socket.socket | None = None, linked: socket.socket | None = None) -> None:
        """Serve the workers that connect to `listener` (a listening Unix socket), or the one behind `linked`.

        Runs until cancelled; then all connections are closed.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as self._tasks:
            server = await loop.create_unix_server(self._accept, sock=listener) if listener is not None else None
            try:
                if linked is not None:
                    await loop.create_unix_connection(self._accept, sock=linked)
                await self._renew()
            finally:
                if server is not None:
                    server.close()
                for slot in self._slots.values():
                    self._forget(slot)

    async def apply(self, change: Change) -> Receipt:
        """Make `change` be in force in every worker. Its `seq`, where it has one, is the receipt's epoch."""
        began = self._clock()
        self.applied.append(change.seq)
        self._telling.note(change)
        self._stand(change)
        self._seq += 1
        numbered = msgspec.structs.replace(change, seq=self._seq)
        barrier = Barrier({slot.number: slot.lease for slot in self._slots.values() if slot.lease > began})
        self._reading.note(change)
        for slot in self._slots.values():
            if not slot.ended:
                self._tell(slot, numbered, barrier)
        await barrier.wait(self._clock)
        return self._receipt(change.seq or self._seq, len(self._slots) - len(barrier.holding), began, barrier.dropped)

    def _stand(self, change: Change) -> None:
        """Remember of a change what workers that come later must know."""
        stopped = self._standing.stopped if change.stopped is None else change.stopped
        members = {**self._standing.members, **change.members}
        self._standing = Change(0, members=members, stopped=stopped, streams=False)

    async def order(self, order: Order, patience: float = LEASE / 1e9) -> list[Result]:
        """Have every worker carry out `order`; what each said, in no order. One that ended has nothing to say.

        Refuses Unavailable `workers.silent` when one does not answer within `patience` seconds.
        """
        self._seq += 1
        do = Do(self._seq, order)
        pending = Pending(do, (slot.number for slot in self._slots.values() if not slot.ended))
        for slot in self._slots.values():
            slot.send(do)
        return await self._orders.wait(pending, patience)

    async def install(self, snapshot: Snapshot, routes: Sequence[bytes]) -> Receipt:
        """Make every worker serve `snapshot`, whose `routes` are Routes messages made by `frame`.

        Raises Invalid where a worker cannot build it (the old one serves on), Unavailable while another installation
        runs. A worker that neither confirms nor makes progress is killed; whoever comes in its place is given it.
        """
        began = self._clock()
        await self._installing.install(snapshot, routes)
        serving = sum(slot.serves == snapshot.revision and not slot.ended for slot in self._slots.values())
        return self._receipt(snapshot.revision, serving, began, {})

    async def collect(self) -> list[Report]:
        """A report of each worker that answers within a second, and those that came too late for an earlier call."""
        self._seq += 1
        seq = self._seq
        asked = [slot for slot in self._slots.values() if slot.channel is not None]
        for slot in asked:
            slot.send(Collect(seq))
        try:
            async with asyncio.timeout(REPORTING):
                while any(slot.channel is not None and slot.reported < seq for slot in asked):
                    await self._movement.next()
        except TimeoutError:
            log.warning("a worker did not report in time")
        reports, self._reports = self._reports, []
        return reports

    async def deserted(self) -> None:
        """Wait until no worker is connected."""
        while any(slot.channel is not None for slot in self._slots.values()):
            await self._movement.next()

    def status(self) -> list[WorkerStatus]:
        """Every expected worker as it is now."""
        return [
            WorkerStatus(
                slot.number,
                slot.process.pid if slot.process is not None else 0,
                slot.channel is not None,
                slot.serves,
                len(slot.unconfirmed),
            )
            for slot in self._slots.values()
        ]

    def _receipt(self, epoch: int, applied: int, began: int, dropped: dict[str, int]) -> Receipt:
        return Receipt(epoch, applied, len(self._slots), (self._clock() - began) // 1000, dropped)

    # Connections

    def _accept(self) -> asyncio.BaseProtocol:
        return Caller(self).channel

    def greet(self, channel: Channel[ToControl], hello: Hello) -> Slot:
        """A worker's first words: what it missed, its lease, and the snapshot that it lacks."""
        slot = self._slots.get(hello.worker)
        pid, ours = peer(channel)
        if slot is None or not ours:
            raise Broken(f"a Hello of worker {hello.worker}, process {pid}, which is not expected")
        self._let_go(slot)
        self._know(slot, pid or hello.pid)
        told = NEVER if slot.ended else hello.told  # whoever was given up has not been told anything since
        slot.channel, slot.ended = channel, False
        slot.serves, slot.prepared, slot.kept = hello.revision, 0, None
        slot.moved()
        self._catch_up(slot, told)
        self._lend(slot)
        self._installing.greet(slot)
        log.info("worker %d connected, process %d", slot.number, pid or hello.pid)
        self._movement.made()
        return slot

    def _know(self, slot: Slot, pid: int) -> None:
        """Watch process `pid` in this slot. A slot holds one: a different one before it must not live on."""
        if slot.process is not None and slot.process.pid != pid:
            slot.process.kill()
            self._forget(slot)
        if slot.process is None:
            slot.process = Process(pid, lambda: self._ended(slot, pid))

    def _catch_up(self, slot: Slot, told: int) -> None:
        """What is cached may be from before a change that went by: have that dropped, and say what is unconfirmed."""
        self._seq += 1
        for change, _ in slot.unconfirmed:
            slot.send(change)
        missed = self._past.since(told)
        anew = msgspec.structs.replace(self._standing, seq=self._seq, everything=True, steering=missed)
        self._tell(slot, anew, None)
        for do in self._orders.of(slot.number):
            slot.send(do)

    def lost(self, slot: Slot, channel: Channel[ToControl]) -> None:
        """A worker's connection is gone; its process may not be."""
        if slot.channel is channel:
            slot.channel = None
            slot.outbox.clear()
            slot.asked.clear()
            self._movement.made()

    def _ended(self, slot: Slot, pid: int) -> None:
        """The process of a slot is no more."""
        if slot.process is None or slot.process.pid != pid:
            return
        log.info("worker %d ended, process %d", slot.number, pid)
        self._forget(slot)
        slot.lease = 0
        for _, barrier in slot.unconfirmed:
            if barrier is not None:
                barrier.confirm(slot.number, {})
        slot.unconfirmed.clear()
        self._orders.gone(slot.number)
        self._give_up(slot)

    def _give_up(self, slot: Slot) -> None:
        """Wait no longer for this slot to take a snapshot; who comes there is given it."""
        self._let_go(slot)
        slot.ended, slot.serves, slot.prepared = True, 0, 0
        self._movement.made()

    def _forget(self, slot: Slot) -> None:
        """Close what is open towards a slot, and watch its process no longer."""
        self._let_go(slot)
        if slot.process is not None:
            slot.process.close()
            slot.process = None

    def _let_go(self, slot: Slot) -> None:
        """Close the connection of a slot."""
        channel, slot.channel = slot.channel, None
        slot.outbox.clear()
        slot.asked.clear()
        if channel is not None:
            channel.abort()

    def _replace(self, slot: Slot, why: str) -> None:
        """End the process of a slot, so that the supervisor starts another."""
        log.error("worker %d is replaced: %s", slot.number, why)
        if slot.process is not None and slot.process.watched:
            slot.process.kill()
            slot.moved()
        else:
            self._give_up(slot)

    # Leases and changes

    async def _renew(self) -> None:
        while True:
            for slot in self._slots.values():
                self._bound(slot)
                if self._responds(slot):
                    self._lend(slot)
            await asyncio.sleep(RENEWAL)

    def _responds(self, slot: Slot) -> bool:
        """Whether a slot has confirmed some change since the last lease was due, or has none to confirm.

        One that does not is lent nothing more, so that only the first change has to wait for its lease to run out.
        """
        before, slot.oldest = slot.oldest, slot.unconfirmed[0][0].seq if slot.unconfirmed else 0
        return not slot.oldest or slot.oldest != before

    def _lend(self, slot: Slot) -> None:
        if slot.channel is not None:
            slot.lease = self._clock() + self._lease
            slot.send(Lease(slot.lease, self.told))

    def _bound(self, slot: Slot) -> None:
        """A worker that takes nothing in must not fill control's memory."""
        if slot.channel is not None and slot.channel.unsent > MOST_UNSENT:
            self._replace(slot, f"it has not taken {slot.channel.unsent} bytes")
        if len(slot.unconfirmed) > MOST_UNCONFIRMED:
            self._replace(slot, f"it has not confirmed {len(slot.unconfirmed)} changes")
            everything = Change(self._seq, everything=True, steering=[Unsteer("")])
            slot.unconfirmed = deque([(everything, None)])

    def _tell(self, slot: Slot, change: Change, barrier: Barrier | None) -> None:
        slot.unconfirmed.append((change, barrier))
        slot.send(change)

    def _applied(self, slot: Slot, message: Applied) -> None:
        """A worker has applied a change, and with it all those before it."""
        while slot.unconfirmed and slot.unconfirmed[0][0].seq <= message.seq:
            change, barrier = slot.unconfirmed.popleft()
            if barrier is not None:
                barrier.confirm(slot.number, message.dropped if change.seq == message.seq else {})
        if not slot.unconfirmed and slot.lease <= self._clock():
            self._lend(slot)

    # What workers say

    def heard(self, slot: Slot, message: ToControl) -> None:
        """One message of a worker that has said Hello."""
        match message:
            case Ask():
                self._reading.ask(slot, message.digests)
            case Guesses():
                self._begin(self._bar(message.guesses))
            case Steer():
                self._telling.ask(slot, message.questions)
            case Touch():
                self._telling.touch(slot, message)
            case Done():
                pid = slot.process.pid if slot.process is not None else 0
                self._orders.settle(slot.number, message.seq, (pid, message.result))
            case Draw():
                slot.send(Granted(self._authority.draw(message.wants)))
            case Applied():
                self._applied(slot, message)
            case Prepared():
                self._installing.prepared(slot, message)
            case Swapped():
                self._installing.swapped(slot, message)
            case Report():
                self._reports.append(message)
                slot.reported = message.seq
                self._movement.made()
            case Hello():
                raise Broken("a second Hello")

    async def _bar(self, guesses: Mapping[bytes, str]) -> None:
        """Have all workers bar the addresses that guess."""
        try:
            barred = await self._authority.guessed(guesses)
        except Refusal as refusal:
            log.warning("guessed tokens are not counted: %s", refusal.message)
            return
        until = {address: self._clock() + left * 1000 for address, left in barred.items()}
        for slot in self._slots.values() if until else ():
            slot.send(Barred(until))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        """Work beside the reading of messages; a defect in it must not end the link."""
        self._spawn(_guarded(work))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._tasks is None:
            work.close()
        else:
            self._tasks.create_task(work)


async def _guarded(work: Coroutine[None, None, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("what a worker asked cannot be answered")


class Caller:
    """A connection before and after its Hello."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._slot: Slot | None = None
        self.channel: Channel[ToControl] = Channel(decode_to_control, lambda _: None, self._receive, self._lost)

    def _receive(self, message: ToControl) -> None:
        if self._slot is not None:
            self._server.heard(self._slot, message)
        elif isinstance(message, Hello):
            self._slot = self._server.greet(self.channel, message)
        else:
            raise Broken("words before Hello")

    def _lost(self, failure: Exception | None) -> None:
        if failure is not None:
            log.error("a worker's connection ended: %s", failure)
        if self._slot is not None:
            self._server.lost(self._slot, self.channel)
