"""What a droplet says: from its pipe into its log, of which two files of 5 MB are kept.

The pipe is a FIFO that the droplet holds open both ways: a keeper that dies breaks no pipe, and its successor reads on
where it stopped. The log is opened anew for each piece: 500 quiet droplets hold no files open for it.
"""

import os
from pathlib import Path

MOST = 5_000_000
PIECE = 65536


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
            written = append(self.log, notice + piece)
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


def append(log: Path, piece: bytes) -> int:
    """Append to a log that begins anew when it is full, at a line's end if there is one; how many bytes it took."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.fstat(descriptor).st_size + len(piece) <= MOST:
            return os.write(descriptor, piece)
        end = piece.find(b"\n") + 1
        written = os.write(descriptor, piece[:end]) if end else 0
    finally:
        os.close(descriptor)
    if written < end:
        return written
    log.rename(log.with_name("log.1"))
    return written + append(log, piece[end:]) if piece[end:] else written
