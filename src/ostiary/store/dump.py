"""A backup as bytes: one format for every engine.

A gzip stream of frames, each a length (four bytes, big endian) and so much msgpack: a Head, Pages of rows, and a Tail
with the number of rows of each table and the SHA-256 of all frames before it. What was cut off or altered by accident
is noticed; it is no signature.
"""

import gzip
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from ostiary.core.refusal import Invalid, Unavailable

FORMAT = "ostiary backup 1"
MOST_BYTES = 1 << 30
"""In a frame."""
GZIP = 31
"""To zlib: the form of gzip, of any size of window."""
_LENGTH = struct.Struct(">I")
Value = Any
"""A whole number, a text, bytes or None."""


class Head(Struct, frozen=True, tag=True):
    """What the backup is of."""

    format: str
    created: str
    """RFC 3339."""
    engine: str
    schema: str
    """Version of the schema."""
    tables: dict[str, tuple[str, ...]]
    """Their columns, in an order in which no row comes before one that it refers to."""
    counters: dict[str, int]
    """Table -> the last number given to a row of it."""


class Page(Struct, frozen=True, tag=True):
    """Some rows of a table, in the order of its primary key."""

    table: str
    rows: list[tuple[Value, ...]]


class Tail(Struct, frozen=True, tag=True):
    """The end."""

    rows: dict[str, int]
    sha256: str


_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Head | Page | Tail] = msgspec.msgpack.Decoder(Head | Page | Tail)


class Writer:
    """Writes the frames of a backup to a stream, which stays open. Refuses Unavailable `backup.unwritable`."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._packed = zlib.compressobj(1, wbits=GZIP)
        self._digest = sha256()
        self._rows: Counter[str] = Counter()

    def begin(self, head: Head) -> None:
        """Write the head."""
        self._rows.update(dict.fromkeys(head.tables, 0))
        self._put(_encode(head))

    def page(self, page: Page) -> int:
        """Write some rows; how many bytes they took before compression."""
        self._rows[page.table] += len(page.rows)
        return self._put(_encode(page))

    def end(self) -> Tail:
        """Write the tail."""
        tail = Tail(dict(self._rows), self._digest.hexdigest())
        self._put(_encode(tail))
        self._write(self._packed.flush())
        return tail

    def _put(self, frame: bytes) -> int:
        for piece in (_LENGTH.pack(len(frame)), frame):
            self._digest.update(piece)
            self._write(self._packed.compress(piece))
        return len(frame)

    def _write(self, packed: bytes) -> None:
        try:
            self._stream.write(packed)
            self._stream.flush()
        except OSError as error:
            raise Unavailable("backup.unwritable", f"The backup cannot be written: {error.strerror}") from error


class Reader:
    """Reads a backup from a stream. Refuses Invalid `backup.unknown` for anything else, `backup.damaged`."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = gzip.GzipFile(fileobj=stream, mode="rb")
        self._digest = sha256()
        try:
            head = self._frame()
        except Invalid as refusal:
            raise Invalid("backup.unknown", "This is not a backup of Ostiary's store, or is cut off") from refusal
        if not isinstance(head, Head) or head.format != FORMAT:
            raise Invalid("backup.unknown", f"This is not a backup in the format {FORMAT!r}")
        self.head = head

    def pages(self) -> Iterator[Page]:
        """All pages. It has not been a whole backup until this has ended without a refusal."""
        rows: Counter[str] = Counter(dict.fromkeys(self.head.tables, 0))
        while True:
            before = self._digest.hexdigest()
            match self._frame():
                case Page() as page if page.table in self.head.tables:
                    rows[page.table] += len(page.rows)
                    yield page
                case Tail(counted, digest) if digest == before and counted == rows and not self._read(1):
                    return
                case _:
                    raise _damaged()

    def _frame(self) -> Head | Page | Tail:
        lead = self._read(_LENGTH.size)
        length = _LENGTH.unpack(lead)[0] if len(lead) == _LENGTH.size else MOST_BYTES + 1
        if length > MOST_BYTES:
            raise _damaged()
        frame = self._read(length)
        self._digest.update(lead + frame)
        try:
            return _decoder.decode(frame)
        except msgspec.DecodeError as error:
            raise _damaged() from error

    def _read(self, count: int) -> bytes:
        try:
            return self._stream.read(count)
        except (OSError, EOFError, zlib.error) as error:
            raise _damaged() from error


def _damaged() -> Invalid:
    return Invalid("backup.damaged", "The backup is cut off or altered; nothing of it was restored")
