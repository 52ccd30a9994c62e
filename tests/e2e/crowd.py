"""Many requests at once over many connections: a client that costs little, so that the node is what is busy."""

import asyncio
import base64
import json
from collections.abc import Callable, Sequence
from typing import cast
from urllib.parse import urlencode, urlsplit

from tests.e2e.house import LIMIT, Answer

FORM, JSON = "application/x-www-form-urlencoded", "application/json"


def request(method: str, path: str, body: object = None, **headers: str) -> bytes:
    """A whole request; a `body` of pairs is a form, bytes are sent as they are, anything else is JSON."""
    text = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(text)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None and "Content_Type" not in headers:
        lines.append(f"Content-Type: {JSON}")
    return "\r\n".join([*lines, "", ""]).encode() + text


def form(path: str, **fields: str) -> bytes:
    """A form that is posted."""
    return request("POST", path, urlencode(fields).encode(), Content_Type=FORM)


def bearer(path: str, token: str) -> bytes:
    """A request with an access token."""
    return request("GET", path, Authorization=f"Bearer {token}")


def basic(name: str, password: str) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.waiting: asyncio.Future[Answer | None] | None = None
        self.transport: asyncio.Transport

    def ask(self, data: bytes) -> "asyncio.Future[Answer | None]":
        """The answer; None when the connection is lost before it."""
        self.waiting = asyncio.get_running_loop().create_future()
        if self.transport.is_closing():
            self._done(None)
        else:
            self.transport.write(data)
        return self.waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        if found and len(rest) >= length:
            self.buffer = bytearray(rest[length:])
            if headers.get("connection") == "close":
                self.transport.close()
            self._done(Answer(int(lines[0].split()[1]), headers, rest[:length]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._done(None)

    def _done(self, answer: Answer | None) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(answer)


class Crowd:
    """Connections to one listener. Use as an asynchronous context."""

    def __init__(self, url: str, size: int) -> None:
        place = urlsplit(url)
        self.host, self.port, self.size = place.hostname or "", place.port or 0, size
        self.connections: list[Connection] = []

    async def __aenter__(self) -> "Crowd":
        self.connections = [await self._connect() for _ in range(self.size)]
        return self

    async def __aexit__(self, *error: object) -> None:
        for each in self.connections:
            each.transport.close()

    async def _connect(self) -> Connection:
        _, made = await asyncio.get_running_loop().create_connection(Connection, self.host, self.port)
        return made

    async def ask(
        self, requests: Sequence[bytes], told: Callable[[Answer | None], None] = lambda answer: None
    ) -> list[Answer | None]:
        """The answers, in order; None for what got none. `told` hears of each as it comes.

        As many requests as there are connections are under way at once, the first of them within one turn of the loop.
        """
        answers: list[Answer | None] = [None] * len(requests)
        left = iter(enumerate(requests))

        async def go_on(place: int) -> None:
            for number, data in left:
                if self.connections[place].transport.is_closing():
                    self.connections[place] = await self._connect()
                answers[number] = await self.connections[place].ask(data)
                told(answers[number])

        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*(go_on(place) for place in range(min(self.size, len(requests)))))
        return answers

    async def answers(self, requests: Sequence[bytes]) -> list[Answer]:
        """The answers, in order: to every one of them."""
        found = await self.ask(requests)
        whole = [answer for answer in found if answer is not None]
        assert len(whole) == len(found), f"{found.count(None)} of {len(found)} requests got no answer"
        return whole


async def each(url: str, requests: Sequence[bytes], size: int = 32) -> list[Answer]:
    """The answers to all of them, over at most `size` connections."""
    async with Crowd(url, min(size, len(requests))) as crowd:
        return await crowd.answers(requests)
