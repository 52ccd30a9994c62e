"""Accounting: what each route did (control sums it), and one JSON access-log line an exchange, written in batches."""

import os
import queue
import select
import stat
import sys
import threading
from collections import Counter
from pathlib import Path

from ostiary.link.messages import Report, RouteCount

BUCKETS = 36
LAST_BUCKET = BUCKETS - 1
"""Latency buckets: powers of two of a microsecond, the last for everything from 2**34 on (five hours)."""
_REFERENCES_FROM_HERE = 2
"""The table's and the argument's own, as sys.getrefcount counts."""
MOST_PENDING = 1_000
"""Batches that may wait for a slow log before lines are dropped (and counted)."""


_NO_STATUSES: dict[int, int] = {}
_NO_LATENCIES: list[int] = []


class Stat:
    """One route's counts since the last report. Without any it holds no tables: most routes are idle mostly.

    Whoever counts calls `begin` first where `statuses` is empty.
    """

    __slots__ = ("latencies", "microseconds", "route", "statuses")

    def __init__(self, route: str) -> None:
        self.route = route
        self.statuses = _NO_STATUSES
        self.latencies = _NO_LATENCIES
        self.microseconds = 0

    def begin(self) -> None:
        """Make the tables, for the first count."""
        self.statuses, self.latencies = {}, [0] * BUCKETS

    def take(self) -> RouteCount:
        """The counts, which begin anew."""
        count = RouteCount(self.route, self.statuses, self.latencies, self.microseconds)
        self._forget()
        return count

    def _forget(self) -> None:
        self.statuses, self.latencies, self.microseconds = _NO_STATUSES, _NO_LATENCIES, 0


class Accounts:
    """All counts of a worker. Routes keep theirs over a reload by their name."""

    def __init__(self) -> None:
        self._stats: dict[str, Stat] = {}
        self.swapped = False
        """Another snapshot serves: routes may be gone."""
        self.counters: Counter[str] = Counter()

    def stat(self, route: str) -> Stat:
        """The counts of the route of this name."""
        found = self._stats.get(route)
        if found is None:
            found = self._stats[route] = Stat(route)
        return found

    def report(self, seq: int, gauges: dict[str, int]) -> Report:
        """Everything counted since the last report."""
        routes = [each.take() for each in self._stats.values() if each.statuses]
        counters = dict(self.counters)
        self.counters.clear()
        if self.swapped:
            self.swapped = False
            self._forget()
        return Report(seq, routes, counters, gauges)

    def _forget(self) -> None:
        """Drop the counts of routes that are no more: those that nobody but this table refers to."""
        for name in list(self._stats):
            if sys.getrefcount(self._stats[name]) <= _REFERENCES_FROM_HERE:
                del self._stats[name]


class AccessLog:
    """Lines to a file or to standard output, written by a thread of its own: a slow disk or pipe delays no exchange.

    Whole lines go out in one write a batch; towards a pipe in pieces of at most PIPE_BUF bytes, which are atomic, so
    that the lines of several workers do not mix.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self.lines: list[bytes] = []
        self._counters = counters
        self.on = False
        """Whether lines go anywhere."""
        self._fd = -1
        self._batches: queue.SimpleQueue[tuple[int, list[bytes]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def open(self, target: str) -> None:
        """Write to `target` from now on: `-` standard output, empty nowhere, else a file (made 0640, appended to).

        Opening the same file again picks up a rotated one. Raises OSError when it cannot be opened.
        """
        self.flush()
        old = self._fd
        self._fd = _open(target)
        self.on = self._fd >= 0
        if old > 2:
            self._batches.put((old, []))
        if self.on and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Hand what was collected to the writer."""
        if not self.lines:
            return
        lines, self.lines = self.lines, []
        if self._fd < 0:
            return
        if self._batches.qsize() > MOST_PENDING:
            self._counters["access_log.dropped"] += len(lines)
            return
        self._batches.put((self._fd, lines))

    def close(self) -> None:
        """Write what is left and stop; waits for the writer, at most 5 seconds."""
        self.flush()
        if self._thread:
            self._batches.put(None)
            self._thread.join(5)

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            fd, lines = batch
            if lines:
                self._write(fd, lines)
            else:
                os.close(fd)

    def _write(self, fd: int, lines: list[bytes]) -> None:
        try:
            for piece in _pieces(fd, lines):
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]
        except OSError:
            self._counters["access_log.dropped"] += len(lines)


def _open(target: str) -> int:
    if not target:
        return -1
    if target == "-":
        return 1
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def _pieces(fd: int, lines: list[bytes]) -> list[bytes]:
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return [b"".join(lines)]
    pieces: list[bytes] = []
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if size + len(line) > select.PIPE_BUF and piece:
            pieces.append(b"".join(piece))
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    return [*pieces, b"".join(piece)]
