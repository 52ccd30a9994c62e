"""What a droplet says: from its pipe into its log, of which two files of 5 MB are kept.

The pipe is a FIFO that the droplet holds open both ways: a keeper that dies breaks no pipe, and its successor reads on
where it stopped. The log is opened anew for each piece: 500 quiet droplets hold no files open for it.

Beside a log stands when its lines were ended: entries of a place in it and the moment (Unix microseconds) from which on
what stands there was written. That file is named for the log's inode, so that both are renamed at once.
"""

import os
import struct
import time
from pathlib import Path

MOST = 5_000_000
"""Bytes of a log, and of what stands beside it."""
PIECE = 65536
ENTRY = struct.Struct("<QQ")


class Output:
    """The reading end of a droplet's pipe."""

    def __init__(self, place: Path) -> None:
        self.log = place / "log"
        self.lost = 0
        """Bytes that had no room on the disk since the last that had."""
        self.descriptor = os.open(place / "output", os.O_RDONLY | os.O_NONBLOCK)

    def take(self) -> bool:
        """Move a piece to the log; whether there may be more."""
        try:
            piece = os.read(self.descriptor, PIECE)
        except BlockingIOError:
            return False
        if piece:
            self.keep(piece)
        return bool(piece)

    def keep(self, piece: bytes) -> None:
        """Write a piece, or count it as lost: a full disk stops no droplet."""
        notice = b"[ostiary: %d bytes of output are lost: the disk was full]\n" % self.lost if self.lost else b""
        try:
            written = append(self.log, notice + piece, time.time_ns() // 1000)
        except OSError:
            written = 0
        if written < len(notice):
            self.lost += len(piece)
        else:
            self.lost = len(notice) + len(piece) - written

    def close(self) -> None:
        """Take what is left, and end."""
        while self.take():
            pass
        os.close(self.descriptor)


def append(log: Path, piece: bytes, at: int) -> int:
    """Append to a log that begins anew when it is full, at a line's end if there is one; how many bytes it took."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        there = os.fstat(descriptor)
        room = note(times(log, there), there.st_size, at) if not there.st_size or b"\n" in piece else True
        if room and there.st_size + len(piece) <= MOST:
            return os.write(descriptor, piece)
        end = piece.find(b"\n") + 1
        written = os.write(descriptor, piece[:end]) if end else 0
    finally:
        os.close(descriptor)
    if written < end:
        return written
    older = log.with_name("log.1")
    if older.exists():
        times(log, older.stat()).unlink(missing_ok=True)
    log.rename(older)
    return written + append(log, piece[end:], at) if piece[end:] else written


def times(log: Path, there: os.stat_result) -> Path:
    """Where it stands when a log's lines were ended."""
    return log.with_name(f"times.{there.st_ino}")


def note(file: Path, place: int, at: int) -> bool:
    """Write down when what follows `place` was written; False when no more should be."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError:
        return True  # the disk is full: a line without its time is better than none
    try:
        os.write(descriptor, ENTRY.pack(place, at))
        return os.fstat(descriptor).st_size < MOST
    except OSError:
        return True
    finally:
        os.close(descriptor)
