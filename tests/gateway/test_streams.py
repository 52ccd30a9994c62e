"""Connections over time: keep-alive, pipelining, backpressure, tunnels, event streams, swaps and drains."""

import asyncio
import resource
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from tests.gateway.door import Line, door, install
from tests.gateway.wire import PATIENCE, Message, Reply, backend, connected, ok, recording, says, until
from tests.listening import Talk
from tests.undisturbed import undisturbed

from ostiary.core.admission import Admission
from ostiary.core.snapshot import Gateway, Plugin, Policy, Upstream
from ostiary.gateway.worker import Worker
from ostiary.link.messages import Change

QUIET = Gateway(access_log="")
LINES = [Line("* /a", "/b")]
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
NONE = b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n%s\r\n"
SWITCHED = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\n"
SHORT = 150_000
LATER = (time.time_ns() // 1000) + 3_600_000_000
MIB = 1 << 20


def memory() -> int:
    """Bytes that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def settled(level: Callable[[], int]) -> int:
    """The level at which something stays that only stops when nobody takes it."""
    seen, same = level(), 0
    while same < 15:
        await asyncio.sleep(0.005)
        now = level()
        seen, same = (now, same + 1) if now == seen else (now, 0)
    return seen


# -- keep-alive and pipelining


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async def reply(message: Message) -> Reply:
        number = int(message.start.split(b"=")[1].split(b" ")[0])
        await asyncio.sleep(0.001 * (5 - number % 5))
        return ok(b"%d" % number)

    async with (
        recording(reply) as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await wire.say(b"".join(b"GET /a?n=%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(20)))
        assert [(await wire.answer()).body for _ in range(20)] == [b"%d" % number for number in range(20)]
        assert len(recorder.requests) == 20


async def test_pipelined_bodies_and_refusals_keep_their_places() -> None:
    post = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    chunked = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    unwanted = b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    head = b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n"
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await wire.say(post + NONE + chunked + unwanted + head + GET)
        statuses = [
            (await wire.answer(method)).status for method in (b"POST", b"GET", b"POST", b"POST", b"HEAD", b"GET")
        ]
        assert statuses == [200, 404, 200, 404, 200, 200]
        assert [each.body for each in recorder.requests] == [b"abc", b"abc", b"", b""]


async def test_what_is_pipelined_behind_a_refused_head_is_never_read() -> None:
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await wire.say(b"GET /a HTTP/1.1\r\n\r\n" + GET)
        assert (await wire.answer()).status == 400
        assert await wire.end() == b""
        assert recorder.heads == []


async def test_what_is_pipelined_behind_close_is_never_read() -> None:
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await wire.say(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GET)
        answer = await wire.answer()
        assert (answer.status, answer.one(b"connection")) == (200, b"close")
        assert await wire.end() == b""
        assert len(recorder.heads) == 1


async def test_what_one_exchange_leaves_behind_does_not_touch_the_next() -> None:
    """Each kind of answer, then each other kind, on one connection."""
    kinds = {
        b"whole": [ok(b"whole")],
        b"chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nchunks\r\n0\r\n\r\n"],
        b"pieces": [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npie", b"ces"],
        b"end": [b"HTTP/1.1 200 OK\r\n\r\nend", b""],
        b"nothing": [b"HTTP/1.1 204 No\r\n\r\n"],
    }
    async with (
        recording(lambda message: kinds[message.start.split(b" ")[1][3:]]) as (_, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        for first in kinds:
            for second in [*kinds, b""]:
                for kind in (first, second):
                    answer = await wire.ask(b"GET /a?%s HTTP/1.1\r\nHost: x\r\n\r\n" % kind if kind else NONE)
                    expected = (404, b'{"error":"Not found"}') if not kind else (200, kind)
                    expected = (204, b"") if kind == b"nothing" else expected
                    assert (answer.status, answer.body) == expected


@pytest.mark.parametrize("request_", [NONE, GET], ids=["answered at once", "answered by a backend"])
async def test_a_flood_of_pipelined_requests_takes_no_memory(request_: bytes) -> None:
    """Neither in what came ahead nor in answers that are not read."""
    async with (
        recording() as (_, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (worker, _, port),
        connected(port, limit=1024) as wire,
    ):
        wire.writer.write(request_ * 200_000)
        await until(lambda: bool(worker.clients))
        (client,) = worker.clients
        held: list[int] = []
        while len(held) < 100:
            held.append(len(client.buffer) + client.transport.get_write_buffer_size())
            await asyncio.sleep(0.003)
        assert max(held) < MIB
        wire.writer.transport.abort()


# -- backpressure


def paced(pieces: int, sent: list[int]) -> Talk:
    """A backend whose answer is 64 KiB `pieces` times; `sent` counts what it got rid of."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (pieces * 65_536))
        piece = bytes(range(256)) * 256
        for _ in range(pieces):
            writer.write(piece)
            await writer.drain()
            sent[0] += len(piece)

    return talk


async def test_a_slow_reader_of_64_mib_keeps_memory_flat() -> None:
    sent = [0]
    async with (
        backend(paced(1024, sent)) as address,
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port, limit=65_536) as wire,
    ):
        before = most = memory()
        await wire.say(GET)
        assert (await wire.head()).status == 200
        assert await settled(lambda: sent[0]) < 24 * MIB
        digest, left = sha256(), 64 * MIB
        while left:
            piece = await wire.reader.read(262_144)
            digest.update(piece)
            left -= len(piece)
            most = max(most, memory())
        assert digest.digest() == sha256(bytes(range(256)) * 256 * 1024).digest()
        assert most - before < 16 * MIB
        assert (await wire.ask(NONE)).status == 404


async def test_a_slow_backend_takes_64_mib_while_memory_stays_flat() -> None:
    gate, got, sent = asyncio.Event(), sha256(), [0]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await gate.wait()
        left = 64 * MIB
        while left:
            piece = await reader.read(262_144)
            got.update(piece)
            left -= len(piece)
        writer.write(ok())
        await writer.drain()

    piece = bytes(range(256)) * 256
    async with (
        backend(talk) as address,
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        before = most = memory()

        async def send() -> None:
            nonlocal most
            wire.writer.write(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
            for _ in range(1024):
                wire.writer.write(piece)
                await wire.writer.drain()
                sent[0] += len(piece)
                most = max(most, memory())

        sending = asyncio.create_task(send())
        assert await settled(lambda: sent[0]) < 24 * MIB
        gate.set()
        assert (await wire.answer()).status == 200
        await sending
        assert got.digest() == sha256(piece * 1024).digest()
        assert most - before < 16 * MIB


@undisturbed
async def test_a_client_that_does_not_read_its_answer_is_given_up() -> None:
    sent = [0]
    async with (
        backend(paced(1024, sent)) as address,
        door(LINES, [Upstream("u", (address,))], Gateway(access_log="", write_timeout=SHORT)) as (worker, _, port),
        connected(port, limit=1024) as wire,
    ):
        await wire.say(GET)
        await until(lambda: len(worker.clients) == 1)
        await until(lambda: not worker.clients)
        assert worker.upstreams["u"].backends[0].active == 0
        assert sent[0] < 64 * MIB


@undisturbed
async def test_a_client_that_reads_slowly_but_steadily_is_not_given_up() -> None:
    sent = [0]
    async with (
        backend(paced(400, sent)) as address,
        door(LINES, [Upstream("u", (address,), timeout=300_000)], Gateway(access_log="", write_timeout=300_000)) as (
            _,
            _,
            port,
        ),
        connected(port, limit=65_536) as wire,
    ):
        await wire.say(GET)
        assert (await wire.head()).status == 200
        left = 400 * 65_536
        while left:
            piece = await wire.reader.read(2 * MIB)
            left -= len(piece)
            assert piece
            await asyncio.sleep(0.002)


# -- tunnels


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend that switches protocols and then says what it hears."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"\r\nupgrade: websocket\r\n" in head.lower()
    writer.write(SWITCHED)
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


async def test_a_tunnel_carries_bytes_both_ways() -> None:
    async with (
        backend(echo) as address,
        door(LINES, [Upstream("u", (address,))], QUIET) as (worker, _, port),
        connected(port) as wire,
    ):
        answer = await wire.ask(UPGRADE % b"")
        assert answer.status == 101
        assert (answer.one(b"upgrade"), answer.one(b"connection").lower()) == (b"websocket", b"upgrade")
        assert answer.one(b"sec-websocket-accept") == b"a"
        for data in (b"one", b"\0\xff\r\n\r\n", GET, b"x" * 300_000):
            await wire.say(data)
            assert await wire.reader.readexactly(len(data)) == data
        assert len(worker.streams) == 1
        await wire.close()
        await until(lambda: not worker.streams and worker.upstreams["u"].backends[0].connections == 0)
        assert [each.statuses for each in worker.report(1).routes] == [{101: 1}]


async def test_what_is_said_behind_the_request_goes_into_the_tunnel() -> None:
    data = bytes(range(256)) * 800
    async with (
        backend(echo) as address,
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        wire.writer.write(UPGRADE % b"" + data)
        assert (await wire.answer()).status == 101
        assert await wire.reader.readexactly(len(data)) == data
        await wire.say(b"more")
        assert await wire.reader.readexactly(4) == b"more"


async def test_what_the_backend_says_last_is_delivered_before_the_tunnel_ends() -> None:
    async with (
        backend(says(SWITCHED + b"x" * 10_000_000)) as address,
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port, limit=65_536) as wire,
    ):
        assert (await wire.ask(UPGRADE % b"")).status == 101
        assert await wire.end() == b"x" * 10_000_000


async def test_what_the_client_says_last_is_delivered_before_the_tunnel_ends() -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCHED)
        await asyncio.sleep(0.05)
        got.set_result(await reader.read())

    async with backend(talk) as address, door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port):
        async with connected(port) as wire:
            assert (await wire.ask(UPGRADE % b"")).status == 101
            await wire.say(b"y" * 3_000_000)
        assert len(await got) == 3_000_000


async def test_a_refused_upgrade_is_an_answer_like_any_other() -> None:
    async with (
        recording(lambda message: b"HTTP/1.1 426 No\r\nContent-Length: 2\r\n\r\nno") as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        for _ in range(2):
            answer = await wire.ask(UPGRADE % b"")
            assert (answer.status, answer.body) == (426, b"no")
        assert recorder.requests[0].one(b"connection").lower() == b"upgrade"


@pytest.mark.parametrize(
    "said",
    [
        UPGRADE.replace(b"websocket", b"h2c") % b"",
        UPGRADE.replace(b"Connection: Upgrade\r\n", b"") % b"",
        (UPGRADE % b"Content-Length: 3\r\n") + b"abc",
        (UPGRADE % b"").replace(b"HTTP/1.1", b"HTTP/1.0"),
        UPGRADE.replace(b"GET", b"POST") % b"Transfer-Encoding: chunked\r\n" + b"0\r\n\r\n",
    ],
    ids=["h2c", "without Connection", "with a body", "HTTP/1.0", "with chunks"],
)
async def test_what_may_not_become_a_tunnel_is_asked_without_upgrade(said: bytes) -> None:
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        assert (await wire.ask(said)).status == 200
        (got,) = recorder.requests
        assert (got.all(b"upgrade"), got.all(b"connection")) == ([], [])


@undisturbed
async def test_a_tunnel_that_nobody_uses_is_ended() -> None:
    async with (
        backend(echo) as address,
        door(LINES, [Upstream("u", (address,))], Gateway(access_log="", tunnel_timeout=SHORT)) as (worker, _, port),
        connected(port) as wire,
    ):
        assert (await wire.ask(UPGRADE % b"")).status == 101
        assert await wire.end() == b""
        assert worker.upstreams["u"].backends[0].active == 0


# -- cut off

TOKENS = {name: Admission("app", name, (), LATER) for name in ("ann", "bob")}
MINE = [Line("GET /a", "/b", policy=Policy(token="user"))]
TOKEN = b"Authorization: Bearer %s\r\n"


async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend that opens an event stream and says one event."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
    await reader.read()


async def switches(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend that opens a tunnel and says something."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(SWITCHED + b"data: 1\n\n")
    await reader.read()


CHANGES = [
    (Change(1, users=["ann"]), True),
    (Change(1, digests=[sha256(b"ann").digest()]), True),
    (Change(1, clients=["app"]), True),
    (Change(1, everything=True), True),
    (Change(1, users=["bob"]), False),
    (Change(1, clients=["other"]), False),
    (Change(1, digests=[sha256(b"bob").digest()]), False),
    (Change(1, everything=True, streams=False), False),
]


@pytest.mark.parametrize("talk", [events, switches])
@pytest.mark.parametrize(("change", "cut"), CHANGES)
async def test_a_change_ends_the_open_streams_of_what_it_names(talk: Talk, change: Change, cut: bool) -> None:
    async with (
        backend(talk) as address,
        door(MINE, [Upstream("u", (address,))], QUIET, TOKENS) as (worker, _, port),
        connected(port) as wire,
    ):
        if talk is events:
            await wire.say(b"GET /a HTTP/1.1\r\nHost: x\r\n" + TOKEN % b"ann" + b"\r\n")
            await wire.head()
        else:
            assert (await wire.ask(UPGRADE % (TOKEN % b"ann"))).status == 101
        await wire.reader.readuntil(b"\n\n")
        assert worker.change(change).get("streams", 0) == int(cut)
        assert len(worker.streams) == 1
        if cut:
            assert not (await wire.end()).endswith(b"0\r\n\r\n")
            await until(lambda: not worker.streams and worker.upstreams["u"].backends[0].connections == 0)
        else:
            assert not wire.reader.at_eof()


@pytest.mark.parametrize("known", [True, False])
async def test_a_stream_whose_token_ended_while_control_was_away_ends_with_the_new_link(known: bool) -> None:
    async with (
        backend(events) as address,
        door(MINE, [Upstream("u", (address,))], QUIET, dict(TOKENS)) as (worker, control, port),
        connected(port) as wire,
    ):
        await wire.say(b"GET /a HTTP/1.1\r\nHost: x\r\n" + TOKEN % b"ann" + b"\r\n")
        await wire.reader.readuntil(b"\n\n")
        worker.connected(False)
        if not known:
            del control.tokens["ann"]
        worker.connected(True)
        await until(lambda: not worker._doubted)
        if known:
            assert len(worker.streams) == 1
        else:
            assert not (await wire.end()).endswith(b"0\r\n\r\n")


async def test_public_streams_are_not_cut() -> None:
    async with (
        backend(events) as address,
        door(LINES, [Upstream("u", (address,))], QUIET) as (worker, _, port),
        connected(port) as wire,
    ):
        await wire.say(GET)
        await wire.head()
        assert worker.change(Change(1, everything=True))["streams"] == 0


# -- swaps


async def test_an_exchange_ends_on_the_snapshot_it_began_with_and_the_next_is_of_the_new_one() -> None:
    gate = asyncio.Event()

    async def old(message: Message) -> Reply:
        await gate.wait()
        return [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nold", b"old"]

    async with (
        recording(old) as (_, first),
        recording(lambda message: ok(b"new")) as (recorder, second),
        door(LINES, [Upstream("u", (first,))], QUIET) as (worker, _, port),
        connected(port) as wire,
    ):
        was = worker.upstreams["u"]
        await wire.say(GET + GET)
        await until(lambda: was.backends[0].connections == 1)
        install(worker, 2, [Line("* /a", "/c")], [Upstream("u", (second,))], QUIET)
        gate.set()
        assert [(await wire.answer()).body for _ in range(2)] == [b"oldold", b"new"]
        assert [each.start for each in recorder.requests] == [b"GET /c HTTP/1.1"]
        await until(lambda: was.backends[0].connections == 0)


async def test_an_upstream_that_stays_the_same_keeps_its_connections_over_a_swap() -> None:
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (worker, _, port),
        connected(port) as wire,
    ):
        for revision in range(2, 6):
            assert (await wire.ask(GET)).status == 200
            install(worker, revision, [*LINES, Line(f"GET /r{revision}", "/r")], [Upstream("u", (address,))], QUIET)
            assert (await wire.ask(b"GET /r%d HTTP/1.1\r\nHost: x\r\n\r\n" % revision)).status == 200
            assert (await wire.ask(b"GET /r%d HTTP/1.1\r\nHost: x\r\n\r\n" % (revision - 1))).status == 404
        assert recorder.connections == 1


async def test_no_request_is_lost_or_misrouted_while_snapshots_are_swapped() -> None:
    def reply(message: Message) -> Reply:
        return ok(message.start.split(b" ")[1])

    async with recording(reply) as (_, address), door(LINES, [Upstream("u", (address,))], QUIET) as (worker, _, port):
        going = True
        count = 0

        async def ask() -> None:
            nonlocal count
            async with connected(port) as wire:
                while going:
                    answer = await wire.ask(b"GET /a?q HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert (answer.status, answer.body) == (200, b"/b?q")
                    count += 1

        def reached(level: int) -> Callable[[], bool]:
            return lambda: count >= level

        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(ask())
            for revision in range(2, 32):
                more = [Line(f"GET /{revision}/{number}", "/x") for number in range(20)]
                upstream = Upstream("u", (address,), timeout=30_000_000 + revision % 2)
                install(worker, revision, [*LINES, *more], [upstream], QUIET)

                await until(reached(count + 10))
            going = False


async def test_a_snapshot_that_cannot_be_built_leaves_the_old_one_serving(tmp_path: Path) -> None:
    async with (
        recording() as (_, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (worker, _, port),
        connected(port) as wire,
    ):
        broken = Policy(actions=(Plugin("set_header", {"name": "a b", "value": ""}),))
        with pytest.raises(ValueError, match="set_header"):
            install(worker, 2, [Line("* /a", "/b", policy=broken)], [Upstream("u", (address,))], QUIET)
        assert worker.prepared() == "not all routes have come"
        with pytest.raises(ValueError, match="revision 2 was not prepared"):
            worker.swap(2)
        assert (await wire.ask(GET)).status == 200


# -- drain


async def test_a_drain_closes_what_is_idle_and_lets_the_rest_end() -> None:
    gate = asyncio.Event()

    async def reply(message: Message) -> Reply:
        await gate.wait()
        return ok()

    async with (
        recording(reply) as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (worker, _, port),
        connected(port) as idle,
        connected(port) as busy,
        connected(port) as half,
    ):
        assert (await idle.ask(NONE)).status == 404
        await busy.say(GET)
        await half.say(b"GET /a HTTP/1.1\r\n")
        await until(lambda: len(recorder.requests) == 1)
        draining = asyncio.create_task(worker.drain())
        assert await idle.end() == b""
        await half.say(b"Host: x\r\n\r\n")
        await until(lambda: len(recorder.heads) == 2)
        assert not draining.done()
        gate.set()
        for wire in (busy, half):
            answer = await wire.answer()
            assert (answer.status, answer.body, answer.one(b"connection")) == (200, b"ok", b"close")
            assert await wire.end() == b""
        await draining
        with pytest.raises(ConnectionRefusedError):
            async with connected(port):
                pass


@undisturbed
async def test_a_drain_ends_tunnels_and_what_takes_too_long() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
        await reader.read()

    async with backend(echo) as tunnel, backend(slow) as address:
        lines = [Line("* /a", "/b"), Line("GET /s", "/s", "s")]
        upstreams = [Upstream("u", (tunnel,)), Upstream("s", (address,))]
        gateway = Gateway(access_log="", drain_timeout=SHORT)
        async with (
            door(lines, upstreams, gateway) as (worker, _, port),
            connected(port) as one,
            connected(port) as two,
        ):
            assert (await one.ask(UPGRADE % b"")).status == 101
            await two.say(b"GET /s HTTP/1.1\r\nHost: x\r\n\r\n")
            await two.head()
            async with asyncio.timeout(PATIENCE):
                await worker.drain()
            assert await one.end() == b""
            assert await two.end() == b"ab"


def idle(worker: Worker) -> bool:
    """Whether nothing is left of any exchange."""
    return not worker.clients and not worker.streams


async def test_connections_that_come_and_go_leave_nothing_behind() -> None:
    async with recording() as (_, address), door(LINES, [Upstream("u", (address,))], QUIET) as (worker, _, port):
        for said in (
            GET,
            NONE,
            GET[:10],
            b"",
            UPGRADE % b"",
            b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
        ):
            for leave in (True, False):
                async with connected(port) as wire:
                    await wire.say(said)
                    if leave:
                        wire.reset()
        await until(lambda: idle(worker))
        assert worker._addresses == {}
