"""The driver of containers. The engine keeps everything; labels say what is ours, and nothing else is touched."""

import asyncio
import re
import signal as signals
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

from ostiary.core.refusal import Invalid, NotFound, Refusal, Unavailable
from ostiary.drivers.docker.container import DROPLET, NODE, body, seen, usage
from ostiary.drivers.docker.engine import Engine, clock, filters
from ostiary.drivers.docker.logs import entry, frames
from ostiary.drivers.lines import Lines
from ostiary.drivers.port import Image, Seen, Spec, Usage

Pull = Literal["missing", "never", "always"]
IMAGE = re.compile(r"[a-z0-9](?:[\w.:@-]|/(?!\.))*\Z", re.ASCII | re.IGNORECASE)
"""What can be an image's name, so that none leads elsewhere in the engine's paths."""
LIMITS = {"memory": "MemoryLimit", "cpu": "CpuCfsQuota", "pids": "PidsLimit"}
"""What the engine says of what it can limit."""
GRACE = 10_000_000
"""Microseconds that droplets have to end when all are stopped."""
ENDS, STARTS, REMOVALS = ("die", "died"), ("start",), ("destroy", "remove")
"""Events, in Docker's words and Podman's."""


class DockerDriver:
    """Droplets as containers of the engine at `socket`, marked as those of `node`."""

    def __init__(self, socket: str, node: str, pull: Pull = "missing") -> None:
        self.engine = Engine(socket)
        self.node, self.pull = node, pull
        self.limited: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return "docker"

    @property
    def enforced(self) -> frozenset[str]:
        return self.limited

    async def open(self) -> None:
        await self.engine.check()
        told = await self.engine.ask("GET", "/info")
        self.limited = frozenset(each for each, key in LIMITS.items() if told.get(key))

    async def close(self, *, stop: bool) -> None:
        try:
            if stop:
                await asyncio.gather(*(self.stop(each, "TERM", GRACE) for each in await self.ours()))
        finally:
            await self.engine.close()

    async def images(self) -> Sequence[Image]:
        found = await self.engine.ask("GET", "/images/json")
        return [Image(each["Id"], tuple(each.get("RepoTags") or ()), each["Size"]) for each in found]

    # Which are ours

    async def ours(self, *labels: str) -> dict[str, str]:
        """Droplet -> container, of this node."""
        wanted = filters(label=[f"{NODE}={self.node}", DROPLET, *labels])
        found = await self.engine.ask("GET", "/containers/json", query={"all": "true", **wanted})
        return {each["Labels"][DROPLET]: each["Id"] for each in found}

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
        if await self.ours(f"{DROPLET}={spec.droplet}"):
            return
        await self.fetch(spec.image)
        await self.engine.ask(
            "POST", "/containers/create", body(spec, self.node), query={"name": f"ostiary-{self.node}-{spec.droplet}"}
        )

    async def fetch(self, image: str) -> None:
        """See to it that an image is there. Refuses Invalid `image.unknown`."""
        missing = Invalid("image.unknown", f"No such image: {image}")
        if not IMAGE.match(image):
            raise missing
        if self.pull != "always" and await self.there(image):
            return
        if self.pull == "never":
            raise missing
        try:
            async for each in self.engine.objects("POST", "/images/create", {"fromImage": tagged(image)}):
                if "error" in each:
                    raise missing
        except (NotFound, Unavailable) as error:
            if error.code == "driver.unavailable":
                raise
            raise missing from error

    async def there(self, image: str) -> bool:
        try:
            await self.engine.ask("GET", f"/images/{image}/json")
        except NotFound:
            return False
        return True

    async def start(self, droplet: str) -> None:
        await self.engine.ask("POST", f"{await self.container(droplet)}/start")

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
        except Unavailable:
            if seen(await self.inspect(path)).state == "running":
                raise
            return False  # it ended in between
        return True

    async def remove(self, droplet: str) -> None:
        for container in (await self.ours(f"{DROPLET}={droplet}")).values():
            with suppress(NotFound):
                await self.engine.ask("DELETE", f"/containers/{container}", query={"force": "true", "v": "true"})

    # What is to be seen and read

    def watch(self) -> AsyncIterator[Seen]:
        return self.events(time.time_ns())

    async def events(self, since: int) -> AsyncIterator[Seen]:
        wanted = filters(type=["container"], label=[f"{NODE}={self.node}"])
        async for event in self.engine.objects("GET", "/events", {"since": clock(since), **wanted}):
            found = await self.happened(event)
            if found is not None:
                yield found
        raise Unavailable("driver.unavailable", f"The container engine at {self.engine.socket} has ended")

    async def happened(self, event: dict[str, Any]) -> Seen | None:
        action, actor = event.get("Action", event.get("status")), event["Actor"]
        droplet = actor["Attributes"].get(DROPLET)
        if droplet is None or action not in (*ENDS, *STARTS, *REMOVALS):
            return None
        found = None if action in REMOVALS else await self.see(actor["ID"])
        if found is None:
            return Seen(droplet, "gone") if action in REMOVALS else None
        if action in ENDS and found.state != "exited":  # it runs again already
            code = actor["Attributes"].get("exitCode", actor["Attributes"].get("containerExitCode"))
            return Seen(droplet, "exited", int(code) if code else None, finished=event["timeNano"] // 1000)
        return found

    async def usage(self, droplet: str) -> Usage:
        path = await self.container(droplet)
        return usage(await self.engine.ask("GET", f"{path}/stats", query={"stream": "false", "one-shot": "true"}))

    async def logs(self, droplet: str, tail: int) -> Sequence[bytes]:
        lines, path = Lines(), await self.container(droplet)
        found = [line async for _, text in self.said(path, {"tail": str(tail)}) for line in lines.feed(text)]
        return (found + lines.end())[-tail:] if tail else []

    async def follow(self, droplet: str, tail: int) -> AsyncIterator[bytes]:
        """One stream of the engine a life: it ends with the container's, and begins anew where it ended."""
        path, last, lines, first = await self.container(droplet), 0, Lines(), str(tail)
        going = True
        while going:
            async for at, text in self.said(path, {"follow": "true", "tail": first, "since": clock(last)}):
                for line in lines.feed(text) if at > last else ():
                    yield line
                last = max(last, at)
            for line in lines.end():
                yield line
            first = "all"
            going = await self.again(path)

    async def again(self, path: str) -> bool:
        """Wait until a container runs again; False: it was removed."""
        now = time.time_ns()
        wanted = filters(type=["container"], container=[path.rpartition("/")[2]])
        try:
            if seen(await self.inspect(path)).state == "running":
                return True
        except NotFound:
            return False
        async for event in self.engine.objects("GET", "/events", {"since": clock(now), **wanted}):
            if event.get("Action", event.get("status")) in (*STARTS, *REMOVALS):
                return event.get("Action", event.get("status")) in STARTS
        raise Unavailable("driver.unavailable", f"The container engine at {self.engine.socket} has ended")

    async def said(self, path: str, query: Mapping[str, str]) -> AsyncIterator[tuple[int, bytes]]:
        """Entries of a log with their times."""
        wanted = {"stdout": "true", "stderr": "true", "timestamps": "true", **query}
        try:
            async with self.engine.stream("GET", f"{path}/logs", query=wanted) as answer:
                async for frame in frames(answer.aiter_raw()):
                    yield entry(frame)
        except NotFound:
            return  # it was removed in between


def tagged(image: str) -> str:
    """An image's name with a tag: without one, all tags would be fetched."""
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


def named(signal: str) -> str:
    """A signal's whole name. Refuses Invalid."""
    name = f"SIG{signal.removeprefix('SIG')}"
    if name not in signals.Signals.__members__:
        raise Invalid("signal.unknown", f"No such signal: {signal}")
    return name
