"""The reader's side of a droplet's log: two files, of which the older one is replaced when the newer is full."""

import os
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ostiary.drivers.lines import Lines
from ostiary.drivers.port import Printed
from ostiary.drivers.process.output import ENTRY, times

PIECE = 262_144


def opened(file: Path) -> BinaryIO | None:
    try:
        return file.open("rb")
    except FileNotFoundError:
        return None


class Log:
    """A log, read on and on: `last` lines first, then whatever comes. Blocks; for a thread."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.lines = Lines()
        self.file: BinaryIO | None = None

    def last(self, count: int) -> list[Printed]:
        """The last lines that are complete; `lines.end()` has what is not."""
        older, self.file = opened(self.place / "log.1"), opened(self.place / "log")
        if older is not None and self.file is not None and os.path.sameopenfile(older.fileno(), self.file.fileno()):
            older.close()  # it was replaced in between
            older = None
        files = [each for each in (older, self.file) if each is not None]
        skip = start(files, count)
        found: list[Printed] = []
        for each in files:
            skip -= each.seek(min(skip, size(each)))
            for at, piece in pieces(each, self.place):
                found = (found + [Printed(at, line) for line in self.lines.feed(piece)])[-count - 1 :]
        if older is not None:
            older.close()
        return found[-count:] if count else []

    def more(self) -> list[bytes]:
        """The lines that were completed since."""
        found: list[bytes] = []
        while True:
            if self.file is None:
                self.file = opened(self.place / "log")
            if self.file is None:
                return found
            replaced = self.replaced(self.file)
            while piece := self.file.read(PIECE):
                found += self.lines.feed(piece)
            if not replaced:
                return found
            self.file.close()
            self.file = None

    def replaced(self, file: BinaryIO) -> bool:
        """Whether nothing will be written to `file` any more: the log goes on in another."""
        try:
            now = (self.place / "log").stat()
        except FileNotFoundError:
            return False
        return not os.path.samestat(now, os.fstat(file.fileno()))

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def pieces(file: BinaryIO, place: Path) -> Iterator[tuple[int | None, bytes]]:
    """The rest of a log, each piece with the moment at which it was written, if that is known."""
    try:
        noted = times(place / "log", os.fstat(file.fileno())).read_bytes()
    except OSError:
        noted = b""
    entries = range(len(noted) // ENTRY.size)

    def entry(number: int) -> tuple[int, int]:
        where, at = ENTRY.unpack_from(noted, number * ENTRY.size)
        return where, at

    following = bisect_right(entries, file.tell(), key=lambda number: entry(number)[0])
    at = entry(following - 1)[1] if following else None
    for where, later in map(entry, entries[following:]):
        if piece := file.read(max(0, where - file.tell())):
            yield at, piece
        at = later
    while piece := file.read(PIECE):
        yield at, piece


def size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def start(files: list[BinaryIO], count: int) -> int:
    """How much of `files` may be skipped so that more than `count` line ends are left."""
    at, ends = sum(map(size, files)), 0
    for each in reversed(files):
        place = size(each)
        while place and ends <= count:
            step = min(PIECE, place)
            place -= step
            at -= step
            each.seek(place)
            ends += each.read(step).count(b"\n")
    return at
