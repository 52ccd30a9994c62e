"""Passwords and predefined secrets: argon2id off the event loop, a bounded number at a time."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar

from ostiary.core.refusal import Unavailable

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")
AT_ONCE = 2
"""Hashes computed at the same time: each takes about 20 ms of a core and 19 MiB."""
WAITING = 32
"""Hashes that may wait for their turn; more are refused."""
REMEMBERED = 4096


@cache
def _hasher() -> "PasswordHasher":
    """OWASP's setting (19 MiB, two passes); RFC 9106 would take 64 MiB a guess. Imported when needed."""
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


def _bytes(password: str) -> bytes:
    """Any text has its bytes, a lone surrogate too: that is a wrong password and no defect."""
    return password.encode("utf-8", "surrogatepass")


def _verify(kept: str, presented: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hasher().verify(kept, _bytes(presented))
    except (VerificationError, InvalidHashError):
        return False


class Passwords:
    """Makes argon2id texts and verifies against them.

    What was verified is remembered (in this process, as a digest under a key that dies with it), because clients send
    the same password or secret with every request; a changed password has another text, so nothing stale is believed.
    """

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._key = entropy(32)
        self._salt = entropy
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._waiting = 0
        self._pool = ThreadPoolExecutor(AT_ONCE, "passwords")

    async def make(self, password: str) -> str:
        """The argon2id text of `password`. Refuses Unavailable `passwords.busy`."""
        return await self._turn(lambda: _hasher().hash(_bytes(password), salt=self._salt(16)))

    def remembered(self, kept: str, presented: str) -> bool:
        """Whether `presented` was verified against `kept` lately."""
        return self._name(kept, presented) in self._verified

    def verifying(self, kept: str, presented: str) -> bool:
        """Whether this very pair is being verified now."""
        return self._name(kept, presented) in self._running

    async def verify(self, kept: str, presented: str) -> bool:
        """Whether `presented` is what the argon2id text `kept` was made of. Refuses Unavailable `passwords.busy`."""
        name = self._name(kept, presented)
        if name in self._verified:
            self._verified.move_to_end(name)
            return True
        if name not in self._running:
            self._running[name] = asyncio.ensure_future(self._turn(lambda: _verify(kept, presented)))
            self._running[name].add_done_callback(lambda done: self._settle(name, done))
        return await asyncio.shield(self._running[name])

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING:
            raise Unavailable("passwords.busy", "Too many passwords are being checked")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    def _settle(self, name: bytes, done: "asyncio.Future[bool]") -> None:
        del self._running[name]
        if not done.cancelled() and done.exception() is None and done.result():
            self._verified[name] = None
            if len(self._verified) > REMEMBERED:
                self._verified.popitem(last=False)

    def _name(self, kept: str, presented: str) -> bytes:
        text = kept.encode() + b"\0" + _bytes(presented)
        return blake2b(text, key=self._key, digest_size=32).digest()
