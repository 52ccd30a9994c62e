"""The Docker Engine API over a Unix socket, version 1.41: requests, streams, and what its errors mean.

No client library: aiodocker decodes logs as UTF-8, which binary output is not, and says little of its types; what is
needed here is a dozen requests.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec

from ostiary.core.refusal import Conflict, Invalid, NotFound, Refusal, Unavailable

VERSION = (1, 41)
PATIENCE = httpx2.Timeout(60, connect=5)
"""Seconds. An engine under load takes some to make a container."""
PULSE, SILENCE = 2.0, 8.0
"""Seconds between two looks whether it still answers, and that an answer may take: without work it is there at once."""
ENDLESS = httpx2.Timeout(None, connect=5)
"""Of what says something when something happens."""


class Engine:
    """A connection to an engine. Everything refuses Unavailable `driver.unavailable` when it cannot be reached."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self.silence = SILENCE
        self.limits: set[asyncio.Timeout] = set()
        """Of all that is being asked."""
        self.client = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=socket, limits=httpx2.Limits(max_keepalive_connections=8)),
            base_url="http://engine",
            timeout=PATIENCE,
            trust_env=False,
        )

    async def close(self) -> None:
        await self.client.aclose()

    async def check(self) -> None:
        """Refuses an engine that is too old."""
        spoken = (await self.ask("GET", "/version", versioned=False))["ApiVersion"]
        if tuple(map(int, spoken.split("."))) < VERSION:
            raise Unavailable("driver.unavailable", f"The engine at {self.socket} speaks API {spoken}, 1.41 is needed")

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] = {},
        versioned: bool = True,
        endless: bool = False,
        prompt: bool = False,
    ) -> Any:
        """A request and its answer's JSON; None: there is none. `prompt`: it is no work, and not waited for long."""
        asked = self.stream(method, path, body, query=query, versioned=versioned, endless=endless)
        async with self.asking(self.silence if prompt else None), asked as answer:
            data = await answer.aread()
        # Podman does not always say what it sends.
        return msgspec.json.decode(data) if data and answer.headers.get("Content-Type", JSON).startswith(JSON) else None

    @asynccontextmanager
    async def asking(self, seconds: float | None = None) -> AsyncIterator[None]:
        """Wait for the engine until `beat` gives it up, and no longer than `seconds`."""
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                self.limits.add(limit)
                yield
        except TimeoutError as late:
            raise Unavailable("driver.unavailable", f"The container engine at {self.socket} does not answer") from late
        finally:
            self.limits.discard(limit)

    async def beat(self) -> None:
        """Return when it does not answer any more, as one that was stopped or hangs; what is asked is given up then."""
        answers = True
        while answers:
            await asyncio.sleep(PULSE)
            answers = await self.alive()
        for each in self.limits:
            each.reschedule(asyncio.get_running_loop().time())

    async def alive(self) -> bool:
        try:
            await self.ask("GET", "/_ping", versioned=False, prompt=True)
        except Refusal:
            return False
        return True

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] = {},
        versioned: bool = True,
        endless: bool = True,
    ) -> AsyncIterator[httpx2.Response]:
        """A request whose answer is read as it comes."""
        prefix = "/v1.41" if versioned else ""
        content = None if body is None else json.dumps(body).encode()
        request = self.client.build_request(
            method,
            prefix + path,
            params=query,
            content=content,
            headers={"Content-Type": JSON} if body is not None else {},
            timeout=ENDLESS if endless else PATIENCE,
        )
        try:
            answer = await self.client.send(request, stream=True)
            try:
                if answer.status_code >= 400:
                    raise refused(answer.status_code, await answer.aread())
                yield answer
            finally:
                await answer.aclose()
        except httpx2.TransportError as error:
            why = str(error) or type(error).__name__
            raise Unavailable(
                "driver.unavailable", f"The container engine at {self.socket} cannot be reached: {why}"
            ) from error

    async def objects(self, method: str, path: str, query: Mapping[str, str]) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON objects of a stream, as they come."""
        async with self.stream(method, path, query=query) as answer:
            lines = answer.aiter_lines()
            while (line := await self.next(lines)) is not None:
                if line:
                    yield msgspec.json.decode(line)

    async def next(self, lines: AsyncIterator[str]) -> str | None:
        """The next line; None: there are no more."""
        async with self.asking():
            return await anext(lines, None)


JSON = "application/json"


def refused(status: int, body: bytes) -> Refusal:
    """What an error of the engine means. Programs and images that are not there are told in its words only."""
    try:
        text = msgspec.json.decode(body, type=Problem).message
    except msgspec.DecodeError:
        text = body[:200].decode(errors="replace")
    told = text.lower()
    if "no space left on device" in told:
        return Unavailable("disk.full", f"The engine's disk is full: {text}")
    if any(each in told for each in ("already allocated", "address already in use")):
        return Unavailable("port.taken", f"A port is taken: {text}")
    if any(each in told for each in ("permission denied", "exec format error", "is a directory")):
        return Invalid("command.refused", f"It cannot be run: {text}")
    if "exec" in told and any(each in told for each in ("executable file not found", "no such file or directory")):
        return Invalid("command.unknown", f"No such program: {text}")
    if "unable to find user" in told or "no matching entries in passwd" in told:
        return Invalid("user.unknown", f"No such user: {text}")
    if status == 409:
        return Conflict("engine.busy", f"The engine says: {text}")
    if status == 404 or "no such container" in told:
        return NotFound("droplet.gone", text)
    return Unavailable("driver.failed", f"The engine says: {text}")


class Problem(msgspec.Struct):
    """An error's body."""

    message: str


def filters(**wanted: list[str]) -> dict[str, str]:
    """The query that says which ones."""
    return {"filters": json.dumps(wanted)}


def clock(nanoseconds: int) -> str:
    """A time as queries want it."""
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09}"
