"""A whole Ostiary as people start it, a backend behind it, and clients in front of it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.listening import listening

OWNER = "bootstrap: {owner: {name: admin, password: change-me-please-1}}\n"
URI = "http://127.0.0.1:8000/"
"""Where the client applications have their users sent."""
LIMIT = 60.0
"""Seconds that anything may take at most; a machine that runs tests may be busy."""


class Answer:
    """What came back."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection that is kept. `token` goes with each request."""

    def __init__(self, url: str, token: str = "") -> None:
        self.place, self.token = urlsplit(url), token
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: object = None) -> Answer:
        async with asyncio.timeout(LIMIT):
            await self.send(method, path, body)
            return await self.answer()

    async def until(self, path: str, status: int) -> Answer:
        """Ask again and again, until the answer has this status."""
        async with asyncio.timeout(LIMIT):
            while (answer := await self.ask("GET", path)).status != status:
                pass
        return answer

    async def under_lease(self, path: str) -> Answer:
        """The answer of a worker that has a lease: on a busy machine control may be away for longer than one."""
        async with asyncio.timeout(LIMIT):
            while (answer := await self.ask("GET", path)).status == 503:
                pass
        return answer

    async def send(self, method: str, path: str, body: object = None) -> None:
        if self.streams is None:
            assert self.place.hostname is not None
            self.streams = await asyncio.open_connection(self.place.hostname, self.place.port)
        text = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        kind = "application/x-www-form-urlencoded" if isinstance(body, bytes) else "application/json"
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.place.netloc}", f"Content-Length: {len(text)}"]
        lines += [f"Content-Type: {kind}"] if text else []
        lines += [f"Authorization: Bearer {self.token}"] if self.token else []
        self.streams[1].write("\r\n".join([*lines, "", ""]).encode() + text)
        await self.streams[1].drain()

    async def answer(self) -> Answer:
        assert self.streams is not None
        reader = self.streams[0]
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(head[0].split()[1]), headers, body)

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


async def once(url: str, method: str, path: str, body: object = None, token: str = "") -> Answer:
    """One request on a connection of its own."""
    client = Client(url, token)
    try:
        return await client.ask(method, path, body)
    finally:
        client.close()


class Backend:
    """Answers `hello`; `/slow` only after `go` is set, and `arrived` tells that it waits for that."""

    def __init__(self) -> None:
        self.arrived, self.go = asyncio.Event(), asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b" /slow " in head:
                self.arrived.set()
                await self.go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


@asynccontextmanager
async def backend() -> AsyncIterator[Backend]:
    each = Backend()
    async with listening(each.serve) as listener:
        each.port = listener.port
        yield each
        each.go.set()


def configuration(port: int, more: str = OWNER, listen: str = "127.0.0.1:0") -> str:
    """A public route, one that takes a token, and a slow one."""
    return f"""
gateway: {{listen: "{listen}", drain_timeout: 15s}}
admin: {{listen: "127.0.0.1:0"}}
log: {{access: ""}}
dialects: {{apifest: {{trusted_networks: ["127.0.0.0/8"]}}}}
upstreams: {{here: {{servers: ["127.0.0.1:{port}"]}}}}
routes:
  - {{match: "GET /open", upstream: here}}
  - {{match: "GET /slow", upstream: here}}
  - {{match: "GET /closed", upstream: here, require: {{scope: basic}}}}
{more}"""


class Node:
    """A running `ostiary serve`."""

    def __init__(self, process: asyncio.subprocess.Process, place: Path) -> None:
        self.process, self.place = process, place
        self.gateway = self.admin = ""
        self.errors: list[str] = []

    async def up(self) -> None:
        """Wait until it says that it is ready."""
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT):
            for _ in range(2):
                name, _, url = (await self.process.stdout.readline()).decode().strip().partition(" ")
                assert name in ("gateway", "admin"), await self.said()
                setattr(self, name, url)

    async def said(self) -> str:
        """Everything on standard error, up to the end."""
        assert self.process.stderr is not None
        return (await asyncio.wait_for(self.process.stderr.read(), LIMIT)).decode()

    async def event(self, start: str) -> dict[str, Any]:
        """The next line of the log whose event begins with `start`."""
        assert self.process.stderr is not None
        async with asyncio.timeout(LIMIT):
            while line := (await self.process.stderr.readline()).decode():
                self.errors.append(line)
                found = json.loads(line) if line.startswith("{") else {}
                if str(found.get("event", "")).startswith(start):
                    return dict(found)
        raise AssertionError(f"no {start!r} in {self.errors}")

    def children(self, kind: str) -> list[int]:
        """Pids of control or of the workers."""
        pid = self.process.pid
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(each) for each in pids if f"ostiary.node\0{kind}\0" in Path(f"/proc/{each}/cmdline").read_text()]

    def configure(self, text: str) -> None:
        (self.place / "ostiary.yaml").write_text(text)

    async def reload(self) -> dict[str, Any]:
        """SIGHUP; the line with which the reload ended."""
        self.process.send_signal(signal.SIGHUP)
        return await self.event("Configuration reload ")

    async def client(self, **more: object) -> dict[str, str]:
        """Id and secret of an active client application that may have the scope `basic`."""
        scope = {"scope": "basic", "description": "b", "cc_expires_in": 900, "pass_expires_in": 900}
        assert (await once(self.admin, "POST", "/oauth20/scopes", scope)).status == 200
        return await self.another(**more)

    async def another(self, **more: object) -> dict[str, str]:
        """Another one, where the scope exists."""
        wanted = {"name": "app", "scope": "basic", "redirect_uri": URI, **more}
        client: dict[str, str] = (await once(self.admin, "POST", "/oauth20/applications", wanted)).json
        path = f"/oauth20/applications/{client['client_id']}"
        assert (await once(self.admin, "PUT", path, {"status": 1})).status == 200
        return client

    async def token(self) -> str:
        """An access token that `/closed` takes."""
        form = urlencode({"grant_type": "client_credentials", **await self.client()}).encode()
        return str((await once(self.gateway, "POST", "/oauth20/tokens", form)).json["access_token"])

    async def revoke(self, token: str) -> Answer:
        return await once(self.admin, "POST", "/oauth20/tokens/revoke", {"access_token": token})


async def ostiary(place: Path, *words: str) -> tuple[int, str, str]:
    """Run `ostiary WORDS` to its end: its status, standard output and standard error."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ostiary", *words, cwd=place, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
    )
    out, err = await asyncio.wait_for(process.communicate(), LIMIT)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def serving(place: Path, *words: str) -> AsyncIterator[Node]:
    """`ostiary serve` in `place`, killed at the end if it still runs; then all its processes are gone."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ostiary", "serve", *words,
        cwd=place, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe,
    )  # fmt: skip
    node = Node(process, place)
    try:
        await node.up()
        yield node
    finally:
        with suppress(ProcessLookupError, FileNotFoundError):  # it may have ended by itself
            for child in [*node.children("worker"), *node.children("control")]:
                os.kill(child, signal.SIGCONT)
            process.terminate()
        await asyncio.wait_for(process.communicate(), LIMIT)
