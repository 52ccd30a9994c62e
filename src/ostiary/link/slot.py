"""What control knows of each worker that it expects, and the snapshots that it sends them."""

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec

from ostiary.core.snapshot import Snapshot
from ostiary.link.barrier import Barrier
from ostiary.link.frames import Channel, frame
from ostiary.link.messages import Change, Prepare, Swap, ToControl
from ostiary.link.process import Process


class Image:
    """A snapshot ready to be sent: its first message, and its routes as frames."""

    def __init__(self, snapshot: Snapshot, routes: Sequence[bytes]) -> None:
        self.revision = snapshot.revision
        self.frames = (frame(Prepare(snapshot)), *routes)


class Slot:
    """One expected worker, whichever process it is just now."""

    def __init__(self, number: int, lease: int) -> None:
        self.number = number
        self.process: Process | None = None
        self.channel: Channel[ToControl] | None = None
        self.lease = lease
        self.serves = 0
        self.prepared = 0
        self.kept: Image | None = None
        """The image that it has served since before this control began."""
        self.ended = False
        """Nothing that could take a snapshot runs here until the next Hello."""
        self.progress = asyncio.get_running_loop().time()
        self.unconfirmed: deque[tuple[Change, Barrier | None]] = deque()
        self.oldest = 0
        """The number of the oldest unconfirmed change when the last lease was due."""
        self.asked: dict[bytes, None] = {}
        self.reading = False
        self.outbox: deque[Image | Swap] = deque()
        self.feeding = False
        self.reported = 0

    def send(self, message: msgspec.Struct) -> None:
        if self.channel is not None:
            self.channel.send(message)

    def moved(self) -> None:
        self.progress = asyncio.get_running_loop().time()
