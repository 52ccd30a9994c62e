"""Thousands of requests, pipelined over kept connections to every worker; and which worker gave which answer."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from typing import cast
from urllib.parse import urlsplit

from tests.e2e.crowd import request
from tests.e2e.house import LIMIT

ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) .*?content-length: (\d+)\r\n.*?x-request-id: \w{12}(\w+)-.*?\r\n\r\n", re.S)
"""A head. A worker's number is in the request ids that it gives."""

Answers = Counter[tuple[int, bytes]]
"""How many answers had this status and body."""


class Lane(asyncio.Protocol):
    """One kept connection, always to the same worker; `answers` are complete when `all_in` is done."""

    def __init__(self) -> None:
        self.worker = 0
        self.buffer = b""
        self.expected = 0
        self.heads: list[bytes] = []
        self.answers: Answers = Counter()
        self.all_in: asyncio.Future[None]
        self.transport: asyncio.Transport

    def send(self, requests: bytes, count: int) -> "asyncio.Future[None]":
        """Write `count` requests; done when all have their answers."""
        self.expected, self.heads, self.answers = count, [], Counter()
        self.all_in = asyncio.get_running_loop().create_future()
        self.transport.write(requests)
        return self.all_in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        at = 0
        while (head := ANSWER.match(self.buffer, at)) and head.end() + int(head[2]) <= len(self.buffer):
            at = head.end() + int(head[2])
            self.worker = int(head[3], 16)
            self.heads.append(head[0])
            self.answers[int(head[1]), self.buffer[head.end() : at]] += 1
        self.buffer = self.buffer[at:]
        if len(self.heads) == self.expected and not self.all_in.done():
            self.all_in.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.all_in.done():
            self.all_in.set_exception(ConnectionError(f"lost after {len(self.heads)} of {self.expected} answers"))


class Volley:
    """Lanes to every one of `workers` workers. Use as an asynchronous context."""

    def __init__(self, url: str, workers: int, each: int = 4) -> None:
        place = urlsplit(url)
        self.host, self.port = place.hostname or "", place.port or 0
        self.workers, self.each = workers, each
        self.lanes: list[Lane] = []

    async def __aenter__(self) -> "Volley":
        async with asyncio.timeout(LIMIT):
            while min(self.reach().values()) < self.each:
                await self._open()
        return self

    async def __aexit__(self, *error: object) -> None:
        for lane in self.lanes:
            lane.transport.close()

    def reach(self) -> Counter[int]:
        """How many lanes lead to each worker."""
        found = Counter(lane.worker for lane in self.lanes)
        return Counter({number: found[number] for number in range(1, self.workers + 1)})

    async def _open(self) -> None:
        _, lane = await asyncio.get_running_loop().create_connection(Lane, self.host, self.port)
        await lane.send(request("GET", "/open"), 1)
        self.lanes.append(lane)

    async def fire(self, requests: Sequence[bytes], count: int) -> Answers:
        """The answers to these requests, `count` in all or a few more, spread over all lanes."""
        times = -(-count // (len(self.lanes) * len(requests)))
        data = b"".join(requests) * times
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*(lane.send(data, times * len(requests)) for lane in self.lanes))
        return sum((lane.answers for lane in self.lanes), Counter())
