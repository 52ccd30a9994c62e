"""Passwords and predefined secrets: argon2id off the event loop, a bounded number at a time."""

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ostiary.core.refusal import Unavailable

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")
WAITING = 32
"""Hashes that may wait for their turn in each queue; more are refused. One takes about 20 ms of a core and 19 MiB."""
NICE = 10
"""Priority of hashing: guesses must not take the time of traffic."""
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


def _yield() -> None:
    """Give way, as a thread, to everything that serves."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


class _Queue:
    """One hash at a time, and a bounded number that wait."""

    def __init__(self, name: str) -> None:
        self._waiting = 0
        self._pool = ThreadPoolExecutor(1, name, _yield)

    async def turn(self, work: Callable[[], T]) -> T:
        """What `work` gives, when it is its turn. Refuses Unavailable `passwords.busy`."""
        if self._waiting >= WAITING:
            raise Unavailable("passwords.busy", "Too many passwords are being checked")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let go of the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Passwords:
    """Makes argon2id texts and verifies against them.

    What was verified is remembered (in this process, as a digest under a key that dies with it), because clients send
    the same password or secret with every request; a changed password has another text, so nothing stale is believed.

    There are two queues, each with a thread: one for whoever is known (a user at an address of theirs, what operators
    do) and one for strangers, so that guesses from everywhere keep nobody waiting but each other.
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

    async def verify(self, kept: str, presented: str, *, known: bool = False) -> bool:
        """Whether `presented` is what the argon2id text `kept` was made of. Refuses Unavailable `passwords.busy`."""
        name = self._name(kept, presented)
        if name in self._verified:
            self._verified.move_to_end(name)
            return True
        if name not in self._running:
            queue = self._known if known else self._strangers
            self._running[name] = asyncio.ensure_future(queue.turn(lambda: _verify(kept, presented)))
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
