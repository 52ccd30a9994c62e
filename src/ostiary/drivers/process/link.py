"""The driver's end of the keeper's socket: how it is reached, started, and asked."""

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import msgspec

from ostiary.core.refusal import Invalid, NotFound, Refusal, Unavailable
from ostiary.drivers.port import Seen
from ostiary.drivers.process.keeper import LINE
from ostiary.drivers.watchers import Watchers

ROOT = Path(__file__).parents[3]
"""Where the package is."""
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from ostiary.drivers.process.keeper import main; main()"
BETWEEN = 0.05
"""Seconds until the next try where a keeper is just coming up, or going."""
MEANINGS: dict[str, type[Refusal]] = {"Invalid": Invalid, "NotFound": NotFound, "Unavailable": Unavailable}


class Link:
    """A connection to the keeper, after its greeting."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: dict[str, Any]) -> None:
        self.reader, self.writer = reader, writer
        self.version: int = hello["hello"]
        self.pid: int = hello["pid"]
        self.enforced = frozenset[str](hello["enforced"])
        self.watchers = Watchers()
        self.asked: dict[int, asyncio.Future[Any]] = {}
        self.number = 0
        self.reading = asyncio.create_task(self.read())

    @property
    def ended(self) -> bool:
        return self.reading.done()

    async def ask(self, do: str, limit: float, **order: Any) -> Any:
        """Give an order; what it came to. Refuses what the keeper refuses, and Unavailable when it is gone.

        One that says nothing for `limit` seconds is as good as gone: the link to it ends.
        """
        if self.ended:
            raise gone()
        self.number += 1
        number, answer = self.number, asyncio.get_running_loop().create_future()
        self.asked[number] = answer
        try:
            self.writer.write(json.dumps({"n": number, "do": do, **order}).encode() + b"\n")
            async with asyncio.timeout(limit):
                return await answer
        except TimeoutError:
            self.writer.transport.abort()
            raise Unavailable("driver.unavailable", "The keeper of the droplets does not answer") from None
        finally:
            del self.asked[number]

    async def read(self) -> None:
        """Hand out answers and news until the keeper is gone."""
        try:
            while line := await self.reader.readline():
                self.take(msgspec.json.decode(line))
        except OSError:
            pass  # the same as an end: whoever waits is told
        finally:
            self.writer.close()
            self.watchers.tell(gone())
            for each in self.asked.values():
                if not each.done():
                    each.set_exception(gone())

    def take(self, message: dict[str, Any]) -> None:
        if "seen" in message:
            self.watchers.tell(msgspec.convert(message["seen"], Seen))
            return
        answer = self.asked.get(message["n"])
        if answer is None or answer.done():
            return  # who asked has gone away
        if "no" in message:
            meaning, code, text = message["no"]
            answer.set_exception(MEANINGS[meaning](code, text))
        else:
            answer.set_result(message["ok"])

    async def close(self) -> None:
        self.writer.close()
        self.reading.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await self.reading
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def gone() -> Unavailable:
    return Unavailable("driver.unavailable", "The keeper of the droplets has ended")


async def connect(state: Path) -> Link:
    """A link to who keeps the droplets of `state`. Raises OSError where nobody does."""
    directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:  # by way of a descriptor: a path may be longer than a socket's may be
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/keeper", limit=LINE)
    finally:
        os.close(directory)
    peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("3i", peer)
    try:
        if uid not in (0, os.geteuid()):
            raise PermissionError(f"who listens at {state / 'keeper'} is user {uid}, not us")
        if not (hello := await reader.readline()):
            raise ConnectionResetError("the keeper ended as it was reached")
    except BaseException:
        writer.close()
        raise
    return Link(reader, writer, msgspec.json.decode(hello))


async def launch(state: Path) -> None:
    """Start a keeper; returns when it can be reached, or when there is one already that will soon be, or is leaving."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", START, str(ROOT), str(state),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        start_new_session=True, cwd="/", env={},
    )  # fmt: skip
    _, said = await process.communicate()
    if process.returncode == 3:
        await asyncio.sleep(BETWEEN)
    elif process.returncode:
        raise OSError(said.decode(errors="replace").strip().splitlines()[-1])
