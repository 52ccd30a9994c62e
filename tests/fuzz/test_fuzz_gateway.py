"""Whatever is said, by clients or by backends: it is answered or closed, nothing is smuggled, and the worker lives on.

One worker takes everything, so that what one input leaves behind meets the next. Inputs are drawn by hypothesis from
the pieces that requests are made of, and by a mutator with a fixed seed from whole requests and answers.
"""

import asyncio
import gc
import random
import re
import resource
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.gateway.door import Line, door
from tests.gateway.wire import Recorder, backend, connected, ok, read_body, read_head, recording
from tests.undisturbed import undisturbed

from ostiary.core.snapshot import Gateway, Plugin, Policy, Upstream
from ostiary.gateway.worker import Worker

MIB = 1 << 20
SHORT = 400_000
GATEWAY = Gateway(
    access_log="", head_timeout=SHORT, body_timeout=SHORT, idle_timeout=SHORT, write_timeout=SHORT,
    tunnel_timeout=SHORT, max_head=4096, max_headers=30, max_body=100_000, max_buffered_body=1000, max_connections=200,
)  # fmt: skip
LINES = [
    Line("* /a", "/b"),
    Line("GET /v/{name}", "/n/{name}"),
    Line("* /mine", "/b", policy=Policy(token="user")),
    Line("* /act", "/b", policy=Policy(actions=(Plugin("set_json_field", {"field": "f", "value": 1}),))),
    Line("* /filter", "/b", policy=Policy(filters=(Plugin("remove_json_field", {"field": "f"}),), errors={404: "{}"})),
    Line("* /head", "/b", policy=Policy(filters=(Plugin("set_header", {"name": "x-f", "value": "1"}),))),
    Line("* /wild", "/w", "w"),
    Line("* /wildfilter", "/w", "w", Policy(filters=(Plugin("set_json_field", {"field": "f", "value": 1}),))),
    Line("* /wildhead", "/w", "w", Policy(filters=(Plugin("set_header", {"name": "x-f", "value": "1"}),))),
]
MAPPED = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} /(?:b|n/[!-~]+)(?:\?[!-~]*)? HTTP/1\.1")
FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
GOOD = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

TOKENS = [
    b"GET ", b"POST ", b"OPTIONS * ", b"BREW ", b"/a", b"/v/x", b"/mine", b"/act", b"/filter", b"/head", b"/none",
    b"/smuggled", b"?q=1", b"%2f", b"%00", b"/../", b"..;/", b"http://x/a", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0",
    b"\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"Host: x\r\n", b"Host: y\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n", b"Connection: upgrade\r\n", b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n",
    b"Authorization: Bearer t\r\n", b"X-User-Id: 1\r\n", b"abcde", b"0", b"5\r\nabcde\r\n", b"5;x=y\r\nabcde\r\n",
    b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"fffffffff\r\n", b"zz\r\n", b'{"a":1}', GOOD,
    b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", b"X: " + b"y" * 500 + b"\r\n", b"\xff\xfe",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]  # fmt: skip
REQUESTS = [
    GOOD,
    b"GET /v/caf%C3%A9 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world",
    b"POST /act HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\nExpect: 100-continue\r\n\r\n" + b'{"a":1}',
    b"PUT /filter HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX: y\r\n\r\n",
    b"POST /head HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n" + GOOD,
    b"GET /mine HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer abc\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nframes",
    b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde" + GOOD + GOOD,
    b"GET http://x/a HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nTrailer: x\r\n\r\n",
]
ANSWERS = [
    ok(b"hello"),
    ok(b'{"a":1,"f":2}', b"Content-Type: application/json\r\nETag: x\r\n"),
    b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 404 Not\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n",
    b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nframes",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
    ok(b"x" * 3000),
]


def mutated(seeds: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` texts that are nearly like those in `seeds`, the same ones for the same `seed`."""
    chance = random.Random(seed)
    for _ in range(count):
        text = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((0, 1, 1, 2, 3, 6))):
            _mutate(chance, text, seeds)
        yield bytes(text)


def _mutate(chance: random.Random, text: bytearray, seeds: list[bytes]) -> None:
    at = chance.randrange(len(text) + 1)
    end = min(len(text), at + chance.choice((1, 1, 2, 8, 40)))
    kind = chance.randrange(7)
    if kind == 0:
        text[at:end] = b""
    elif kind == 1:
        text[at:at] = chance.choice(TOKENS)
    elif kind == 2:
        text[at:end] = chance.choice(TOKENS)
    elif kind == 3:
        text[at:at] = text[at:end]
    elif kind == 4:
        text[at:] = chance.choice(seeds)[at:]
    elif kind == 5:
        del text[at:]
    elif at < len(text):
        text[at] = chance.choice((0, 9, 10, 13, 32, 58, 127, 255, text[at] ^ 1 << chance.randrange(8)))


def memory() -> int:
    """Bytes that this process holds now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@dataclass
class Range:
    """A worker under fire, and what came out of it."""

    worker: Worker
    port: int
    recorder: Recorder
    defects: list[dict[str, object]]
    answers: list[bytes]
    """What the wild backend says next."""

    async def fire(self, said: list[bytes]) -> bytes:
        """Say `said` piece by piece, then no more; everything that comes back until the gateway closes."""
        async with connected(self.port) as wire:
            for piece in said:
                wire.writer.write(piece)
                await asyncio.sleep(0)
            try:
                wire.half_close()
            except OSError:
                pass  # it has closed already
            return await wire.end()

    @undisturbed
    async def lives(self) -> None:
        """The next request is served as ever."""
        async with connected(self.port) as wire:
            answer = await wire.ask(GOOD.replace(b"/a", b"/a?canary"))
            assert (answer.status, answer.body) == (200, b"ok")

    def clean(self) -> None:
        """No defect came to light, and nothing reached the backend but what a route maps to."""
        assert self.defects == []
        for message in self.recorder.heads:
            assert MAPPED.fullmatch(message.start), message.start
            assert len(message.all(b"host")) == 1
            assert all(FIELD.fullmatch(name) for name, _ in message.fields)
            assert message.all(b"x-user-id") == []
        self.recorder.heads.clear()
        self.recorder.requests.clear()

    async def quiet(self) -> None:
        """Nothing is left of any exchange: no connection, stream, question, count."""
        for _ in range(1000):
            backends = [each for upstream in self.worker.upstreams.values() for each in upstream.backends]
            if not self.worker.clients and not any(each.active for each in backends):
                break
            await asyncio.sleep(0.005)
        assert (self.worker.clients, self.worker.streams) == (set(), set())
        assert [(each.active, len(each._waiting)) for each in backends] == [(0, 0)] * len(backends)
        assert (self.worker.asking.waiting, self.worker._addresses) == ({}, {})
        assert sum(each.connections for each in backends) <= 40


async def well_formed(raw: bytes) -> int:
    """How many whole final answers `raw` is made of; it may end in the middle of one, never in anything else."""
    reader = asyncio.StreamReader(limit=4 * MIB)
    reader.feed_data(raw)
    reader.feed_eof()
    count = 0
    while not reader.at_eof():
        try:
            message = await read_head(reader)
        except asyncio.IncompleteReadError:
            return count
        assert re.fullmatch(rb"HTTP/1\.1 [1-5][0-9][0-9] [^\r\n]*", message.start), message.start
        if message.status == 101:
            return count + 1
        if message.status < 200:
            continue
        count += 1
        length = message.all(b"content-length")
        assert len(length) + len(message.all(b"transfer-encoding")) <= 1
        if message.all(b"connection") == [b"close"] and not message.all(b"transfer-encoding"):
            return count
        if message.status in (204, 304):
            continue
        try:
            await read_body(reader, message)
        except asyncio.IncompleteReadError:
            return count
    return count


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """An event loop of the kind that production runs on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


@pytest.fixture
def place(runner: asyncio.Runner) -> Iterator[Range]:
    """A worker with a recording backend and a wild one, that outlives the examples of a test."""
    opened = _range()
    yield runner.run(anext(opened))
    runner.run(_end(opened))


async def _end(opened: AsyncGenerator[Range]) -> None:
    async for _ in opened:
        raise AssertionError("it yields once")


async def _range() -> AsyncGenerator[Range]:
    wild_answers: list[bytes] = []

    async def wild(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in wild_answers:
            writer.write(piece)
            await asyncio.sleep(0)

    defects: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: defects.append(context))
    async with recording() as (recorder, address), backend(wild) as other:
        upstreams = [Upstream("u", (address,)), Upstream("w", (other,), timeout=SHORT)]
        async with door(LINES, upstreams, GATEWAY) as (worker, _, port):
            yield Range(worker, port, recorder, defects, wild_answers)


CUTS = st.lists(st.integers(1, 60), max_size=5)


def cut(text: bytes, cuts: list[int]) -> list[bytes]:
    """`text` in pieces of these sizes, then the rest."""
    ends = [sum(cuts[: at + 1]) for at in range(len(cuts))]
    return [text[begin:end] for begin, end in zip([0, *ends], [*ends, len(text)], strict=True) if text[begin:end]]


def test_requests_made_of_odd_pieces_are_answered_or_closed(runner: asyncio.Runner, place: Range) -> None:
    @given(st.lists(st.sampled_from(TOKENS), max_size=25).map(b"".join), CUTS)
    @settings(max_examples=600, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    def fuzz(text: bytes, cuts: list[int]) -> None:
        runner.run(said(text, cuts))

    async def said(text: bytes, cuts: list[int]) -> None:
        await well_formed(await place.fire(cut(text, cuts)))
        await place.lives()
        place.clean()

    fuzz()
    runner.run(place.quiet())


async def volley(place: Range, texts: Iterator[bytes], at_once: int) -> int:
    """Say all `texts`, `at_once` at a time; how many answers came."""
    answers = 0

    async def gun() -> None:
        nonlocal answers
        for text in texts:
            whole = await well_formed(await place.fire(cut(text, [1 + len(text) % 37, 11])))
            answers += whole

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(gun())
    return answers


def test_mutated_requests_are_answered_or_closed_and_nothing_grows(runner: asyncio.Runner, place: Range) -> None:
    async def fire(count: int, seed: int) -> int:
        answers = await volley(place, mutated(REQUESTS, count, seed), 16)
        await place.lives()
        place.clean()
        return answers

    assert runner.run(fire(1200, 1)) > 900
    runner.run(place.quiet())
    before = memory()
    for seed in range(2, 8):
        assert runner.run(fire(1200, seed)) > 900
    runner.run(place.quiet())
    assert memory() - before < 8 * MIB


def test_mutated_answers_of_backends_are_passed_on_or_end_the_exchange(runner: asyncio.Runner, place: Range) -> None:
    async def fire(count: int, seed: int) -> None:
        chance = random.Random(seed)
        for answer in mutated(ANSWERS, count, seed):
            place.answers[:] = cut(answer, [1 + len(answer) % 41, 7])
            path = chance.choice((b"/wild", b"/wildfilter", b"/wildhead"))
            upgrade = chance.choice((b"", b"Connection: upgrade\r\nUpgrade: websocket\r\n"))
            said = b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (path, upgrade)
            assert await well_formed(await place.fire([said])) >= 0
        await place.lives()
        place.clean()

    runner.run(fire(500, 1))
    runner.run(place.quiet())
    before = memory()
    for seed in range(2, 8):
        runner.run(fire(500, seed))
    runner.run(place.quiet())
    assert memory() - before < 8 * MIB


def test_deadlines_are_still_kept_after_all_that(runner: asyncio.Runner, place: Range) -> None:
    async def late() -> None:
        async with connected(place.port) as wire:
            answer = await wire.ask(b"GET /a HTTP/1.1\r\nHost")
            assert answer.status == 408
            assert await wire.end() == b""

    runner.run(volley(place, mutated(REQUESTS, 100, 99), 16))
    runner.run(undisturbed(late)())
