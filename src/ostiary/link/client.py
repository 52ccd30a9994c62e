"""The worker's end of the link: tells the data plane what control says, and reconnects when control comes back."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Protocol

import msgspec

from ostiary.core.admission import Admission
from ostiary.core.snapshot import Snapshot
from ostiary.link.frames import Broken, Channel
from ostiary.link.messages import (
    NEVER,
    Answers,
    Applied,
    Ask,
    Barred,
    Change,
    Collect,
    Do,
    Done,
    Draw,
    Grant,
    Granted,
    Guesses,
    Hello,
    Lease,
    Order,
    Place,
    Prepare,
    Prepared,
    Question,
    Report,
    Routes,
    Steer,
    Steered,
    Swap,
    Swapped,
    ToControl,
    Touch,
    Touched,
    ToWorker,
    Want,
    decode_to_worker,
)

log = logging.getLogger(__name__)

Use = tuple[str, str, int]
"""Upstream, tag and hash of an assignment that was used."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two attempts to connect; each is twice the one before."""
MOST_UNSAID = 1_000
"""Times that control was told of uses and has not said so; of more the same users are noted once."""


class Control(Protocol):
    """What the data plane may ask. While the link is down both are forgotten: ask again at `Door.connected(True)`."""

    def ask(self, digests: list[bytes]) -> None:
        """Which of these token digests pass? Comes back as `Door.answers`."""

    def guessed(self, guesses: dict[bytes, str]) -> None:
        """These tokens were shown and do not pass: digest -> address. May come back as `Door.barred`."""

    def draw(self, wants: list[Want]) -> None:
        """Cells for limits. Comes back as `Door.granted`, one Grant a Want, in their order."""

    def steer(self, questions: list[Question]) -> None:
        """Where do these users go? Comes back as `Door.steered`, later where a user is being moved."""

    def touch(self, used: list[Use]) -> None:
        """These assignments are in use. What may have been said in vain comes back as `Door.doubt`."""

    def done(self, seq: int, result: object) -> None:
        """Order `seq` is carried out."""


class Door(Protocol):
    """What the link tells the data plane: plain calls, in stream order, on the event loop."""

    def lease(self, until: int) -> None: ...
    def answers(self, admissions: dict[bytes, Admission | None]) -> None: ...
    def granted(self, grants: list[Grant]) -> None: ...
    def barred(self, until: dict[str, int]) -> None:
        """These addresses have guessed too often: until when, in monotonic ns."""

    def steered(self, places: list[Place]) -> None: ...
    def doubt(self, used: list[Use]) -> None:
        """Control may not have written down that these are in use, so that they may have expired there."""

    def do(self, seq: int, order: Order) -> None:
        """Carry an order out; `Control.done` says when."""

    def change(self, change: Change) -> dict[str, int]:
        """Drop what it names; return what was dropped, by kind."""

    def prepare(self, snapshot: Snapshot) -> None:
        """Begin building beside the one that serves; an earlier one that was not swapped in is given up."""

    def routes(self, routes: Routes) -> None: ...
    def prepared(self) -> str:
        """All routes are in: finish building. Empty, or why it cannot be."""

    def swap(self, revision: int) -> None: ...
    def report(self, seq: int) -> Report: ...
    def connected(self, up: bool) -> None:
        """Control has begun to talk, or is gone. What it says first ends what the worker knows and must not keep."""


class Client:
    """Connects worker number `worker` with control. Give it to the door as its Control, then `run` it with the door."""

    def __init__(self, worker: int, pid: int) -> None:
        self._worker, self._pid = worker, pid
        self._session: Session | None = None
        self._revision, self._told = 0, NEVER
        self._uses = Uses()
        self.serving = asyncio.Event()
        """Set from the first swap on."""

    async def run(self, path: str, door: Door) -> None:
        """Talk to the control that listens at the Unix socket `path`, again and again, until cancelled.

        What goes wrong in the door itself, or a message that cannot be read, is raised: the process should end.
        """
        pause = SHORTEST_PAUSE
        while True:
            if await self._connect(door, path=path):
                pause = SHORTEST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def run_over(self, link: socket.socket, door: Door) -> None:
        """The same over one connected socket, until it is closed: for a data plane inside control."""
        await self._connect(door, sock=link)

    def ask(self, digests: list[bytes]) -> None:
        if self._session is not None:
            self._session.send(Ask(digests))

    def guessed(self, guesses: dict[bytes, str]) -> None:
        if self._session is not None:
            self._session.send(Guesses(guesses))

    def draw(self, wants: list[Want]) -> None:
        if self._session is not None:
            self._session.send(Draw(wants))

    def steer(self, questions: list[Question]) -> None:
        if self._session is not None:
            self._session.send(Steer(questions))

    def touch(self, used: list[Use]) -> None:
        number = self._uses.note(used)
        if self._session is not None:
            self._session.send(Touch(number, used))

    def done(self, seq: int, result: object) -> None:
        if self._session is not None:
            self._session.send(Done(seq, msgspec.Raw(msgspec.msgpack.encode(result))))

    async def _connect(self, door: Door, path: str | None = None, sock: socket.socket | None = None) -> bool:
        """Connect, say Hello and listen until the connection ends; whether control said anything."""
        hello = Hello(self._worker, self._pid, self._revision, self._told)
        session = Session(hello, door, self.serving, self._uses)
        try:
            await asyncio.get_running_loop().create_unix_connection(session.channel, path, sock=sock)
        except OSError as error:
            log.debug("control cannot be reached: %s", error)
            return False
        self._session = session
        try:
            await session.ended
        finally:
            self._session, self._revision, self._told = None, session.revision, session.told
            session.close()
        return session.heard


class Uses:
    """Uses of which control has not said that it has written them down."""

    def __init__(self) -> None:
        self._number = 0
        self._unsaid: dict[int, list[Use]] = {}
        self._doubtful: set[Use] = set()

    def note(self, used: list[Use]) -> int:
        """Control is being told; under which number."""
        self._number += 1
        self._unsaid[self._number] = used
        if len(self._unsaid) > MOST_UNSAID:
            self._doubt()
        return self._number

    def written(self, number: int) -> None:
        """Control has said so."""
        self._unsaid.pop(number, None)

    def take(self) -> list[Use]:
        """All of them, each once; they are not noted any longer."""
        self._doubt()
        taken, self._doubtful = list(self._doubtful), set()
        return taken

    def _doubt(self) -> None:
        for used in self._unsaid.values():
            self._doubtful.update(used)
        self._unsaid.clear()


class Session:
    """One connection to control, from Hello until it is lost."""

    def __init__(self, hello: Hello, door: Door, serving: asyncio.Event, uses: Uses) -> None:
        self._hello, self._door, self._serving, self._uses = hello, door, serving, uses
        self._channel = Channel(decode_to_worker, self._opened, self._receive, self._lost)
        self._preparing = 0
        self._missing = 0
        self._problem = ""
        self.revision, self.told = hello.revision, hello.told
        self.heard = False
        """Whether control has said anything yet: a connection alone may only be waiting for it to be back."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def channel(self) -> Channel[ToWorker]:
        return self._channel

    def send(self, message: ToControl) -> None:
        self._channel.send(message)

    def close(self) -> None:
        self._channel.abort()

    def _opened(self, channel: Channel[ToWorker]) -> None:
        channel.send(self._hello)

    def _lost(self, failure: Exception | None) -> None:
        if self.heard:
            self._door.connected(False)
        if self.ended.done():
            return
        if failure is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(failure)

    def _receive(self, message: ToWorker) -> None:
        if not self.heard:
            self.heard = True
            self._door.doubt(self._uses.take())
            self._door.connected(True)
        self._tell(message)

    def _tell(self, message: ToWorker) -> None:
        door = self._door
        match message:
            case Answers():
                door.answers(message.admissions)
            case Granted():
                door.granted(message.grants)
            case Lease():
                self.told = message.told
                door.lease(message.until)
            case Barred():
                door.barred(message.until)
            case Steered():
                door.steered(message.places)
            case Touched():
                self._uses.written(message.number)
            case Do():
                door.do(message.seq, message.order)
            case Change():
                self.send(Applied(message.seq, door.change(message)))
            case Routes():
                self._take(message)
            case Prepare():
                self._prepare(message.snapshot)
            case Swap():
                self._swap(message.revision)
            case Collect():
                self.send(door.report(message.seq))

    def _prepare(self, snapshot: Snapshot) -> None:
        self._preparing, self._missing, self._problem = snapshot.revision, snapshot.routes, ""
        self._build(lambda: self._door.prepare(snapshot))
        self._finish()

    def _take(self, routes: Routes) -> None:
        self._missing -= len(routes.exact) + len(routes.patterns)
        self._build(lambda: self._door.routes(routes))
        self._finish()

    def _finish(self) -> None:
        """Say Prepared once every route is in."""
        if self._missing > 0:
            return
        self._build(self._door.prepared)
        self.send(Prepared(self._preparing, self._problem))

    def _build(self, step: Callable[[], str | None]) -> None:
        """Take one step. A snapshot that breaks its own building must not end the worker that serves another."""
        if self._problem:
            return
        try:
            self._problem = step() or ""
        except Exception as defect:
            log.exception("snapshot %d cannot be built", self._preparing)
            self._problem = f"{type(defect).__name__}: {defect}"

    def _swap(self, revision: int) -> None:
        if self._problem:
            raise Broken(f"revision {revision} is to be served and cannot be built: {self._problem}")
        self._door.swap(revision)
        self.revision = revision
        self.send(Swapped(revision))
        self._serving.set()
