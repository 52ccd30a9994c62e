"""Control's end of the process that hashes strangers' passwords (hasher.py).

A process and not a thread, because a thread that stands back holds the interpreter's lock when it is preempted, and
control waits with it. It is started at the first question, and anew where it has ended.
"""

import asyncio
import contextlib
import logging
import os
import socket
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from ostiary.control.argon2id import Cost
from ostiary.control.passwords import Hashing, Thread, busy
from ostiary.node.hasher import Make, Verify, framed
from ostiary.node.start import PYTHON

T = TypeVar("T")
PATIENCE = 30.0
"""Seconds for an answer: the process works only in time that nobody else wants."""
HURRY = 2.0
"""Seconds that somebody waits for the process. Then their hash is made here: one in so many seconds."""
PASSED_ON = ("PATH", "PYTHON", "LD_", "LANG", "LC_")
"""How variables of the environment begin that it gets; others may be secrets of the configuration."""

log = logging.getLogger("ostiary.control")


class _Running(NamedTuple):
    process: Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class HashingProcess:
    """Hashing in a process of its own. Asked for one at a time (passwords.py)."""

    def __init__(self, command: Sequence[str] = (*PYTHON, "hasher"), patience: float = PATIENCE) -> None:
        self._command = command
        self._patience = patience
        self._running: _Running | None = None

    @property
    def pid(self) -> int:
        """Of the process; 0: there is none."""
        return self._running.process.pid if self._running else 0

    async def make(self, password: bytes, salt: bytes, cost: Cost) -> str:
        return await self._ask(Make(password, salt, cost), str)

    async def verify(self, kept: str, presented: bytes) -> bool:
        return await self._ask(Verify(kept, presented), bool)

    def close(self) -> None:
        if self._running is not None:
            self._running.writer.close()
            with contextlib.suppress(ProcessLookupError):
                self._running.process.kill()

    async def end(self) -> None:
        """Close it and wait for the end of the process."""
        self.close()
        running, self._running = self._running, None
        if running is not None:
            await running.process.wait()

    async def _ask(self, question: Make | Verify, kind: type[T]) -> T:
        """The answer, of a second process where the first one ends over it."""
        for _ in range(2):
            try:
                async with asyncio.timeout(self._patience):
                    return msgspec.msgpack.decode(await self._exchange(framed(question)), type=kind)
            except (EOFError, OSError) as problem:  # the end of the process, no process, or no answer in time
                log.warning("The process that hashes passwords is started anew: %s", type(problem).__name__)
                await self.end()
        raise busy()

    async def _exchange(self, frame: bytes) -> bytes:
        if self._running is None:
            self._running = await self._start()
        _, reader, writer = self._running
        writer.write(frame)
        size = await reader.readexactly(4)
        return await reader.readexactly(int.from_bytes(size, "big"))

    async def _start(self) -> _Running:
        environment = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            try:
                process = await asyncio.create_subprocess_exec(*self._command, stdin=theirs.fileno(), env=environment)
            except BaseException:
                writer.close()
                raise
        return _Running(process, reader, writer)


class Hastened:
    """Hashing by `first`; what it has no time for within `hurry` seconds, `second` does. Asked for one at a time.

    So guesses stand back behind everything else, and nobody is kept out for long by a machine that is busy with that.
    """

    def __init__(self, first: Hashing, second: Hashing, hurry: float = HURRY) -> None:
        self._first = first
        self._second = second
        self._hurry = hurry
        self._at: asyncio.Future[Any] | None = None
        """What `first` is at, perhaps still for somebody who has been answered."""

    async def make(self, password: bytes, salt: bytes, cost: Cost) -> str:
        return await self._soon(lambda hashing: hashing.make(password, salt, cost))

    async def verify(self, kept: str, presented: bytes) -> bool:
        return await self._soon(lambda hashing: hashing.verify(kept, presented))

    def close(self) -> None:
        if self._at is not None:
            self._at.cancel()
        self._first.close()
        self._second.close()

    async def _soon(self, work: Callable[[Hashing], Awaitable[T]]) -> T:
        if self._at is not None:
            await asyncio.wait({self._at}, timeout=self._hurry)
        if self._at is not None:
            return await work(self._second)
        asked = self._at = asyncio.ensure_future(work(self._first))
        asked.add_done_callback(self._free)
        await asyncio.wait({asked}, timeout=self._hurry)
        return asked.result() if asked.done() else await work(self._second)

    def _free(self, done: asyncio.Future[Any]) -> None:
        self._at = None
        if not done.cancelled():
            done.exception()  # nobody may be left whom it concerns


def for_strangers() -> Hastened:
    """How a node hashes passwords of strangers."""
    return Hastened(HashingProcess(), Thread("passwords-late"))
