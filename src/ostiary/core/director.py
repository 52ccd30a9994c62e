"""The director: which user goes to which host."""

from msgspec import Struct

from ostiary.core.snapshot import SECOND


class Health(Struct, frozen=True):
    """How hosts are looked after; times in microseconds."""

    every: int
    timeout: int
    fall: int
    rise: int


class DirectorRules(Struct, frozen=True):
    """An upstream with `balance: director`, as the configuration has it. Times in microseconds."""

    name: str
    hosts: dict[str, int] = {}
    """Address in its usual short form -> port."""
    port: int = 80
    """Of hosts that operators add."""
    user_hash: str = "%Lu"
    user_expire: int = 900 * SECOND
    health: Health | None = None
