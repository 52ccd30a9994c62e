"""Sessions: users on open client connections, what was counted of them, and how they are ended.

A session begins with the first admission of a token of a user on a connection and ends with that; on a connection that
several users share, also a minute after the user's last exchange. On the hot path this costs a comparison and a few
additions: each connection counts into one Tally, and what is known by user or address is added up when it ends.
"""

import resource
from collections import OrderedDict, deque
from collections.abc import Iterable
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING

from ostiary.gateway.turns import in_turns
from ostiary.link.messages import Counted, SessionRow, SessionSums, Slow, Sums

if TYPE_CHECKING:
    from ostiary.gateway.admissions import Admitted
    from ostiary.gateway.client import Client

MOST = 10_000
"""Users, addresses and ended sessions that are remembered; the least recent go first."""
MOST_SLOW = 1_000
SLOW = 1_000_000
"""Microseconds beyond which an exchange is remembered by itself."""
SHARED_FOR = 60_000_000_000
"""Nanoseconds after a user's last exchange at which its session on a shared connection ends."""
BLOCK = 512
"""Bytes of a block, as getrusage counts disk transfers."""


class Tally:
    """What one user (`""`: nobody yet) did on one connection. Times are monotonic nanoseconds."""

    __slots__ = (
        "address", "admitted", "asked", "exchanges", "id", "last", "logins", "micros", "read_bytes", "refused", "since",
        "token", "undecided", "user", "write_bytes",
    )  # fmt: skip

    def __init__(self, user: str, address: str, now: int, name: str) -> None:
        self.user = user
        self.address = address
        self.since = now
        self.id = name
        self.last = 0
        self.token: Admitted | None = None
        """What the session began with."""
        self.zero()
        self.logins = 1 if user else 0

    def zero(self) -> None:
        """Begin counting."""
        self.logins = 0
        self.exchanges = self.micros = self.read_bytes = self.write_bytes = 0
        self.admitted = self.refused = self.undecided = self.asked = 0

    def has(self, detail: str, value: str) -> bool:
        """Whether the token that the session began with has this detail with this value."""
        return self.token is not None and self.token.admission.details.get(detail) == value

    def sums(self, wall: int) -> Sums:
        """As it is told; `wall` is what makes Unix nanoseconds of monotonic ones."""
        return Sums(
            self.logins, self.exchanges, self.micros, self.exchanges, self.read_bytes, self.exchanges,
            self.write_bytes, self.admitted, self.refused, self.undecided, max(0, self.admitted - self.asked),
            self.asked, (self.last + wall) // 1000 if self.last else 0,
        )  # fmt: skip


def added(one: Sums, other: Sums) -> Sums:
    """Both together; the later `last` counts."""
    return Sums(
        one.logins + other.logins, one.exchanges + other.exchanges, one.micros + other.micros, one.reads + other.reads,
        one.read_bytes + other.read_bytes, one.writes + other.writes, one.write_bytes + other.write_bytes,
        one.admitted + other.admitted, one.refused + other.refused, one.undecided + other.undecided,
        one.cached + other.cached, one.asked + other.asked, max(one.last, other.last),
        one.connected + other.connected,
    )  # fmt: skip


class _Recent:
    """Sums by name; of too many the least recent goes. No Sums is ever changed: copying copies the table only."""

    def __init__(self) -> None:
        self.sums: OrderedDict[str, Sums] = OrderedDict()

    def add(self, name: str, more: Sums) -> None:
        found = self.sums.get(name)
        self.sums[name] = more if found is None else added(found, more)
        self.sums.move_to_end(name)
        if len(self.sums) > MOST:
            self.sums.popitem(last=False)

    def copy(self) -> "_Recent":
        copy = _Recent()
        copy.sums = self.sums.copy()
        return copy


class _Counts:
    """What was counted of everything, of users and of addresses."""

    def __init__(self) -> None:
        self.total = Sums()
        self.users, self.addresses = _Recent(), _Recent()

    def copy(self) -> "_Counts":
        copy = _Counts()
        copy.total, copy.users, copy.addresses = self.total, self.users.copy(), self.addresses.copy()
        return copy

    def take(self, tally: Tally, sums: Sums) -> None:
        """Count what a tally counted."""
        self.total = added(self.total, sums)
        if tally.user:
            self.users.add(tally.user, sums)
        if sums.exchanges or tally.user:
            self.addresses.add(tally.address, sums)


class Sessions:
    """All sessions of a worker, and the sums of those that have ended."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._number = 0
        self.open = 0
        """How many sessions there are now."""
        self.reset()

    def reset(self) -> None:
        """Begin counting anew; what is open counts from now on."""
        self._since = time_ns() // 1000
        self._counts = _Counts()
        self._ended: deque[SessionSums] = deque(maxlen=MOST)
        self._slow: deque[Slow] = deque(maxlen=MOST_SLOW)
        self._usage = resource.getrusage(resource.RUSAGE_SELF)

    def begin(self, user: str, address: str, now: int) -> Tally:
        """A session, or (without a user) the count of a connection before it has one."""
        self._number += bool(user)
        self.open += bool(user)
        return Tally(user, address, now, f"{self._prefix}{self._number:x}" if user else "")

    def end(self, tally: Tally) -> None:
        """It is over: what it counted is kept."""
        wall = time_ns() - monotonic_ns()
        sums = self._sums(tally, wall)
        self._counts.take(tally, sums)
        if tally.user:
            self.open -= 1
            self._ended.append(SessionSums(row(tally, False, wall), False, sums))

    def slow(self, tally: Tally, route: str, took: int, sent: int) -> None:
        """An exchange that took long, or failed."""
        sums = Sums(exchanges=1, micros=took, writes=1, write_bytes=sent, last=time_ns() // 1000)
        self._slow.append(Slow(route, tally.id, tally.user, tally.address, sums))

    async def counted(self, clients: "Iterable[Client]") -> Counted:
        """Everything since the reset, what is open now among it; each exchange once."""
        wall, counts, since = time_ns() - monotonic_ns(), self._counts.copy(), self._since
        ended, slow, usage = reversed(list(self._ended)), list(self._slow), self.usage()
        sessions: list[SessionSums] = []
        open_ = [(client, tally) for client in clients for tally in client.tallies()]
        async for holder, tally in in_turns(open_):
            sums = self._sums(tally, wall)
            sums.connected = int(bool(tally.user))
            counts.take(tally, sums)
            if tally.user:
                sessions.append(SessionSums(row(tally, holder.tunnels(tally.user), wall), True, sums))
        sessions += ended
        return Counted(
            since, counts.total, dict(counts.users.sums), dict(counts.addresses.sums), sessions[:MOST], slow, usage
        )

    def _sums(self, tally: Tally, wall: int) -> Sums:
        """What a tally counted; its last exchange may be from before the reset."""
        sums = tally.sums(wall)
        sums.last = sums.last if sums.last >= self._since else 0
        return sums

    def usage(self) -> dict[str, float]:
        """What the process used since the reset."""
        before, now = self._usage, resource.getrusage(resource.RUSAGE_SELF)
        return {
            "user_cpu": now.ru_utime - before.ru_utime,
            "sys_cpu": now.ru_stime - before.ru_stime,
            "min_faults": now.ru_minflt - before.ru_minflt,
            "maj_faults": now.ru_majflt - before.ru_majflt,
            "vol_cs": now.ru_nvcsw - before.ru_nvcsw,
            "invol_cs": now.ru_nivcsw - before.ru_nivcsw,
            "disk_input": (now.ru_inblock - before.ru_inblock) * BLOCK,
            "disk_output": (now.ru_oublock - before.ru_oublock) * BLOCK,
        }


def row(tally: Tally, tunnel: bool, wall: int) -> SessionRow:
    """A session as it is listed."""
    last = tally.last or tally.since
    service = "ws" if tunnel else "http"
    return SessionRow(tally.id, tally.user, service, tally.address, (tally.since + wall) // 1000, (last + wall) // 1000)
