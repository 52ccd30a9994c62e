"""What the engine sends of a container's log: frames, each with the stream that it comes from. Docker Engine API,
"attach to a container"; and, as asked for here, the time of each entry before it."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple

from ostiary.drivers.docker.container import nanoseconds
from ostiary.drivers.docker.engine import clock
from ostiary.drivers.lines import Lines

HEAD = 8


class Entry(NamedTuple):
    """Something that was said: a line with its end, or a piece of one."""

    stream: int
    at: int
    """Unix nanoseconds; Podman tells whole seconds."""
    text: bytes


class Streams:
    """Lines of both streams as they come. A line that is not ended yet does not go on in the other stream."""

    def __init__(self) -> None:
        self.lines: dict[int, Lines] = {}

    def feed(self, entry: Entry) -> list[bytes]:
        """The lines that are complete with it."""
        return self.lines.setdefault(entry.stream, Lines()).feed(entry.text)

    def end(self) -> list[bytes]:
        """What was not ended."""
        return [line for each in self.lines.values() for line in each.end()]


class Read:
    """How far a log has been read, by time. `last`: nothing from before is wanted."""

    def __init__(self, tail: int, last: int) -> None:
        self.tail: int | None = tail
        self.last = last

    def wanted(self) -> dict[str, str]:
        """What to ask of the log now: its tail, then what follows what was read."""
        tail, self.tail = self.tail, None
        return {"since": clock(self.last + 1)} if tail is None else {"tail": str(tail)}

    def new(self, entry: Entry) -> bool:
        """Whether it has not been read yet; now it has."""
        self.last = entry.at
        return True


class Counted:
    """The same where times are too coarse: all is asked for each time, and what was read is counted off."""

    def __init__(self) -> None:
        self.count = self.left = self.last = self.until = 0

    def wanted(self) -> dict[str, str]:
        self.left, self.until = self.count, self.last
        return {}

    def new(self, entry: Entry) -> bool:
        if self.left and entry.at <= self.until:  # but for a log that was cut off meanwhile
            self.left -= 1
            return False
        self.count, self.last = self.count + 1, entry.at
        return True


async def frames(chunks: AsyncIterator[bytes]) -> AsyncGenerator[tuple[int, bytes], None]:
    """The payloads with their streams, as they come."""
    rest = b""
    async for chunk in chunks:
        rest += chunk
        while len(rest) >= HEAD and len(rest) >= (end := HEAD + int.from_bytes(rest[4:HEAD])):
            yield rest[0], rest[HEAD:end]
            rest = rest[end:]


def entry(stream: int, frame: bytes) -> Entry:
    """What a payload says."""
    at, _, text = frame.partition(b" ")
    return Entry(stream, nanoseconds(at.decode()), text)
