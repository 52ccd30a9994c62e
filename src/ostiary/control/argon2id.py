"""argon2id itself (RFC 9106), in whatever thread or process it is called. Imported when needed."""

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from argon2 import PasswordHasher


class Cost(NamedTuple):
    """What one hash takes: passes over so much memory (KiB). An argon2id text says what it took; that is verified."""

    passes: int
    memory: int


OWASP = Cost(2, 19_456)
"""About 20 ms of a core and 19 MiB. RFC 9106 would take 64 MiB a guess."""


@cache
def _hasher(cost: Cost = OWASP) -> "PasswordHasher":
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=cost.passes, memory_cost=cost.memory, parallelism=1)


def make(password: bytes, salt: bytes, cost: Cost) -> str:
    """The argon2id text of a password."""
    return _hasher(cost).hash(password, salt=salt)


def fits(kept: str, presented: bytes) -> bool:
    """Whether `kept` was made of `presented`; False too where it is no argon2id text."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hasher().verify(kept, presented)
    except (VerificationError, InvalidHashError):
        return False
