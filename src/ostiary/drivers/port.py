"""The port: what a driver of droplets can do. Control decides what should run; a driver does it and tells what is.

A driver never puts a text into a shell: commands are lists, engine calls are typed bodies. It touches only droplets
that carry its node's mark. Restarts, health and ports are control's: a driver sees one life of one process.
Times are Unix microseconds, sizes bytes.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from msgspec import Struct

from ostiary.core.droplets import Limits as Limits


class Spec(Struct, frozen=True):
    """What to run, literally: placeholders are filled in, nothing is expanded any more."""

    droplet: str
    """Its id, 12 hexadecimal digits."""
    name: str
    command: tuple[str, ...] = ()
    """Program and arguments; may be empty where `image` brings its own."""
    image: str = ""
    env: dict[str, str] = {}
    ports: dict[int, int] = {}
    """What the droplet listens on -> the port of 127.0.0.1 at which it is reached. A process gets the latter in its
    environment and arguments; a container has the former published there."""
    limits: Limits = Limits()
    user: str = ""
    mounts: tuple[str, ...] = ()
    """`HOST:INSIDE[:ro]`, from the configuration only."""


class Seen(Struct, frozen=True):
    """What is to be seen of a droplet."""

    droplet: str
    state: Literal["created", "running", "exited", "gone"]
    """`gone`: its container or directory is no more."""
    exit_code: int | None = None
    """128 + signal for a signal; None while it lives, or where nobody saw the end."""
    started: int | None = None
    finished: int | None = None
    out_of_memory: bool = False


class Usage(Struct, frozen=True):
    """What a droplet uses now; None: the driver cannot know."""

    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    pids: int | None = None


class Image(Struct, frozen=True):
    """An image that is there."""

    id: str
    names: tuple[str, ...]
    size: int


class Printed(NamedTuple):
    """A line of a log, without its end, and when it was ended; None: nobody knows."""

    at: int | None
    line: bytes


class Driver(Protocol):
    """Runs droplets. Every method may refuse Unavailable `driver.unavailable` when the engine cannot be reached, and
    the ones about a droplet NotFound `droplet.gone` when nothing is left of it."""

    @property
    def name(self) -> str:
        """`process` or `docker`."""

    @property
    def enforced(self) -> frozenset[str]:
        """Which of `memory`, `cpu`, `pids` it really applies on this machine."""

    async def open(self) -> None:
        """Begin; adopt what runs. Refuses Unavailable, and may be called again."""

    async def close(self, *, stop: bool) -> None:
        """End. Droplets live on, for who opens next, unless `stop`: then all end, those that do not in time killed."""

    async def images(self) -> Sequence[Image]:
        """The images that are there; none for a driver without images."""

    async def create(self, spec: Spec) -> None:
        """Make what `start` starts. Made already: nothing happens, but that a process's next start follows the new
        Spec. To be called before each start: environments are secrets, which the driver of processes keeps in memory
        alone. Refuses Invalid `image.unknown`, `user.unknown`, `user.forbidden`, `command.missing`,
        `command.invalid`; Unavailable `disk.full`, `driver.failed`."""

    async def start(self, droplet: str) -> None:
        """Start it; returns when its program has taken over. It runs already: nothing happens. Refuses Invalid
        `command.unknown` (no such program), `command.refused` (why it cannot be run), Unavailable `driver.failed`,
        `port.taken`, `disk.full`; it is then as it was before. NotFound `droplet.gone` also where what to run is not
        known any more."""

    async def stop(self, droplet: str, signal: str, timeout: int) -> bool:
        """Send `signal` (`TERM`) to all its processes (of a container: its first); after `timeout` microseconds kill
        all that live, also those that left their parents. Returns when the last is gone; whether any had to be killed.
        It does not run: False. Refuses Invalid `signal.unknown`."""

    async def remove(self, droplet: str) -> None:
        """Leave nothing of it: process, container, files, logs. Nothing there: nothing happens."""

    async def look(self) -> Mapping[str, Seen]:
        """All droplets of this node that are there, as they are now."""

    def watch(self) -> AsyncIterator[Seen]:
        """What changes after this call, as it happens and in order, of any droplet: every end of a life once.

        Raises Unavailable when the engine goes away; `open` again, and watch anew. To miss nothing, `look` after it.
        """

    async def usage(self, droplet: str) -> Usage: ...

    async def logs(self, droplet: str, tail: int) -> Sequence[bytes]:
        """The last `tail` lines without line ends, both streams merged as they came, lines cut at 16 KiB: what is
        longer goes on in the next. A last line that is not ended yet is among them."""

    async def printed(self, droplet: str, tail: int) -> Sequence[Printed]:
        """The same, with their times."""

    def follow(self, droplet: str, tail: int) -> AsyncIterator[bytes]:
        """The same, then every further line within a second, until the droplet is removed."""
