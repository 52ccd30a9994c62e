"""A driver without processes: droplets are entries of a dictionary that listen on real ports. It outlives control."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct

from ostiary.core.refusal import Invalid, NotFound, Refusal, Unavailable
from ostiary.drivers.port import Image, Printed, Seen, Spec, Usage


class Life(Struct):
    """A droplet as this driver has it. The first word of its command says what it does."""

    spec: Spec
    seen: Seen
    listeners: list[socket.socket] = []
    lines: list[bytes] = []
    times: list[int | None] = []
    """When each was printed; empty: nobody knows."""
    starts: int = 0


class Memory:
    """The port. Commands: `web` listens; `deaf` lives; `exit CODE` ends at once; `starve` too, for want of memory;
    `stubborn` has to be killed; `slow` listens when `wake` is called; `nope` does not exist."""

    name = "process"
    enforced = frozenset({"memory"})

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self.lives: dict[str, Life] = {}
        self.away = False
        self.well = True
        """Whether those that listen say 200."""
        self.refusal: Refusal | None = None
        """What the next `create` refuses."""
        self.defect: Exception | None = None
        """What the next `stop` raises."""
        self.calls: list[tuple[str, str]] = []
        self.closed = 0
        self.running = 0
        self.most = 0
        self._serving: set[asyncio.Task[None]] = set()
        self._watchers: list[asyncio.Queue[Seen | None]] = []
        self.hold = asyncio.Event()
        """While it is not set, `start` waits."""
        self.hold.set()

    def _here(self, call: str, droplet: str = "") -> None:
        if self.away:
            raise Unavailable("driver.unavailable", "The engine is away")
        self.calls.append((call, droplet))

    def _life(self, droplet: str) -> Life:
        if droplet not in self.lives:
            raise NotFound("droplet.gone", "Nothing is left of it")
        return self.lives[droplet]

    # The port

    async def open(self) -> None:
        self._here("open")

    async def close(self, *, stop: bool) -> None:
        self.closed += 1

    async def images(self) -> Sequence[Image]:
        return []

    async def create(self, spec: Spec) -> None:
        self._here("create", spec.droplet)
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            raise refusal
        self.lives.setdefault(spec.droplet, Life(spec, Seen(spec.droplet, "created")))

    async def start(self, droplet: str) -> None:
        self._here("start", droplet)
        self.running += 1
        self.most = max(self.most, self.running)
        await self.hold.wait()
        self.running -= 1
        life = self._life(droplet)
        if life.seen.state == "running":
            return
        if not life.spec.command:
            raise Invalid("command.missing", "There is no command to run")
        word = life.spec.command[0]
        if word == "nope":
            raise Invalid("command.unknown", "No such program: nope")
        life.starts += 1
        self._tell(life, Seen(droplet, "running", started=self.clock()))
        if word == "web":
            await self.listen(droplet)
        if word == "exit":
            self.end(droplet, int(life.spec.command[1]))
        if word == "starve":
            self.end(droplet, 137, starved=True)

    async def stop(self, droplet: str, signal: str, timeout: int) -> bool:
        self._here("stop", droplet)
        if self.defect is not None:
            defect, self.defect = self.defect, None
            raise defect
        life = self._life(droplet)
        if life.seen.state != "running":
            return False
        killed = life.spec.command[:1] == ("stubborn",)
        self.end(droplet, 137 if killed else 143)
        return killed

    async def remove(self, droplet: str) -> None:
        self._here("remove", droplet)
        if droplet in self.lives:
            self.end(droplet, 137)
            del self.lives[droplet]
            self._say(Seen(droplet, "gone"))

    async def look(self) -> Mapping[str, Seen]:
        self._here("look")
        return {droplet: life.seen for droplet, life in self.lives.items()}

    def watch(self) -> AsyncIterator[Seen]:
        self._here("watch")
        queue: asyncio.Queue[Seen | None] = asyncio.Queue()
        self._watchers.append(queue)

        async def events() -> AsyncIterator[Seen]:
            while (seen := await queue.get()) is not None:
                yield seen

        return events()

    async def usage(self, droplet: str) -> Usage:
        self._life(droplet)
        return Usage(1.5, 1024, 2)

    async def logs(self, droplet: str, tail: int) -> Sequence[bytes]:
        return self._life(droplet).lines[-tail:] if tail else []

    async def printed(self, droplet: str, tail: int) -> Sequence[Printed]:
        life = self._life(droplet)
        times = life.times or [None] * len(life.lines)
        return [Printed(at, line) for at, line in zip(times, life.lines, strict=True)][-tail:]

    async def follow(self, droplet: str, tail: int) -> AsyncIterator[bytes]:
        for line in self._life(droplet).lines[-tail:]:
            yield line

    # What tests do to it

    async def listen(self, droplet: str) -> None:
        """Have it answer on its ports."""
        life, loop = self._life(droplet), asyncio.get_running_loop()
        for port in life.spec.ports.values():
            listener = socket.create_server(("127.0.0.1", port))
            listener.setblocking(False)
            loop.add_reader(listener, self._accept, listener)
            life.listeners.append(listener)

    def _accept(self, listener: socket.socket) -> None:
        # Not asyncio's own server: closed between accepting and the first turn of a connection, that one loses it.
        with suppress(BlockingIOError):
            task = asyncio.get_running_loop().create_task(self._serve(listener.accept()[0]))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, client: socket.socket) -> None:
        loop, head = asyncio.get_running_loop(), b""
        client.setblocking(False)
        with client, suppress(ConnectionError):
            while not head.endswith(b"\r\n\r\n"):
                data = await loop.sock_recv(client, 4096)
                if not data:
                    return
                head += data
            status = b"200 OK" if self.well else b"500 No"
            await loop.sock_sendall(client, b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

    def end(self, droplet: str, code: int | None, *, starved: bool = False) -> None:
        """Its process ends; `starved`: for want of memory."""
        life = self._life(droplet)
        while life.listeners:
            listener = life.listeners.pop()
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        if life.seen.state == "running":
            ended = msgspec.structs.replace(life.seen, state="exited", exit_code=code, finished=self.clock())
            self._tell(life, msgspec.structs.replace(ended, out_of_memory=starved))

    async def rest(self) -> None:
        """End everything; returns when no connection is left."""
        for droplet in tuple(self.lives):
            self.end(droplet, 0)
        while self._serving:
            await asyncio.wait(self._serving)

    def vanish(self, droplet: str) -> None:
        """Somebody else removes it."""
        self.end(droplet, 137)
        del self.lives[droplet]
        self._say(Seen(droplet, "gone"))

    def leave(self) -> None:
        """The engine goes away."""
        self.away = True
        for queue in self._watchers:
            queue.put_nowait(None)
        self._watchers.clear()

    def running_names(self) -> list[str]:
        """The names of those that live."""
        return sorted(life.spec.name for life in self.lives.values() if life.seen.state == "running")

    def named(self, name: str) -> str:
        """The id of a droplet."""
        return next(droplet for droplet, life in self.lives.items() if life.spec.name == name)

    def _tell(self, life: Life, seen: Seen) -> None:
        life.seen = seen
        self._say(seen)

    def _say(self, seen: Seen) -> None:
        for queue in self._watchers:
            queue.put_nowait(seen)
