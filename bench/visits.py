"""Visits: requests as the hosts of a director saw them, a record each in a file that outlives the process.

Times are of the machine's monotonic clock, which all processes share. A visit begins when its request has been read and
ends before the last byte of its answer is written, so that two that overlap here did so indeed.
"""

import math
import mmap
import struct
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

RECORD = struct.Struct("=IIIIdd")
UNDER_WAY, ANSWERED, LOST = range(3)
"""How a visit ended; LOST: its connection ended before, which is seen a little later than it happened."""


class Visit(NamedTuple):
    """A request at a host, which is known by the last number of its address."""

    host: int
    user: int
    request: int
    ending: int
    began: float
    ended: float


class Book:
    """Where a process of hosts notes its visits: pages of a file, which the kernel keeps when the process is killed."""

    def __init__(self, file: Path, room: int) -> None:
        with file.open("wb+") as pages:
            pages.truncate(room * RECORD.size)
            self._pages = mmap.mmap(pages.fileno(), 0)
        self._end = 0

    def begin(self, host: int, user: int, request: int, now: float) -> int:
        """Note that a visit begins; gives where it is noted."""
        place, self._end = self._end, self._end + RECORD.size
        RECORD.pack_into(self._pages, place, host, user, request, UNDER_WAY, now, math.inf)
        return place

    def end(self, place: int, ending: int, now: float) -> None:
        """Note how and when a visit ended."""
        host, user, request, _, began, _ = RECORD.unpack_from(self._pages, place)
        RECORD.pack_into(self._pages, place, host, user, request, ending, began, now)


def read(file: Path, killed: float = math.inf) -> list[Visit]:
    """The visits in a file; what was under way when the process was killed ended then."""
    every = (Visit(*fields) for fields in RECORD.iter_unpack(file.read_bytes()))
    return [each._replace(ended=min(each.ended, killed)) for each in every if each.host]


class Overlap(NamedTuple):
    """A user at two hosts at once: what was there already, and what came."""

    first: Visit
    second: Visit

    @property
    def seconds(self) -> float:
        """How long they were there both."""
        return min(self.first.ended, self.second.ended) - self.second.began


def overlaps(visits: Iterable[Visit]) -> list[Overlap]:
    """Every pair of visits of one user, to different hosts, that were under way at one time."""
    found: list[Overlap] = []
    by_user = sorted(visits, key=lambda visit: (visit.user, visit.began))
    for _, group in groupby(by_user, key=lambda visit: visit.user):
        there: list[Visit] = []
        for visit in group:
            there = [each for each in there if each.ended > visit.began]
            found += [Overlap(each, visit) for each in there if each.host != visit.host]
            there.append(visit)
    return found
