"""Passwords and predefined secrets: argon2id off the event loop, a bounded number at a time."""

import asyncio
import heapq
import itertools
import os
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ostiary.core.refusal import Unavailable

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")
WAITING = 32
"""Hashes that may wait for their turn in each queue; more are refused. One takes about 20 ms of a core and 19 MiB."""
NICE = 5
"""How far hashing stands back behind control: guesses must not take the time of traffic. No further, and no idle
policy: a thread that holds the interpreter while it waits for its turn keeps control from answering."""
REMEMBERED = 4096


class Cost(NamedTuple):
    """What one hash takes: passes over so much memory (KiB). An argon2id text says what it took; that is verified."""

    passes: int
    memory: int


OWASP = Cost(2, 19_456)
"""RFC 9106 would take 64 MiB a guess."""


@cache
def _hasher(cost: Cost = OWASP) -> "PasswordHasher":
    """argon2id at that cost. Imported when needed."""
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=cost.passes, memory_cost=cost.memory, parallelism=1)


def _bytes(password: str) -> bytes:
    """Any text has its bytes, a lone surrogate too: that is a wrong password and no defect."""
    return password.encode("utf-8", "surrogatepass")


def _verify(kept: str, presented: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hasher().verify(kept, _bytes(presented))
    except (VerificationError, InvalidHashError):
        return False


class _Turn(NamedTuple):
    """A hash that waits. Those in less doubt go first, and of these who came first."""

    doubt: int
    number: int
    work: Callable[[], Any]
    answer: asyncio.Future[Any]


class _Queue:
    """One hash at a time, and a bounded number that wait."""

    def __init__(self, name: str) -> None:
        self._turns: list[_Turn] = []
        self._numbers = itertools.count()
        self._busy = False
        self._pool = ThreadPoolExecutor(1, name, os.nice, (NICE,))

    async def turn(self, work: Callable[[], T], doubt: int = 0) -> T:
        """What `work` gives, when it is its turn. Refuses Unavailable `passwords.busy`, also while it waits, where
        one in less doubt needs the place."""
        if len(self._turns) + self._busy >= WAITING:
            self._make_room(doubt)
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._turns, _Turn(doubt, next(self._numbers), work, answer))
        self._next()
        return await answer

    def close(self) -> None:
        """Let go of the thread."""
        for turn in self._turns:
            turn.answer.cancel()
        self._turns.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _make_room(self, doubt: int) -> None:
        """Refuse whoever is in most doubt, and of these the last."""
        worst = max(self._turns)
        if worst.doubt <= doubt:
            raise _busy()
        self._turns.remove(worst)
        heapq.heapify(self._turns)
        if not worst.answer.done():
            worst.answer.set_exception(_busy())

    def _next(self) -> None:
        while self._turns and not self._busy:
            turn = heapq.heappop(self._turns)
            if not turn.answer.done():  # who asked may have gone
                self._busy = True
                done = asyncio.get_running_loop().run_in_executor(self._pool, turn.work)
                done.add_done_callback(partial(self._settle, turn.answer))

    def _settle(self, answer: asyncio.Future[Any], done: asyncio.Future[Any]) -> None:
        self._busy = False
        if answer.done():
            pass
        elif done.cancelled():
            answer.cancel()
        elif (problem := done.exception()) is not None:
            answer.set_exception(problem)
        else:
            answer.set_result(done.result())
        self._next()


def _busy() -> Unavailable:
    return Unavailable("passwords.busy", "Too many passwords are being checked")


class Passwords:
    """Makes argon2id texts and verifies against them.

    What was verified is remembered (in this process, as a digest under a key that dies with it), because clients send
    the same password or secret with every request; a changed password has another text, so nothing stale is believed.

    There are two queues, each with a thread: one for whoever is known (a user at an address of theirs, what operators
    do) and one for strangers, so that guesses from everywhere keep nobody waiting but each other. Among strangers those
    go first whose address has failed least (`doubt`), so that one who knows the password gets in beside guessers.
    """

    def __init__(self, entropy: Callable[[int], bytes], cost: Cost = OWASP) -> None:
        self._cost = cost
        self._key = entropy(32)
        self._salt = entropy
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._known = _Queue("passwords-known")
        self._strangers = _Queue("passwords")

    async def make(self, password: str, *, known: bool = True) -> str:
        """The argon2id text of `password`. Refuses Unavailable `passwords.busy`."""
        queue = self._known if known else self._strangers
        return await queue.turn(lambda: _hasher(self._cost).hash(_bytes(password), salt=self._salt(16)))

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
            self._running[name] = asyncio.ensure_future(queue.turn(lambda: _verify(kept, presented), doubt))
            self._running[name].add_done_callback(lambda done: self._settle(name, done))
        return await asyncio.shield(self._running[name])

    def close(self) -> None:
        """Let go of the threads."""
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
