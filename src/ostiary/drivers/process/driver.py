"""The driver of local processes: asks the keeper, which does it; reads logs by itself.

The keeper belongs to nobody: it is started where there is none, and found again by who opens the driver next.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal as signals
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ostiary.core.refusal import Invalid, NotFound, Unavailable
from ostiary.drivers.port import Image, Printed, Seen, Spec, Usage
from ostiary.drivers.process.keeper import ID, VERSION
from ostiary.drivers.process.link import Link, connect, launch
from ostiary.drivers.process.logs import Log

PATIENCE = 10.0
"""Seconds for a keeper to come up."""
GRACE = 10_000_000
"""Microseconds that droplets have to end when all are stopped."""
SILENCE = 20.0
"""Seconds in which an order is answered, beside those that it may take."""
PULSE = 0.2
"""Seconds between two looks at a log that is followed."""
INHERITED = ("PATH", "LANG", "TZ")


class ProcessDriver:
    """Droplets as processes of this machine. `state`: a directory of its own; `environment`: this process's, of which
    droplets get PATH, LANG and TZ; `silence`: seconds after which a keeper that says nothing is as good as gone."""

    def __init__(self, state: Path, environment: Mapping[str, str], silence: float = SILENCE) -> None:
        self.state = state.resolve()
        self.silence = silence
        self.environment = {key: environment[key] for key in INHERITED if key in environment}
        self.link: Link | None = None
        self.opening = asyncio.Lock()

    @property
    def name(self) -> str:
        return "process"

    @property
    def enforced(self) -> frozenset[str]:
        return self.link.enforced if self.link is not None else frozenset()

    # The keeper

    async def open(self) -> None:
        async with self.opening:
            if self.link is not None and not self.link.ended:
                return
            try:
                async with asyncio.timeout(PATIENCE):
                    self.link = await self.reach()
            except TimeoutError as error:
                raise Unavailable("driver.unavailable", f"No keeper of droplets comes up at {self.state}") from error
            except OSError as error:
                raise Unavailable("driver.unavailable", f"No keeper of droplets at {self.state}: {error}") from error
            await asyncio.to_thread(sweep, self.state, ".*")

    async def reach(self) -> Link:
        """A link to the keeper; started where there is none, replaced where it is another version's."""
        self.state.mkdir(parents=True, exist_ok=True)
        self.state.chmod(0o711)
        while True:
            try:
                link = await connect(self.state)
            except (ConnectionError, FileNotFoundError):
                await launch(self.state)
                continue
            if link.version == VERSION:
                return link
            await link.ask("leave", self.silence)
            await link.close()

    async def close(self, *, stop: bool) -> None:
        link = self.link
        if link is None:
            return
        if stop and not link.ended:
            await asyncio.gather(*(self.stop(each, "TERM", GRACE) for each in await self.look()))
        self.link = None
        await link.close()

    async def ask(self, do: str, takes: float = 0.0, **order: Any) -> Any:
        """Give the keeper an order, which may take so many seconds."""
        return await self.linked().ask(do, takes + self.silence, **order)

    def linked(self) -> Link:
        if self.link is None:
            raise Unavailable("driver.unavailable", "The process driver is not open")
        return self.link

    # Droplets

    async def images(self) -> Sequence[Image]:
        return ()

    async def create(self, spec: Spec) -> None:
        if not spec.command:
            raise Invalid("command.missing", f"Droplet {spec.name} has no command to run")
        if any("\0" in each for each in (*spec.command, *spec.env, *spec.env.values())):
            raise Invalid("command.invalid", "Neither arguments nor environment can have a NUL character")
        await self.ask(
            "create",
            droplet=spec.droplet,
            command=spec.command,
            env={**self.environment, **spec.env, "DROPLET_ID": spec.droplet},
            limits=msgspec.to_builtins(spec.limits),
            user=account(spec.user) if spec.user else None,
        )

    async def start(self, droplet: str) -> None:
        await self.ask("start", droplet=droplet)

    async def stop(self, droplet: str, signal: str, timeout: int) -> bool:
        seconds = timeout / 1_000_000
        killed: bool = await self.ask("stop", seconds, droplet=droplet, signal=number(signal), seconds=seconds)
        return killed

    async def remove(self, droplet: str) -> None:
        await self.ask("remove", droplet=droplet)
        if ID.match(droplet):
            await asyncio.to_thread(sweep, self.state, f".{droplet}.*.old")

    async def look(self) -> Mapping[str, Seen]:
        found = msgspec.convert(await self.ask("look"), list[Seen])
        return {each.droplet: each for each in found}

    def watch(self) -> AsyncIterator[Seen]:
        link = self.linked()
        if link.ended:
            raise Unavailable("driver.unavailable", "The keeper of the droplets has ended")
        return link.watchers.join()

    async def usage(self, droplet: str) -> Usage:
        return msgspec.convert(await self.ask("usage", droplet=droplet), Usage)

    # Logs

    async def logs(self, droplet: str, tail: int) -> Sequence[bytes]:
        return [each.line for each in await self.printed(droplet, tail)]

    async def printed(self, droplet: str, tail: int) -> Sequence[Printed]:
        return await asyncio.to_thread(last, self.place(droplet), tail)

    async def follow(self, droplet: str, tail: int) -> AsyncIterator[bytes]:
        place = self.place(droplet)
        with contextlib.closing(Log(place)) as log:
            for each in await asyncio.to_thread(log.last, tail):
                yield each.line
            there = True
            while there:
                there = place.exists()
                for line in await asyncio.to_thread(log.more):
                    yield line
                if there:
                    await asyncio.sleep(PULSE)
            for line in log.lines.end():
                yield line

    def place(self, droplet: str) -> Path:
        """The directory of a droplet, named for nothing but its id."""
        place = self.state / droplet
        if not ID.match(droplet) or not place.exists():
            raise NotFound("droplet.gone", f"There is no droplet {droplet}")
        return place


def last(place: Path, tail: int) -> list[Printed]:
    """The last lines of a log, with the one that is not ended yet."""
    with contextlib.closing(Log(place)) as log:
        found = log.last(tail)
        at = found[-1].at if found else None
        return (found + [Printed(at, line) for line in log.lines.end()])[-tail:] if tail else []


def sweep(state: Path, pattern: str) -> None:
    """Delete what was put aside, or half made when its keeper was killed."""
    for each in state.glob(pattern):
        if each.suffix in (".old", ".new"):
            shutil.rmtree(each, ignore_errors=True)


def account(user: str) -> tuple[int, int, list[int]]:
    """User, group and further groups of a name of this machine's. Refuses Invalid."""
    try:
        found = pwd.getpwnam(user)
    except KeyError as error:
        raise Invalid("user.unknown", f"No such user: {user}") from error
    if os.geteuid() == found.pw_uid:
        return found.pw_uid, os.getegid(), os.getgroups()
    if os.geteuid():
        raise Invalid("user.forbidden", f"Only root can run a droplet as {user}; Ostiary runs as user {os.geteuid()}")
    return found.pw_uid, found.pw_gid, os.getgrouplist(user, found.pw_gid)


def number(signal: str) -> int:
    """The number of a signal's name. Refuses Invalid."""
    try:
        return signals.Signals[f"SIG{signal.removeprefix('SIG')}"].value
    except KeyError as error:
        raise Invalid("signal.unknown", f"No such signal: {signal}") from error
