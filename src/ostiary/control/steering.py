"""Steering: what workers ask of the director, and the moves that are under way.

Where a user goes is decided in the store, in the transaction that keeps it; nothing of it is remembered here. What is
here are the moves: a user who was moved waits until nothing flows to the old backend any more. A move has a number,
which the store has with each of its users, so that a successor of this process knows whom to keep waiting.

That one does not know which moves of its predecessor have ended, or how far they had come: whether workers were told,
whether what flows to the old hosts is being drained. So it asks workers for strays: what flows although its user was
forgotten. It asks when they have been told all that is in the change log, because that comes first in their streams.
Strays of users who are elsewhere now are drained. Until that is done, whoever was ever moved by a predecessor waits,
and so does the end of every new move: nobody reaches a host while something flows to one before, whatever the
predecessor was killed in, and however long ago.

Droplets are hosts while they serve. One that serves no more leaves in three steps: nobody new comes to it; its users
are forgotten, in the store and then by workers; it is no host any more. What flows to it ends as in a move.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Container, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby, islice
from typing import Any, TypeVar

import msgspec

from ostiary.control.control import Workers
from ostiary.core.director import (
    NAMELESS,
    NOBODY,
    Assignment,
    Board,
    DirectorRules,
    Enlisted,
    Host,
    Unsteer,
    tag_ok,
    user_hash,
)
from ostiary.core.oauth import Rules
from ostiary.core.refusal import Refusal, Unavailable
from ostiary.core.snapshot import SECOND
from ostiary.link.messages import Change, Drain, FindStrays, Place, Question, Stray
from ostiary.link.orders import Silent
from ostiary.link.receipt import Receipt
from ostiary.store.places import Directors, Read, User, Wanted

MARGIN = 1.0
"""Seconds that a worker may take beyond the time that exchanges in flight are given."""
CHUNK = 2000
"""Users in one order or one question to the store: a few milliseconds of work for who reads it."""
EVERY = 1.0
"""Seconds between two looks at whether the configuration has changed."""
BEFORE = 0
"""In the place of a move's number: all moves of a predecessor."""
MOST_TOLD = 10_000
"""Numbers of moves that are remembered as told: more than a second has."""

T = TypeVar("T")
Told = Callable[[list[Place]], None]
log = logging.getLogger("ostiary.control")


class Moving:
    """A move under way: who asked meanwhile, and events for its end."""

    def __init__(self) -> None:
        self.waiting: list[tuple[list[Question], Told]] = []
        self.drained = asyncio.Event()
        """What flowed to its users' old hosts has ended."""
        self.over = asyncio.Event()
        """And so it has in the moves that were under way when it was made: nobody waits any longer."""


class Going(Container[int]):
    """Moves that are under way, as `goes_on` says of each."""

    def __init__(self, goes_on: Callable[[int], bool]) -> None:
        self._goes_on = goes_on

    def __contains__(self, held: object) -> bool:
        return isinstance(held, int) and self._goes_on(held)


class Steering:
    """Answers the link for all directors. `clock` is Unix time in microseconds."""

    def __init__(
        self,
        directors: Directors,
        rules: Callable[[], Rules],
        workers: Callable[[], Workers],
        clock: Callable[[], int],
    ) -> None:
        self._directors = directors
        self._rules = rules
        self._workers = workers
        self._clock = clock
        self._boards: dict[str, Board] = {}
        self._moving: dict[tuple[str, int], Moving] = {}
        self._own: set[int] = set()
        """Moves that were begun here while those of a predecessor may go on."""
        self._last = 0
        self.told: deque[int] = deque(maxlen=MOST_TOLD)
        """Numbers in the change log of moves of which workers were told, or need not be."""
        self._untold: list[tuple[int, Unsteer]] = []
        self._telling: asyncio.Task[Receipt] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._settled: Mapping[str, DirectorRules] = {}
        self._enlisted: dict[str, Enlisted] = {}
        self._joined: set[str] = set()
        """Upstreams that have hosts of which the workers were not told."""
        self._graces: Mapping[str, int] = {}
        self._dismissing = asyncio.Lock()
        self._used: dict[tuple[str, str, int], list[int]] = {}
        """Uses that the store is still to be told of: upstream, tag and moment of use -> hashes."""

    # Boards

    def read(self, upstream: str) -> Read:
        """The board of an upstream from what is kept of it; made anew only where something has changed."""
        rules = self._rules().directors[upstream]

        def board(kept: Sequence[Host]) -> Board:
            known, enlisted = self._boards.get(upstream), self.enlisted(upstream)
            if known is None or known.rules is not rules or known.kept != kept or known.enlisted is not enlisted:
                known = self._boards[upstream] = Board(rules, kept, enlisted)
            return known

        return board

    async def board(self, upstream: str) -> Board:
        """As it is now."""
        read = self.read(upstream)
        return read(await self._directors.hosts(upstream))

    # What workers ask

    async def steer(self, questions: Sequence[Question], told: Told) -> None:
        """Answer each question by `told`, at once or when a move has ended. Refuses Unavailable `store.unavailable`."""
        for upstream in dict.fromkeys(each.upstream for each in questions):
            asked = [each for each in questions if each.upstream == upstream]
            rules = self._rules().directors.get(upstream)
            if rules is None:
                told([nowhere(each, 0) for each in asked])
                continue
            nameless = [each for each in asked if not each.kept]
            if nameless:
                told(await self._nameless(upstream, nameless))
            for chunk in chunks(each for each in asked if each.kept):
                await self._users(rules, chunk, told)

    async def _nameless(self, upstream: str, questions: Iterable[Question]) -> list[Place]:
        board = await self.board(upstream)
        places = []
        for each in questions:
            number = user_hash(each.name, "%u")
            host = board.hosts.get(board.ring(each.tag).host(number))
            places.append(nowhere(each, number) if host is None else place(each, host, number, board.rules))
        return places

    async def _users(self, rules: DirectorRules, questions: Sequence[Question], told: Told) -> None:
        await self._prolong()
        upstream, now = rules.name, self._clock()
        keys: dict[User, list[Question]] = {}
        for each in questions:
            keys.setdefault((each.tag, user_hash(each.name, rules.user_hash)), []).append(each)
        wanted = [
            Wanted(*key, tuple(each.name for each in asked)) for key, asked in keys.items() if tag_ok(key[0])
        ]  # fmt: skip
        board, found = await self._directors.assign(upstream, wanted, self.read(upstream), now)
        places: list[Place] = []
        for key, asked in keys.items():
            assignment = found.get(key)
            moving = self._under_way(upstream, assignment.held) if assignment is not None else None
            if assignment is None:
                places += [nowhere(each, key[1]) for each in asked]
            elif moving is not None:
                moving.waiting.append((asked, told))
            else:
                places += [place(each, board.known[assignment.host], key[1], rules) for each in asked]
        if places:
            told(places)

    async def touch(self, used: Sequence[tuple[str, str, int]]) -> None:
        """These assignments are in use: they live their whole time from now. Refuses Unavailable `store.unavailable`.

        What the store cannot be told now it is told later: workers rely on having said it.
        """
        now = self._clock()
        for upstream, tag, number in used:
            self._used.setdefault((upstream, tag, now), []).append(number)
        await self._prolong()

    async def _prolong(self) -> None:
        """Tell the store of uses, before it is asked about anybody who may have expired without."""
        while self._used:
            key = next(iter(self._used))
            upstream, tag, then = key
            hashes, rules = self._used.pop(key), self._rules().directors.get(upstream)
            if rules is None or not tag_ok(tag) or then + rules.user_expire < self._clock():
                continue
            try:
                for chunk in chunks(hashes):
                    await self._directors.touch(upstream, tag, chunk, then, then + rules.user_expire)
            except Unavailable:
                self._used[key] = hashes
                raise

    # Moves

    def hold(self, upstream: str, grace: int) -> int:
        """Begin a move in which what flows may go on for `grace` microseconds; its name. It ends with `end`."""
        held = self._last = max(self._clock() + grace + int(MARGIN * SECOND), self._last + 1)
        self._moving[upstream, held] = Moving()
        if (upstream, BEFORE) in self._moving:
            self._own.add(held)
        return held

    def going(self, upstream: str) -> Container[int]:
        """The moves that are under way, at each moment at which this is asked."""
        return Going(lambda held: self._under_way(upstream, held) is not None)

    def _under_way(self, upstream: str, held: int) -> Moving | None:
        """The move of this number, as long as somebody has to wait for it; those of a predecessor are one."""
        own = self._moving.get((upstream, held)) if held else None
        if own is not None or not held or held in self._own:
            return own
        return self._moving.get((upstream, BEFORE))

    async def end(self, upstream: str, held: int, drains: Sequence[Drain]) -> None:
        """Have what flows for the users of a move end; then the move is over, and who waits goes on.

        Users may have come here by a move that is itself still under way: what that drains is waited for too.
        """
        moving = self._moving[upstream, held]
        try:
            if drains:
                others = [each for (name, _), each in self._moving.items() if name == upstream and each is not moving]
                await self.cut(drains)
                moving.drained.set()
                for each in others:
                    await each.drained.wait()
        finally:
            self._release(upstream, held)

    def end_soon(self, upstream: str, held: int, drains: Sequence[Drain]) -> None:
        """The same, without waiting for it."""
        if drains:
            self._begin(self.end(upstream, held, drains))
        else:
            self._release(upstream, held)

    def _release(self, upstream: str, held: int) -> None:
        moving = self._moving.pop((upstream, held))
        moving.drained.set()
        moving.over.set()
        for questions, told in moving.waiting:
            self._begin(self._again(questions, told))

    async def moved(self, upstream: str, held: int) -> None:
        """Wait for the end of a move."""
        moving = self._moving.get((upstream, held))
        if moving is not None:
            await moving.over.wait()

    async def quiet(self, upstream: str) -> None:
        """Wait for the end of all moves under way now."""
        for name, held in list(self._moving):
            if name == upstream:
                await self.moved(name, held)

    async def cut(self, drains: Iterable[Drain]) -> None:
        """Have workers carry these out; a worker that does not answer in time has lost its lease by then."""
        orders = [self._workers().order(each, each.grace / SECOND + MARGIN) for each in drains]
        for outcome in await asyncio.gather(*orders, return_exceptions=True):
            if isinstance(outcome, Unavailable):
                log.warning("Exchanges may flow on for a while: %s", outcome.message)
            elif isinstance(outcome, BaseException):
                raise outcome

    async def tell(self, seq: int, gone: Unsteer) -> Receipt:
        """Have workers forget where users go. Who asks in the same turn shares a change, as they shared a commit."""
        if self._telling is None:
            self._telling = self._begin(self._tell())
        self._untold.append((seq, gone))
        return await asyncio.shield(self._telling)

    async def _tell(self) -> Receipt:
        told, self._untold, self._telling = self._untold, [], None
        self.told.extend(seq for seq, _ in told)
        users: dict[str, list[User]] = {}
        for _, gone in told:
            users.setdefault(gone.upstream, []).extend(gone.hashes)
        return await self._workers().apply(
            Change(max(seq for seq, _ in told), steering=[Unsteer(name, these) for name, these in users.items()])
        )

    # The moves of a predecessor

    def resume(self) -> None:
        """Go on with them. To be called before anybody asks, or moves somebody."""
        for upstream in self._rules().directors:
            self._moving[upstream, BEFORE] = Moving()
        self._begin(self._bring_in())

    async def _bring_in(self) -> None:
        """Drain the strays; then the moves of a predecessor are over."""
        strays = await self._strays()
        for upstream in [name for name, held in self._moving if held == BEFORE]:
            users = await self._elsewhere(upstream, [each for each in strays if each.upstream == upstream])
            await self.cut(draining(upstream, users, self._rules().kick_grace))
            self._release(upstream, BEFORE)
        self._own.clear()

    async def _strays(self) -> list[Stray]:
        """What flows although its user was forgotten; a worker that does not say it has no lease by then."""
        try:
            results = await self._workers().order(FindStrays())
        except Silent as refusal:
            log.warning("What flows there may flow on for a while: %s", refusal.message)
            results = refusal.results
        return [each for _, raw in results for each in _strays(raw)]

    async def _elsewhere(self, upstream: str, strays: Sequence[Stray]) -> list[User]:
        """The users of strays whose host is another now."""
        found: list[User] = []
        for tag in dict.fromkeys(each.tag for each in strays):
            at = {each.hash: each.host for each in await self._where(upstream, tag, strays)}
            found += [(tag, each.hash) for each in strays if each.tag == tag and at.get(each.hash) != each.host]
        return found

    async def _where(self, upstream: str, tag: str, strays: Sequence[Stray]) -> list[Assignment]:
        """Where users of a tag are, once the store can say it."""
        hashes = sorted({each.hash for each in strays if each.tag == tag})
        while True:
            try:
                return [
                    each
                    for chunk in chunks(hashes)
                    for each in await self._directors.find(upstream, tag, chunk, self._clock())
                ]
            except Unavailable as refusal:
                log.warning("Users who were moved wait: %s", refusal.message)
            await asyncio.sleep(EVERY)

    async def _again(self, questions: list[Question], told: Told) -> None:
        try:
            await self.steer(questions, told)
        except Refusal as refusal:
            log.warning("users are not steered: %s", refusal.message)

    # Droplets

    def enlisted(self, upstream: str) -> Enlisted:
        """The droplets that are hosts of an upstream."""
        return self._enlisted.get(upstream, NOBODY)

    def enlist(self, serving: Mapping[str, Collection[str]], graces: Mapping[str, int]) -> None:
        """These droplets serve, by upstream. Who is new joins at once; who serves no more leaves with `dismiss`.

        `graces`: how long what flows to a droplet may go on when it leaves (microseconds).
        """
        before, self._graces = self._enlisted, graces
        named = [each for each in self._rules().directors if each in serving or each in before]
        self._enlisted = {each: self.enlisted(each).now(serving.get(each, ())) for each in named}
        self._joined |= {each for each in named if self._enlisted[each].serving - before.get(each, NOBODY).serving}

    async def dismiss(self) -> None:
        """Have those leave that are to; what flows to them may go on for a while. Refuses Unavailable.

        Returns when nobody is sent there any more. Who is refused leaves later, by itself.
        """
        async with self._dismissing:
            joined, self._joined = self._joined, set()
            if joined:
                # Users keep their hosts; only where those without a name go is asked about anew.
                anew = [Unsteer(each, hosts=[NAMELESS]) for each in sorted(joined)]
                await self._workers().apply(Change(0, steering=anew))
            for upstream, enlisted in tuple(self._enlisted.items()):
                by_grace = sorted(enlisted.leaving, key=lambda each: self._graces.get(each, 0))
                for grace, hosts in groupby(by_grace, key=lambda each: self._graces.get(each, 0)):
                    await self._let_leave(upstream, list(hosts), grace)

    async def _let_leave(self, upstream: str, hosts: list[str], grace: int) -> None:
        await self._leave(upstream, hosts, grace)
        self._enlisted[upstream] = self.enlisted(upstream).without(hosts)

    # The configuration

    async def run(self, pause: Callable[[float], Awaitable[None]]) -> None:
        """Keep users in line with the configuration, for ever; ends by being cancelled."""
        while True:
            try:
                await self.dismiss()
                if self._rules().directors != self._settled:
                    await self.settle()
            except Unavailable as refusal:
                log.warning("Users of hosts that are gone stay for now: %s", refusal.message)
            await self._sweep()
            with suppress(Unavailable):  # said when it was first tried
                await self._prolong()
            await pause(EVERY)

    async def _sweep(self) -> None:
        """Rewrite what was moved at once, a few at a time."""
        try:
            for upstream in self._rules().directors:
                await self._directors.sweep(upstream)
        except Unavailable as refusal:
            log.warning("Users who were moved are not written down for now: %s", refusal.message)

    async def settle(self) -> None:
        """Forget users of hosts that the configuration no longer has."""
        directors = self._rules().directors
        for upstream in directors:
            await self._settle(upstream)
        self._settled = directors

    async def _settle(self, upstream: str) -> None:
        board = await self.board(upstream)
        gone = await self._directors.others(upstream, list(board.known))
        if gone:
            await self.moved(upstream, await self._leave(upstream, gone, self._rules().kick_grace, close=True))

    async def _leave(self, upstream: str, hosts: list[str], grace: int, *, close: bool = False) -> int:
        """Forget the users of these hosts; the name of the move, in which what flows to them ends.

        `close`: their connections end too.
        """
        held, drains = self.hold(upstream, grace), list[Drain]()
        try:
            seq = (await self._directors.forget(upstream, hosts, held, self._clock())).seq
            drains = [Drain(upstream, hosts=hosts, grace=grace, close=close)]
            await self._workers().apply(Change(seq, steering=[Unsteer(upstream, hosts=hosts)]))
        finally:
            self.end_soon(upstream, held, drains)
        return held

    # Tasks

    def _begin(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """End what is under way; a successor goes on with it."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)


_strays = msgspec.msgpack.Decoder(list[Stray]).decode


def nowhere(question: Question, number: int) -> Place:
    """No host is up for it."""
    return Place(question, "", "", number, 0)


def place(question: Question, host: Host, number: int, rules: DirectorRules) -> Place:
    """It goes to `host`."""
    return Place(question, host.host, host.backend, number, rules.user_expire // SECOND)


def draining(upstream: str, users: Sequence[User], grace: int, *, close: bool = False) -> list[Drain]:
    """What lets everything end that flows for these users."""
    return [Drain(upstream, chunk, grace=grace, close=close) for chunk in chunks(users)]


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """In pieces of at most CHUNK."""
    rest = iter(items)
    while piece := list(islice(rest, CHUNK)):
        yield piece
