"""A worker: the data plane of one process. It answers the link (Door), holds what exchanges share, and listens.

Nothing here touches a store. Where control must be asked, questions of one event-loop turn travel together.
"""

import asyncio
import gc
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from time import monotonic_ns, time_ns

import msgspec

from ostiary.core.admission import Admission
from ostiary.core.http1 import RequestLine
from ostiary.core.routing.table import Table
from ostiary.core.snapshot import Gateway, Snapshot
from ostiary.gateway.accounting import AccessLog, Accounts
from ostiary.gateway.admissions import Admissions
from ostiary.gateway.asking import Asking, Q
from ostiary.gateway.building import Building
from ostiary.gateway.cells import Cell, Cells
from ostiary.gateway.client import Client
from ostiary.gateway.director import Director
from ostiary.gateway.exchange import Exchange
from ostiary.gateway.generation import Generation, Lazy, Match, Target
from ostiary.gateway.guesses import Guesses
from ostiary.gateway.listener import Listener
from ostiary.gateway.orders import drain, kick, strays, who
from ostiary.gateway.services import Services
from ostiary.gateway.sessions import SHARED_FOR, Sessions
from ostiary.gateway.tls import server_context
from ostiary.gateway.upstream import Upstream
from ostiary.link.client import Control, Use
from ostiary.link.messages import (
    Change,
    Drain,
    Dump,
    FindStrays,
    Grant,
    Kick,
    Order,
    Place,
    Question,
    Report,
    ResetStats,
    Routes,
    Want,
    Who,
)

TICK = 0.1
"""Seconds between two looks at the deadlines: how late one may be."""
HELD_UP = 500_000_000
"""Nanoseconds from tick to tick of a worker that did not get its turn: it looks at deadlines in the next one."""
HALF_A_SECOND, A_SECOND, A_MINUTE = 5, 10, 600
"""Ticks."""
SHED = 2_000
"""Routes of an old snapshot let go at a tick, well below a millisecond; more where several snapshots wait."""

log = logging.getLogger("ostiary.gateway")


class Worker:
    """The data plane. Give it to the link as its Door; `serve` returns when it was drained."""

    def __init__(self, number: int, control: Control) -> None:
        self._control = control
        self._connected = False
        self._building: Building | None = None
        self._shedding: list[Table[Lazy | Target | msgspec.Raw]] = []
        self.upstreams: dict[str, Upstream] = {}
        self.listener = Listener(lambda: Client(self))
        self._members: dict[str, list[str]] = {}
        """Upstream -> backends that it has besides its own."""
        self._working: set[asyncio.Task[None]] = set()
        self.asking: Asking[bytes] = Asking(lambda digests: self._when_leased(control.ask, digests))
        """About tokens."""
        self._placing: Asking[Question] = Asking(lambda users: self._when_leased(control.steer, users))
        """About users of directors."""
        self._doubted: set[bytes] = set()
        """Tokens of open streams that may have ended while control was not heard."""
        self._wants: list[Want] = []
        self._addresses: Counter[str] = Counter()
        self._ids = 0
        self._id_prefix = b"%s%x-" % (os.urandom(6).hex().encode(), number)
        self._regular = (
            (1, self._tend_directors), (1, self._shed), (HALF_A_SECOND, self._tend_upstreams),
            (A_SECOND, self._tend_sessions), (A_MINUTE, self._use_anew),
        )  # fmt: skip
        """How often (in ticks) what is done."""
        self._finished = asyncio.Event()
        self._swapped = asyncio.Event()
        self.accounts = Accounts()
        self.log = AccessLog(self.accounts.counters)
        self.cells = Cells()
        self.guesses = Guesses(
            lambda guesses: self._control.guessed(guesses),
            lambda seconds, then: asyncio.get_running_loop().call_later(seconds, then),
        )
        self.settings = Gateway()
        self.admissions = Admissions(self.settings.max_admissions, self.cells)
        self.max_head = self.settings.max_head
        self.sessions = Sessions(self._id_prefix.decode())
        self.services = Services(self)
        self.clients: set[Client] = set()
        self.streams: set[Exchange] = set()
        self.draining = False
        self.closing = False
        """Whether connections end with the exchange that they are in."""
        self.lease_until = 0
        self.now = monotonic_ns()
        self.stamp = b""
        self.no_match = Match(RequestLine(b"", b"", True), None, self.accounts.stat(""), b"")
        self.generation: Generation

    # -- what exchanges ask

    def next_id(self) -> bytes:
        """A request id, unique among all workers."""
        self._ids += 1
        return b"%s%x" % (self._id_prefix, self._ids)

    def ask(self, digest: bytes, exchange: Exchange) -> bool:
        """Ask control about a token, as soon as there is a lease; `exchange.answered` is called.

        False when control is away and no lease is left.
        """
        if not self._connected and monotonic_ns() >= self.lease_until:
            return False
        self.accounts.counters["admission.misses"] += self.asking.ask(digest, exchange)
        return True

    def unask(self, digest: bytes, exchange: Exchange) -> None:
        """`exchange` no longer waits for the answer."""
        self.asking.give_up(digest, exchange)

    def steer(self, question: Question, exchange: Exchange) -> bool:
        """Ask control where a user goes; `exchange.placed` is called. False when control is away."""
        if not self._connected and monotonic_ns() >= self.lease_until:
            return False
        self._placing.ask(question, exchange)
        return True

    def unask_place(self, question: Question, exchange: Exchange) -> None:
        """`exchange` no longer waits for the answer."""
        self._placing.give_up(question, exchange)

    def _when_leased(self, send: Callable[[list[Q]], None], questions: list[Q]) -> None:
        """Without a lease an answer would count for nothing; the next lease asks again."""
        if self._connected and monotonic_ns() < self.lease_until:
            send(questions)

    def _send_wants(self) -> None:
        wants, self._wants = self._wants, []
        if wants and self._connected:
            self._control.draw(wants)

    def draw(self, cell: Cell) -> None:
        """Draw more cells ahead of need."""
        if self._connected:
            self.draw_now(cell, cell.want())

    def draw_now(self, cell: Cell, want: Want) -> bool:
        """Draw what `cell` wants; False when control has been silent for longer than a lease."""
        if monotonic_ns() >= self.lease_until:
            return False
        self.cells.asked(cell)
        if not self._wants:
            asyncio.get_running_loop().call_soon(self._send_wants)
        self._wants.append(want)
        return True

    def arrived(self, client: Client) -> str:
        """A client has connected; gives why it cannot stay, or ""."""
        address = client.peer.address
        if self.services.closed("http"):
            return "service stopped"
        if len(self.clients) >= self.settings.max_connections:
            return "too many connections"
        if self._addresses[address] >= self.settings.max_connections_per_address:
            return "too many connections from one address"
        self.clients.add(client)
        self._addresses[address] += 1
        return ""

    def left(self, client: Client) -> None:
        """A client has gone (one that could not stay was never counted among them)."""
        for tally in client.tallies():
            self.sessions.end(tally)
        if client not in self.clients:
            return
        self.clients.discard(client)
        self.streams.discard(client.exchange)
        for assigned in client.uses():
            assigned.let_go(client)
        address = client.peer.address
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]
        if self.draining and not self.clients:
            self._finished.set()

    def log_defect(self, defect: str, route: str, request_id: bytes) -> None:
        """One line for a defect of a plug-in: what, where, and the request that met it."""
        log.error("plug-in failed: %s (route %s, request %s)", defect, route, request_id.decode())

    # -- what the link tells (Door)

    def lease(self, until: int) -> None:
        """What control says and said may be used until then."""
        stale, self.lease_until = self.lease_until, until
        now = monotonic_ns()
        if stale <= now < until and self._connected:
            self._ask_again()

    def doubt(self, used: list[Use]) -> None:
        """Control may not know that these users of directors were there of late."""
        for name, tag, number in used:
            upstream = self.upstreams.get(name)
            if upstream is not None and upstream.director is not None:
                upstream.director.doubt((tag, number))

    def connected(self, up: bool) -> None:
        """Control has begun to talk, or is gone. What was asked in vain is asked again; what was cached is doubted."""
        self._connected = up
        if not up:
            return
        self.admissions.drop(Change(0, everything=True))
        for director in self._directors():
            director.begin_anew()
        self._doubted = {exchange.fields.digest or b"" for exchange in self.streams if exchange.admitted}
        self._ask_again()
        if wants := self.cells.again():
            self._control.draw(wants)

    def _ask_again(self) -> None:
        """Ask what was asked in vain, and whether the tokens of open streams still pass."""
        self.asking.again(self._doubted)
        self._placing.again()

    def _directors(self) -> list[Director]:
        return [each.director for each in self.upstreams.values() if each.director is not None]

    def steered(self, places: list[Place]) -> None:
        """Control has said where users go. Without a lease that counts for nothing, as with admissions."""
        now = monotonic_ns()
        if now >= self.lease_until:
            return
        for place in places:
            upstream = self.upstreams.get(place.question.upstream)
            assigned, backend = None, None
            if upstream is not None and upstream.director is not None and place.backend:
                backend = upstream.backend(place.backend, place.host)
                assigned = upstream.director.take_in(place, backend, now)
            for exchange in self._placing.answered(place.question):
                exchange.placed(assigned, backend, now)

    def do(self, seq: int, order: Order) -> None:
        """Carry an order out, and say so."""
        match order:
            case Who():
                self.work(self._done(seq, who(self.clients)))
            case Dump():
                self.work(self._done(seq, self.sessions.counted(self.clients)))
            case ResetStats():
                self._reset_stats()
                self._control.done(seq, [])
            case Kick():
                self.work(self._done(seq, kick(self, order)))
            case Drain():
                self.work(self._done(seq, drain(self, order)))
            case FindStrays():
                self.work(self._done(seq, strays(self.clients)))

    def _reset_stats(self) -> None:
        self.sessions.reset()
        for client in self.clients:
            for tally in client.tallies():
                tally.zero()

    async def _done(self, seq: int, carried_out: Coroutine[None, None, object]) -> None:
        self._control.done(seq, await carried_out)

    def work(self, work: Coroutine[None, None, None]) -> None:
        """Have this done beside everything else, as long as the worker lives."""
        task = asyncio.get_running_loop().create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    def answers(self, admissions: dict[bytes, Admission | None]) -> None:
        """Control has said what tokens stand for.

        Without a lease that counts for nothing: the answer may have lain here since before a change that control has
        stopped waiting to see applied. The next lease asks again.
        """
        now, wall = monotonic_ns(), time_ns() // 1000
        if now >= self.lease_until:
            return
        for digest, admission in admissions.items():
            admitted = self.admissions.take_in(digest, admission, now, wall)
            for exchange in self.asking.answered(digest):
                if admitted is None:
                    self.guesses.note(digest, exchange.fields.address)
                exchange.answered(admitted, now)
            if digest in self._doubted:
                self._doubted.discard(digest)
                if admitted is None:
                    self._cut(Change(0, digests=[digest]))

    def granted(self, grants: list[Grant]) -> None:
        """Control has granted cells."""
        now = monotonic_ns()
        wants = [want for grant in grants if (want := self.cells.granted(grant, now))]
        if wants:
            self._control.draw(wants)

    def barred(self, until: dict[str, int]) -> None:
        """These addresses have guessed too often."""
        self.guesses.bar(until)

    def change(self, change: Change) -> dict[str, int]:
        """Something ended: drop what is cached of it and end its open streams. Gives what was dropped, by kind."""
        dropped = {"admissions": self.admissions.drop(change)}
        if change.limits:
            dropped["limits"] = self.cells.forget()
            self.guesses.lift()
        if change.streams:
            dropped["streams"] = self._cut(change)
        if change.steering:
            dropped["still"] = int(self._steer_anew(change))
        for name, members in change.members.items():
            self._join(name, members)
        if change.stopped is not None:
            self.services.turn(frozenset(change.stopped))
        return dropped

    def _join(self, name: str, members: list[str]) -> None:
        """An upstream, also one that is being built, has these backends besides its own from now on."""
        self._members[name] = members
        for upstreams in (self.upstreams, self._building.upstreams if self._building is not None else {}):
            if name in upstreams:
                upstreams[name].join(members)

    def _steer_anew(self, change: Change) -> bool:
        """Users may go elsewhere. Whether it is known that nothing flows for them any more."""
        still = True
        for each in change.steering:
            for name in [each.upstream] if each.upstream else self.upstreams:
                upstream = self.upstreams.get(name)
                if upstream is not None and upstream.director is not None:
                    upstream.director.forget(each)
                    upstream.let_go(each.hosts)
                    still = still and upstream.director.still(each)
        return still

    def _cut(self, change: Change) -> int:
        over = [
            each
            for each in self.streams
            if each.admitted is not None and change.touches(each.fields.digest or b"", each.admitted.admission)
        ]
        for exchange in over:
            exchange.client.cut()
        return len(over)

    def prepare(self, snapshot: Snapshot) -> None:
        """Begin building beside the one that serves. ValueError or OSError for what cannot be built here."""
        self._building = None
        self._building = Building(snapshot, self.upstreams, self._members, self.accounts)

    def routes(self, routes: Routes) -> None:
        """Some of the routes of what is being built."""
        if self._building is not None:
            self._building.generation.take_in(routes)

    def prepared(self) -> str:
        """All routes are in: "" or why this cannot serve."""
        building = self._building
        if building is None or not building.complete():
            return "not all routes have come"
        if not self.listener.can_use(building.context is not None):
            return "TLS can be switched on or off by a restart only"
        return ""

    def swap(self, revision: int) -> None:
        """Serve what was prepared from now on. Exchanges under way end on what they began with."""
        building, self._building = self._building, None
        if building is None or building.snapshot.revision != revision:
            raise ValueError(f"revision {revision} was not prepared")
        if self._swapped.is_set():
            self._shedding.append(self.generation.table)
        retired = [each for name, each in self.upstreams.items() if building.upstreams.get(name) is not each]
        self.generation, self.upstreams = building.generation, building.upstreams
        self.accounts.swapped = True
        self._configure(building.snapshot.gateway)
        for upstream in retired:
            self._retire(upstream)
        building.enter()
        self.listener.use(building.context)
        for client in self.clients:
            client.forget()
        gc.freeze()
        self._swapped.set()

    def _retire(self, upstream: Upstream) -> None:
        successor = self.upstreams.get(upstream.definition.name)
        if upstream.director is not None and successor is not None and successor.director is not None:
            successor.director.inherit(upstream.director)
        upstream.retire()

    def _configure(self, settings: Gateway) -> None:
        self.settings = settings
        self.max_head = settings.max_head
        self.admissions.resize(settings.max_admissions)
        logging.getLogger("ostiary").setLevel(settings.log_level)
        try:
            self.log.open(settings.access_log)
        except OSError as problem:  # no reason to stop serving
            log.error("The access log %s cannot be opened, and stays as it was: %s", settings.access_log, problem)

    def report(self, seq: int) -> Report:
        """Everything counted since the last report, and the levels of now."""
        gauges = {
            "connections": len(self.clients),
            "sessions": self.sessions.open,
            "assignments": sum(map(len, self._directors())),
            "streams": len(self.streams),
            "admissions": len(self.admissions),
            "backend_connections": sum(b.connections for u in self.upstreams.values() for b in u.named.values()),
        }
        return self.accounts.report(seq, gauges)

    # -- serve

    async def serve(self, sockets: list[socket.socket]) -> None:
        """Listen on `sockets` once there is a snapshot; returns when drained."""
        # Exchanges make no cycles; what a snapshot made is frozen. Collecting is for closed connections only.
        gc.set_threshold(20_000, 20, 100)
        ticking = asyncio.create_task(self._tick())
        try:
            await self._swapped.wait()
            tls = self.settings.tls
            self.listener.open(sockets, server_context(tls) if tls else None)
            if "http" in self.services.stopped:
                self.listener.stop()
            await self.listener.accept()
            await self._finished.wait()
        finally:
            ticking.cancel()
            self.listener.pause()
            self.log.close()

    async def drain(self) -> None:
        """Accept nothing more, let what is under way end (at most `drain_timeout`), then have `serve` return."""
        self.draining = self.closing = True
        self.listener.close()
        for client in list(self.clients):
            client.drain()
        if not self.clients:
            self._finished.set()
        try:
            async with asyncio.timeout(self.settings.drain_timeout / 1e6):
                await self._finished.wait()
        except TimeoutError:
            for client in list(self.clients):
                client.abort("drained too slowly")
            self._finished.set()

    async def _tick(self) -> None:
        turn, held_up = 0, False
        while True:
            before, self.now = self.now, monotonic_ns()
            held_up = not held_up and self.now - before >= HELD_UP
            self.stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3].encode() + b"Z"
            if not held_up:  # else whoever was held up first reads what has come meanwhile: it was not late
                self._expire()
            turn += 1
            for period, work in self._regular:
                if turn % period == 0:
                    work()
            await asyncio.sleep(TICK)

    def _expire(self) -> None:
        """By way of the loop: a defect in one client must not end the looking at all others."""
        loop, now = asyncio.get_running_loop(), self.now
        for client in [client for client in self.clients if client.deadline < now]:
            loop.call_soon(client.expired, now)

    def _tend_directors(self) -> None:
        for director in self._directors():
            director.tick(self.now, 4 * TICK * 1e9 / director.expire)
            if director.used:
                used, director.used = director.used, []
                self._control.touch(used)

    def _shed(self) -> None:
        if self._shedding and not self._shedding[-1].shed(SHED * len(self._shedding)):
            self._shedding.pop()

    def _tend_upstreams(self) -> None:
        self.log.flush()
        for upstream in self.upstreams.values():
            upstream.tick(self.now)

    def _tend_sessions(self) -> None:
        for client in self.clients:
            client.sign_off_idle(self.now - SHARED_FOR)

    def _use_anew(self) -> None:
        """Once in SHARED_FOR, after which a director's user who shares a connection no longer counts as being there."""
        for client in self.clients:
            client.use_anew()
