"""The driver of containers. The engine keeps everything; labels say what is ours, and nothing else is touched."""

import asyncio
import re
import signal as signals
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Literal

from ostiary.core.refusal import Conflict, Invalid, NotFound, Refusal, Unavailable
from ostiary.drivers.docker.container import DROPLET, NODE, body, seen, usage
from ostiary.drivers.docker.engine import Engine, clock, filters
from ostiary.drivers.docker.logs import Counted, Entry, Read, Streams, entry, frames
from ostiary.drivers.port import Image, Printed, Seen, Spec, Usage

Pull = Literal["missing", "never", "always"]
IMAGE = re.compile(r"[a-z0-9](?:[\w.:@-]|/(?!\.))*\Z", re.ASCII | re.IGNORECASE)
"""What can be an image's name, so that none leads elsewhere in the engine's paths."""
LIMITS = {"memory": "MemoryLimit", "cpu": "CpuCfsQuota", "pids": "PidsLimit"}
"""What the engine says of what it can limit."""
LOGS = ("local", "json-file")
"""Drivers of logs: Docker's own, which keeps every byte; the other, which all have, replaces what is not UTF-8."""
GRACE = 10_000_000
"""Microseconds that droplets have to end when all are stopped."""
TRIES = (0.02, 0.05, *(0.1 for _ in range(100)))
"""Seconds between tries where the engine is busy with the same container."""
CREATE, ENDS, STARTS, REMOVALS = "create", ("die", "died"), ("start",), ("destroy", "remove")
"""Events, in Docker's words and Podman's."""


class DockerDriver:
    """Droplets as containers of the engine at `socket`, marked as those of `node`."""

    def __init__(self, socket: str, node: str, pull: Pull = "missing") -> None:
        self.engine = Engine(socket)
        self.node, self.pull = node, pull
        self.limited: frozenset[str] = frozenset()
        self.log = LOGS[0]
        self.known: dict[str, str] = {}
        """Droplet -> its container when that was last seen: who has just made it need not look for it."""

    @property
    def name(self) -> str:
        return "docker"

    @property
    def enforced(self) -> frozenset[str]:
        return self.limited

    @property
    def tails(self) -> bool:
        """Whether it can be asked for the end of a log. Podman 4.3 then runs lines of both streams into each other."""
        return self.log == LOGS[0]

    async def open(self) -> None:
        await self.engine.check()
        told = await self.engine.ask("GET", "/info")
        self.limited = frozenset(each for each, key in LIMITS.items() if told.get(key))
        self.log = LOGS[0] if LOGS[0] in (told.get("Plugins") or {}).get("Log", ()) else LOGS[1]

    async def close(self, *, stop: bool) -> None:
        try:
            if stop:
                await asyncio.gather(*(self.stop(each, "TERM", GRACE) for each in await self.ours()))
        finally:
            await self.engine.close()

    async def images(self) -> Sequence[Image]:
        found = await self.engine.ask("GET", "/images/json", prompt=True)
        return [Image(each["Id"], tuple(each.get("RepoTags") or ()), each["Size"]) for each in found]

    # Which are ours

    async def ours(self, *labels: str) -> dict[str, str]:
        """Droplet -> container, of this node; without those that are being removed."""
        found = await self.labelled(*labels)
        there = {each["Labels"][DROPLET]: each["Id"] for each in found if each["State"] != "removing"}
        self.known |= there
        return there

    async def labelled(self, *labels: str) -> list[dict[str, Any]]:
        wanted = filters(label=[f"{NODE}={self.node}", DROPLET, *labels])
        found: list[dict[str, Any]] = await self.engine.ask("GET", "/containers/json", query={"all": "true", **wanted})
        return found

    async def container(self, droplet: str) -> str:
        """The path of a droplet's container. Refuses NotFound."""
        found = await self.ours(f"{DROPLET}={droplet}")
        if droplet not in found:
            raise NotFound("droplet.gone", f"There is no container of droplet {droplet}")
        return f"/containers/{found[droplet]}"

    async def inspect(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.engine.ask("GET", f"{path}/json")
        return found

    async def look(self) -> Mapping[str, Seen]:
        found = await asyncio.gather(*(self.see(each) for each in (await self.ours()).values()))
        return {each.droplet: each for each in found if each is not None}

    async def see(self, container: str) -> Seen | None:
        try:
            return seen(await self.inspect(f"/containers/{container}"))
        except NotFound:
            return None  # it was removed in between

    # From create to remove

    async def create(self, spec: Spec) -> None:
        if any("\0" in each for each in (*spec.command, *spec.env, *spec.env.values())):
            raise Invalid("command.invalid", "Neither arguments nor environment can have a NUL character")
        if not IMAGE.match(spec.image):
            raise unknown(spec.image)
        made, name = body(spec, self.node, self.log), f"ostiary-{self.node}-{spec.droplet}"
        looks = spec.droplet in self.known or self.pull == "always"
        for pause in TRIES:
            if looks and await self.ours(f"{DROPLET}={spec.droplet}"):
                return
            looks = True
            try:
                self.known[spec.droplet] = await self.make(made, name)
                return
            except Conflict:  # there is one, or it is just being made or removed for somebody who was killed
                await asyncio.sleep(pause)
        raise Unavailable("driver.failed", f"There is another container that is called {name}")

    async def make(self, made: dict[str, Any], name: str) -> str:
        """Make a container, its image fetched as the settings say. Refuses Invalid `image.unknown`."""
        if self.pull == "always":
            await self.fetch(made["Image"])
        for fetched in (False, True):
            try:
                found: str = (await self.engine.ask("POST", "/containers/create", made, query={"name": name}))["Id"]
                return found
            except NotFound:
                if not fetched:
                    await self.fetch(made["Image"])
        raise unknown(made["Image"])

    async def fetch(self, image: str) -> None:
        """Have an image fetched. Refuses Invalid `image.unknown`."""
        if self.pull == "never":
            raise unknown(image)
        try:
            async with aclosing(self.engine.objects("POST", "/images/create", {"fromImage": tagged(image)})) as told:
                if any(["error" in each async for each in told]):
                    raise unknown(image)
        except (NotFound, Unavailable) as error:
            if error.code == "driver.unavailable":
                raise
            raise unknown(image) from error

    async def start(self, droplet: str) -> None:
        known = self.known.get(droplet)
        path = f"/containers/{known}" if known else await self.container(droplet)
        await self.engine.ask("POST", f"{path}/start")

    async def stop(self, droplet: str, signal: str, timeout: int) -> bool:
        number = named(signal)
        path = await self.container(droplet)
        ended = asyncio.create_task(self.engine.ask("POST", f"{path}/wait", endless=True))
        try:
            if not await self.send(path, number):
                return False
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(ended), timeout / 1_000_000)
                return False
            killed = await self.send(path, "SIGKILL")
            await ended
            return killed
        except NotFound:
            return False  # it was removed in between
        finally:
            ended.cancel()
            with suppress(asyncio.CancelledError, Refusal):
                await ended

    async def send(self, path: str, signal: str) -> bool:
        """Signal it; whether it runs."""
        if seen(await self.inspect(path)).state != "running":
            return False
        try:
            await self.engine.ask("POST", f"{path}/kill", query={"signal": signal})
        except (Conflict, Unavailable):
            if seen(await self.inspect(path)).state == "running":
                raise
            return False  # it ended in between
        return True

    async def remove(self, droplet: str) -> None:
        self.known.pop(droplet, None)
        for pause in TRIES:
            there = await self.labelled(f"{DROPLET}={droplet}")
            if not there:
                return
            for each in there:
                with suppress(NotFound, Conflict):  # Conflict: it is being removed already
                    await self.discard(f"/containers/{each['Id']}", each["State"])
            if await self.labelled(f"{DROPLET}={droplet}"):
                await asyncio.sleep(pause)
        raise Unavailable("driver.failed", f"The engine does not get done with removing droplet {droplet}")

    async def discard(self, path: str, state: str) -> None:
        """Remove a container, killed first: Podman would give it ten seconds to end."""
        if state == "running":
            await self.send(path, "SIGKILL")
        await self.engine.ask("DELETE", path, query={"force": "true", "v": "true"})

    # What is to be seen and read

    def watch(self) -> AsyncIterator[Seen]:
        return self.events(time.time_ns())

    async def events(self, since: int) -> AsyncIterator[Seen]:
        wanted = filters(type=["container"], label=[f"{NODE}={self.node}"])
        beat = asyncio.create_task(self.engine.beat())
        try:
            async with aclosing(self.engine.objects("GET", "/events", {"since": clock(since), **wanted})) as told:
                async for event in told:
                    found = await self.happened(event)
                    if found is not None:
                        yield found
        finally:
            beat.cancel()
        raise Unavailable("driver.unavailable", f"The container engine at {self.engine.socket} has ended")

    async def happened(self, event: dict[str, Any]) -> Seen | None:
        what, actor = action(event), event["Actor"]
        droplet = actor["Attributes"].get(DROPLET)
        if droplet is None or what not in (*ENDS, *STARTS, *REMOVALS, CREATE):
            return None
        if what == CREATE:
            return Seen(droplet, "created")
        if what in REMOVALS:
            return Seen(droplet, "gone")
        found, at = await self.see(actor["ID"]), event["timeNano"] // 1000
        if what in STARTS:
            return found if found is not None and found.state == "running" else Seen(droplet, "running", started=at)
        if what in ENDS and (found is None or found.state != "exited"):  # it runs again, or is gone already
            code = actor["Attributes"].get("exitCode", actor["Attributes"].get("containerExitCode"))
            return Seen(droplet, "exited", int(code) if code else None, finished=at)
        return found

    async def usage(self, droplet: str) -> Usage:
        path = await self.container(droplet)
        return usage(await self.engine.ask("GET", f"{path}/stats", query={"stream": "false", "one-shot": "true"}))

    async def logs(self, droplet: str, tail: int) -> Sequence[bytes]:
        return [each.line for each in await self.printed(droplet, tail)]

    async def printed(self, droplet: str, tail: int) -> Sequence[Printed]:
        streams, found, last = Streams(), list[Printed](), None
        wanted = {"tail": str(tail) if self.tails else "all"}
        async with aclosing(self.said(await self.container(droplet), wanted)) as said:
            async for each in said:
                last = each.at // 1000
                found += [Printed(last, line) for line in streams.feed(each)]
        return (found + [Printed(last, line) for line in streams.end()])[-tail:] if tail else []

    async def follow(self, droplet: str, tail: int) -> AsyncIterator[bytes]:
        """One stream of the engine a life: it ends with the container's, and begins anew where it ended."""
        path, streams = await self.container(droplet), Streams()
        read = Read(tail, 0 if tail else time.time_ns()) if self.tails else Counted()
        began: int | None = await self.began(path)
        if not self.tails:
            async with aclosing(self.said(path, read.wanted())) as said:
                past = [line async for each in said if read.new(each) for line in streams.feed(each)]
            for line in past[-tail:] if tail else ():
                yield line
        while began is not None:
            async with aclosing(self.said(path, {"follow": "true", **read.wanted()})) as said:
                async for each in said:
                    for line in streams.feed(each) if read.new(each) else ():
                        yield line
            for line in streams.end():
                yield line
            began = await self.again(path, began)

    async def began(self, path: str) -> int:
        """When its last life began; 0: it has had none."""
        return seen(await self.inspect(path)).started or 0

    async def again(self, path: str, before: int) -> int | None:
        """Wait until it runs, or has run, in another life than the one that began `before`; None: it was removed."""
        now = time.time_ns()
        try:
            found = seen(await self.inspect(path))
            if found.state == "running" or (found.started or 0) != before:
                return found.started or 0
            wanted = filters(type=["container"], container=[path.rpartition("/")[2]])
            async with aclosing(self.engine.objects("GET", "/events", {"since": clock(now), **wanted})) as told:
                async for event in told:
                    if action(event) in REMOVALS:
                        return None
                    if action(event) in STARTS:
                        return await self.began(path)
        except NotFound:
            return None
        raise Unavailable("driver.unavailable", f"The container engine at {self.engine.socket} has ended")

    async def said(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[Entry, None]:
        """Entries of a log."""
        wanted = {"stdout": "true", "stderr": "true", "timestamps": "true", **query}
        try:
            async with (
                self.engine.stream("GET", f"{path}/logs", query=wanted) as answer,
                aclosing(frames(answer.aiter_raw())) as found,
            ):
                async for stream, frame in found:
                    yield entry(stream, frame)
        except (NotFound, Conflict):
            return  # it was removed in between, or just is


def unknown(image: str) -> Invalid:
    """What is said of an image that cannot be had."""
    return Invalid("image.unknown", f"No such image: {image}")


def action(event: dict[str, Any]) -> str:
    """What happened."""
    told: str = event.get("Action", event.get("status", ""))
    return told


def tagged(image: str) -> str:
    """An image's name with a tag: without one, all tags would be fetched."""
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


def named(signal: str) -> str:
    """A signal's whole name. Refuses Invalid."""
    name = f"SIG{signal.removeprefix('SIG')}"
    if name not in signals.Signals.__members__:
        raise Invalid("signal.unknown", f"No such signal: {signal}")
    return name
