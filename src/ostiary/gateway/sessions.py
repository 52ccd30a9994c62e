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


def add(into: Sums, more: Sums) -> None:
    """Add up; the later `last` counts."""
    into.logins += more.logins
    into.exchanges += more.exchanges
    into.micros += more.micros
    into.reads += more.reads
    into.read_bytes += more.read_bytes
    into.writes += more.writes
    into.write_bytes += more.write_bytes
    into.admitted += more.admitted
    into.refused += more.refused
    into.undecided += more.undecided
    into.cached += more.cached
    into.asked += more.asked
    into.connected += more.connected
    into.last = max(into.last, more.last)


class _Recent:
    """Sums by name; of too many the least recent goes."""

    def __init__(self) -> None:
        self.sums: OrderedDict[str, Sums] = OrderedDict()

    def add(self, name: str, more: Sums) -> None:
        found = self.sums.get(name)
        if found is None:
            found = self.sums[name] = Sums()
            if len(self.sums) > MOST:
                self.sums.popitem(last=False)
        self.sums.move_to_end(name)
        add(found, more)


class Sessions:
    """All sessions of a worker, and the sums of those that have ended."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._number = 0
        self.reset()

    def reset(self) -> None:
        """Begin counting anew; what is open counts from now on."""
        self._since = time_ns() // 1000
        self._total = Sums()
        self._users, self._addresses = _Recent(), _Recent()
        self._ended: deque[SessionSums] = deque(maxlen=MOST)
        self._slow: deque[Slow] = deque(maxlen=MOST_SLOW)
        self._usage = resource.getrusage(resource.RUSAGE_SELF)

    def begin(self, user: str, address: str, now: int) -> Tally:
        """A session, or (without a user) the count of a connection before it has one."""
        self._number += bool(user)
        return Tally(user, address, now, f"{self._prefix}{self._number:x}" if user else "")

    def end(self, tally: Tally) -> None:
        """It is over: what it counted is kept."""
        wall = time_ns() - monotonic_ns()
        sums = self._sums(tally, wall)
        self._take(self._total, self._users, self._addresses, tally, sums)
        if tally.user:
            self._ended.append(SessionSums(row(tally, False, wall), False, sums))

    def slow(self, tally: Tally, route: str, took: int, sent: int) -> None:
        """An exchange that took long, or failed."""
        sums = Sums(exchanges=1, micros=took, writes=1, write_bytes=sent, last=time_ns() // 1000)
        self._slow.append(Slow(route, tally.id, tally.user, tally.address, sums))

    def counted(self, clients: "Iterable[Client]") -> Counted:
        """Everything since the reset, what is still open among it."""
        wall = time_ns() - monotonic_ns()
        total, users, addresses = Sums(), _copied(self._users), _copied(self._addresses)
        add(total, self._total)
        sessions: list[SessionSums] = []
        for client in clients:
            for tally in client.tallies():
                sums = self._sums(tally, wall)
                sums.connected = int(bool(tally.user))
                self._take(total, users, addresses, tally, sums)
                if tally.user:
                    sessions.append(SessionSums(row(tally, client.tunnels(tally.user), wall), True, sums))
        sessions += reversed(self._ended)
        return Counted(
            self._since, total, dict(users.sums), dict(addresses.sums), sessions[:MOST], list(self._slow), self.usage()
        )

    def _sums(self, tally: Tally, wall: int) -> Sums:
        """What a tally counted; its last exchange may be from before the reset."""
        sums = tally.sums(wall)
        sums.last = sums.last if sums.last >= self._since else 0
        return sums

    def _take(self, total: Sums, users: _Recent, addresses: _Recent, tally: Tally, sums: Sums) -> None:
        add(total, sums)
        if tally.user:
            users.add(tally.user, sums)
        if sums.exchanges or tally.user:
            addresses.add(tally.address, sums)

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


def _copied(recent: _Recent) -> _Recent:
    copy = _Recent()
    for name, sums in recent.sums.items():
        copy.add(name, sums)
    return copy


def row(tally: Tally, tunnel: bool, wall: int) -> SessionRow:
    """A session as it is listed."""
    last = tally.last or tally.since
    service = "ws" if tunnel else "http"
    return SessionRow(tally.id, tally.user, service, tally.address, (tally.since + wall) // 1000, (last + wall) // 1000)
