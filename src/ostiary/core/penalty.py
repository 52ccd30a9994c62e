"""What failed log-ins cost: a growing wait for an account, and a bar for an address that fails all over.

Beside them an address has a level from 0 to 4, which comes and goes within seconds (doveadm.md 6.3).
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from msgspec import Struct
from msgspec.structs import replace

from ostiary.core.snapshot import SECOND

FAILURES = 5
"""Wrong passwords in a row before the first wait."""
FIRST_WAIT = 30 * SECOND
LONGEST_WAIT = 3600 * SECOND
FORGOTTEN = 86_400 * SECOND
"""After so long without a failure a penalty is gone."""
ADDRESS_FAILURES = 100
"""Failures of one address, whatever the name, that bar it."""
ADDRESS_WINDOW = 600 * SECOND
"""In which those of an address are counted."""
HIGHEST = 4
"""The level of an address beyond which it does not rise."""
LEVEL_DECAY = 15 * SECOND
"""After so long without a rise a level counts as 0."""
LEVEL_GONE = 29 * SECOND
"""After so long without any attempt it is forgotten."""
MOST_SHOWN = 10
"""Secrets of an address that raise its level once only."""


class Level(Struct, frozen=True):
    """The level of an address. `raised`: the last rise; `updated`: the last attempt that counted."""

    height: int = 0
    raised: int = 0
    updated: int = 0
    shown: tuple[bytes, ...] = ()
    """Keyed digests of names and wrong secrets, the last of them."""


def height(level: Level, now: int) -> int:
    """The level as it counts now."""
    return 0 if now - level.raised >= LEVEL_DECAY else level.height


def gone(level: Level, now: int) -> bool:
    """Whether nothing of it is remembered any more."""
    return now - level.updated >= LEVEL_GONE


def rise(level: Level, shown: bytes, now: int) -> Level:
    """One more failure, with a name and secret of the digest `shown`; what was shown lately raises nothing."""
    level = Level() if gone(level, now) else level
    if shown in level.shown:
        return replace(level, updated=now)
    return Level(min(height(level, now) + 1, HIGHEST), now, now, (*level.shown, shown)[-MOST_SHOWN:])


def hold_up(level: Level, waits: Sequence[int], now: int) -> int:
    """Microseconds until an address of this level is looked at again, by the waits of each level; without any, 0."""
    return max(0, level.raised + waits[height(level, now)] - now) if waits else 0


class Penalty(Struct, frozen=True):
    """What failed log-ins of one account led to. `until`: no attempt is looked at before; `last`: of the failures."""

    failures: int = 0
    until: int = 0
    last: int = 0


def wait(penalty: Penalty, now: int) -> int:
    """Microseconds until an attempt is looked at again; 0: it is now."""
    return max(0, penalty.until - now)


def fail(penalty: Penalty, now: int, allowed: int = FAILURES) -> Penalty:
    """One more failure at `now`. The `allowed`-th in a row starts a wait, which doubles with each further one."""
    failures = 1 if now - penalty.last >= FORGOTTEN else penalty.failures + 1
    if failures < allowed:
        return Penalty(failures, 0, now)
    doublings = min(failures - allowed, 16)
    return Penalty(failures, now + min(FIRST_WAIT << doublings, LONGEST_WAIT), now)


def recent(failures: Sequence[int], now: int) -> list[int]:
    """Those moments of failure, ascending, that still count against an address."""
    return [moment for moment in failures if moment + ADDRESS_WINDOW > now]


def barred(failures: Sequence[int], now: int, allowed: int = ADDRESS_FAILURES) -> int:
    """Microseconds until fewer than `allowed` of an address's failures (ascending) are recent; 0: it is so now."""
    return 0 if len(failures) < allowed else max(0, failures[-allowed] + ADDRESS_WINDOW - now)


@lru_cache(4096)
def spared(near: str, networks: tuple[str, ...]) -> bool:
    """Whether what counts as one address (`neighbourhood`) lies in one of the networks."""
    try:
        own = ip_network(near)
    except ValueError:
        return False
    return any(own.overlaps(ip_network(each)) for each in networks if ip_network(each).version == own.version)


@lru_cache(4096)
def neighbourhood(address: str) -> str:
    """What counts as one address: an IPv4 address, the /64 of an IPv6 one; other text as it is."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
