"""Passwords and predefined secrets: argon2id off the event loop, a bounded number at a time."""

import asyncio
import heapq
import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, TypeVar

from ostiary.control import argon2id
from ostiary.control.argon2id import OWASP, Cost
from ostiary.core.refusal import Unavailable

T = TypeVar("T")
WAITING = 32
"""Hashes that may wait for their turn in each queue; more are refused."""
REMEMBERED = 4096


def busy() -> Unavailable:
    """What is said where a password cannot be checked now."""
    return Unavailable("passwords.busy", "Too many passwords are being checked")


class Hashing(Protocol):
    """Where hashes are made. It is asked for one at a time."""

    async def make(self, password: bytes, salt: bytes, cost: Cost) -> str:
        """The argon2id text of a password. Refuses Unavailable `passwords.busy`."""
        ...

    async def verify(self, kept: str, presented: bytes) -> bool:
        """Whether `kept` was made of `presented`. Refuses Unavailable `passwords.busy`."""
        ...

    def close(self) -> None:
        """Let go of it; what is under way is given up."""
        ...


class Thread:
    """Hashing in a thread of this process, at its priority."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name)

    async def make(self, password: bytes, salt: bytes, cost: Cost) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._pool, argon2id.make, password, salt, cost)

    async def verify(self, kept: str, presented: bytes) -> bool:
        return await asyncio.get_running_loop().run_in_executor(self._pool, argon2id.fits, kept, presented)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _bytes(password: str) -> bytes:
    """Any text has its bytes, a lone surrogate too: that is a wrong password and no defect."""
    return password.encode("utf-8", "surrogatepass")


class _Turn(NamedTuple):
    """A hash that waits. Those in less doubt go first, and of these who came first."""

    doubt: int
    number: int
    work: Callable[[Hashing], Awaitable[Any]]
    answer: asyncio.Future[Any]


class _Queue:
    """One hash at a time, and a bounded number that wait."""

    def __init__(self, hashing: Hashing) -> None:
        self._hashing = hashing
        self._turns: list[_Turn] = []
        self._numbers = itertools.count()
        self._running: asyncio.Future[Any] | None = None

    async def turn(self, work: Callable[[Hashing], Awaitable[T]], doubt: int = 0) -> T:
        """What `work` gives, when it is its turn. Refuses Unavailable `passwords.busy`, also while it waits, where
        one in less doubt needs the place."""
        if len(self._turns) + (self._running is not None) >= WAITING:
            self._make_room(doubt)
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._turns, _Turn(doubt, next(self._numbers), work, answer))
        self._next()
        return await answer

    def close(self) -> None:
        """Leave nobody waiting."""
        for turn in self._turns:
            turn.answer.cancel()
        self._turns.clear()
        if self._running is not None:
            self._running.cancel()
        self._hashing.close()

    def _make_room(self, doubt: int) -> None:
        """Refuse whoever is in most doubt, and of these the last."""
        worst = max(self._turns)
        if worst.doubt <= doubt:
            raise busy()
        self._turns.remove(worst)
        heapq.heapify(self._turns)
        if not worst.answer.done():
            worst.answer.set_exception(busy())

    def _next(self) -> None:
        while self._turns and self._running is None:
            turn = heapq.heappop(self._turns)
            if not turn.answer.done():  # who asked may have gone
                self._running = asyncio.ensure_future(turn.work(self._hashing))
                self._running.add_done_callback(partial(self._settle, turn.answer))

    def _settle(self, answer: asyncio.Future[Any], done: asyncio.Future[Any]) -> None:
        self._running = None
        problem = None if done.cancelled() else done.exception()
        if answer.done():
            pass
        elif done.cancelled():
            answer.cancel()
        elif problem is not None:
            answer.set_exception(problem)
        else:
            answer.set_result(done.result())
        self._next()


class Passwords:
    """Makes argon2id texts and verifies against them.

    What was verified is remembered (in this process, as a digest under a key that dies with it), because clients send
    the same password or secret with every request; a changed password has another text, so nothing stale is believed.

    There are two queues: one for whoever is known (a user at an address of theirs, what operators do), hashed in a
    thread, and one for strangers, so that guesses from everywhere keep nobody waiting but each other. Among strangers
    those go first whose address has failed least (`doubt`), so that one who knows the password gets in beside guessers.
    In a node their hashes are made elsewhere (`strangers`): a thread that gives way would hold the interpreter while it
    waits for its turn, and keep control from answering.
    """

    def __init__(
        self, entropy: Callable[[int], bytes], cost: Cost = OWASP, strangers: Hashing | None = None
    ) -> None:  # fmt: skip
        self._cost = cost
        self._key = entropy(32)
        self._salt = entropy
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._known = _Queue(Thread("passwords-known"))
        self._strangers = _Queue(strangers or Thread("passwords"))

    async def make(self, password: str, *, known: bool = True) -> str:
        """The argon2id text of `password`. Refuses Unavailable `passwords.busy`."""
        queue = self._known if known else self._strangers
        return await queue.turn(lambda hashing: hashing.make(_bytes(password), self._salt(16), self._cost))

    def remembered(self, kept: str, presented: str) -> bool:
        """Whether `presented` was verified against `kept` lately."""
        return self._name(kept, presented) in self._verified

    def verifying(self, kept: str, presented: str) -> bool:
        """Whether this very pair is being verified now."""
        return self._name(kept, presented) in self._running

    async def verify(self, kept: str, presented: str, *, known: bool = False, doubt: int = 0) -> bool:
        """Whether `presented` is what the argon2id text `kept` was made of. `doubt`: failures of whoever asks.

        Refuses Unavailable `passwords.busy`.
        """
        name = self._name(kept, presented)
        if name in self._verified:
            self._verified.move_to_end(name)
            return True
        if name not in self._running:
            queue = self._known if known else self._strangers
            turn = queue.turn(lambda hashing: hashing.verify(kept, _bytes(presented)), doubt)
            self._running[name] = asyncio.ensure_future(turn)
            self._running[name].add_done_callback(lambda done: self._settle(name, done))
        return await asyncio.shield(self._running[name])

    def close(self) -> None:
        """Let go of what hashes."""
        self._known.close()
        self._strangers.close()

    def _settle(self, name: bytes, done: "asyncio.Future[bool]") -> None:
        del self._running[name]
        if not done.cancelled() and done.exception() is None and done.result():
            self._verified[name] = None
            if len(self._verified) > REMEMBERED:
                self._verified.popitem(last=False)

    def _name(self, kept: str, presented: str) -> bytes:
        text = kept.encode() + b"\0" + _bytes(presented)
        return blake2b(text, key=self._key, digest_size=32).digest()
