"""Backends: pools, retries, balance, health, deadlines."""

import asyncio
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.gateway.door import Line, door
from tests.gateway.wire import (
    PATIENCE,
    Message,
    Recorder,
    Reply,
    Wire,
    backend,
    closed_port,
    connected,
    ok,
    recording,
    until,
)
from tests.undisturbed import undisturbed

from ostiary.core.snapshot import Gateway, Policy, Upstream

QUIET = Gateway(access_log="")
LINES = [Line("* /a", "/b")]
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
FAILED = b'{"error":"backend failed"}'
TIMED_OUT = b'{"error":"backend timed out"}'
SHORT = 150_000


def request(method: str, body: bytes = b"") -> bytes:
    """A request with this method."""
    return b"%s /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (method.encode(), len(body), body)


def replying(reply: bytes) -> Callable[[Message], Reply]:
    """A backend's reply that is always the same."""
    return lambda message: reply


async def ask(wire: Wire, said: bytes, status: int, body: bytes) -> Message:
    """The answer to `said`, which is this."""
    answer = await wire.ask(said)
    assert (answer.status, answer.body) == (status, body)
    return answer


# -- keep-alive and retries


async def test_a_connection_is_used_again() -> None:
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (worker, _, port),
    ):
        for _ in range(3):
            async with connected(port) as wire:
                await ask(wire, GET, 200, b"ok")
                await ask(wire, request("POST", b"abc"), 200, b"ok")
        assert recorder.connections == 1
        assert worker.upstreams["u"].backends[0].connections == 1


@undisturbed
async def test_an_unused_connection_is_closed_after_its_time() -> None:
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,), idle_timeout=SHORT)], QUIET) as (worker, _, port),
        connected(port) as wire,
    ):
        await ask(wire, GET, 200, b"ok")
        await until(lambda: worker.upstreams["u"].backends[0].connections == 0)
        await ask(wire, GET, 200, b"ok")
        assert recorder.connections == 2


class Closing(Recorder):
    """A backend that answers once on its first connection, and closes that when it is used again, saying nothing."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.connections:
            await super().serve(reader, writer)
            return
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok())
        await reader.readuntil(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_an_idempotent_request_is_tried_once_more_when_its_used_connection_is_closed(method: str) -> None:
    closing = Closing(lambda message: ok(b"again"))
    async with (
        backend(closing.serve) as address,
        door(LINES, [Upstream("u", (address,))], QUIET) as (worker, _, port),
        connected(port) as wire,
    ):
        await ask(wire, GET, 200, b"ok")
        await ask(wire, request(method), 200, b"" if method == "HEAD" else b"again")
        assert closing.connections == 2
        assert len(closing.requests) == 1
        assert worker.report(1).counters["upstream.retries"] == 1


@pytest.mark.parametrize(("method", "body"), [("POST", b""), ("PATCH", b""), ("PUT", b"abc")])
async def test_what_is_not_safe_to_say_twice_is_not_said_twice(method: str, body: bytes) -> None:
    closing = Closing(lambda message: ok(b"again"))
    async with (
        backend(closing.serve) as address,
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await ask(wire, GET, 200, b"ok")
        await ask(wire, request(method, body), 502, FAILED)
        assert closing.requests == []


async def test_a_request_is_tried_again_only_once() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(1)
        await reader.readuntil(b"\r\n\r\n")
        if len(talks) == 1:
            writer.write(ok())
            await reader.readuntil(b"\r\n\r\n")

    talks: list[int] = []
    async with (
        backend(talk) as address,
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await ask(wire, GET, 200, b"ok")
        await ask(wire, GET, 502, FAILED)
        assert len(talks) == 2


async def test_a_request_on_a_fresh_connection_is_not_tried_again() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(1)
        await reader.readuntil(b"\r\n\r\n")

    talks: list[int] = []
    async with (
        backend(talk) as address,
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await ask(wire, GET, 502, FAILED)
        assert len(talks) == 1


async def test_an_answer_that_has_begun_is_not_tried_again() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(1)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200")

    talks: list[int] = []
    async with (
        backend(talk) as address,
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await ask(wire, GET, 200, b"ok")
        await ask(wire, GET, 502, FAILED)
        assert len(talks) == 1


async def test_a_backend_that_says_close_is_not_asked_again_on_that_connection() -> None:
    for head in (b"Connection: close\r\n", b"Connection: Keep-Alive, Close\r\n"):
        async with (
            recording(replying(ok(b"ok", head))) as (recorder, address),
            door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
            connected(port) as wire,
        ):
            for _ in range(2):
                assert (await ask(wire, GET, 200, b"ok")).all(b"connection") == []
            assert [each.connection for each in recorder.requests] == [1, 2]


# -- balance and health


class Fleet:
    """Some recording backends, each answering with its number."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.recorders: list[Recorder] = []

    async def open(self, stack: AsyncExitStack, count: int) -> None:
        """Have `count` backends."""
        for number in range(count):
            body = b"%d" % number

            def reply(message: Message, body: bytes = body) -> Reply:
                return ok(body)

            recorder, address = await stack.enter_async_context(recording(reply))
            self.addresses.append(address)
            self.recorders.append(recorder)


async def test_round_robin_asks_each_backend_in_turn() -> None:
    async with AsyncExitStack() as stack:
        fleet = Fleet()
        await fleet.open(stack, 3)
        upstream = Upstream("u", tuple(fleet.addresses))
        _, _, port = await stack.enter_async_context(door(LINES, [upstream], QUIET))
        wire = await stack.enter_async_context(connected(port))
        said = [(await wire.ask(GET)).body for _ in range(9)]
        assert sorted(said[:3]) == [b"0", b"1", b"2"]
        assert said[3:6] == said[:3]
        assert said[6:] == said[:3]


async def test_least_connections_asks_the_one_with_the_fewest_exchanges() -> None:
    async with AsyncExitStack() as stack:
        fleet = Fleet()
        await fleet.open(stack, 2)
        gate = asyncio.Event()

        async def held(message: Message) -> Reply:
            if sum(len(each.requests) for each in fleet.recorders) == 1:
                await gate.wait()
            return ok()

        for recorder in fleet.recorders:
            recorder.reply = held
        upstream = Upstream("u", tuple(fleet.addresses), balance="least_connections")
        worker, _, port = await stack.enter_async_context(door(LINES, [upstream], QUIET))
        slow, fast = [await stack.enter_async_context(connected(port)) for _ in range(2)]
        await slow.say(GET)
        await until(lambda: any(each.requests for each in fleet.recorders))
        for _ in range(6):
            await ask(fast, GET, 200, b"ok")
        assert sorted(len(each.requests) for each in fleet.recorders) == [1, 6]
        assert sorted(each.active for each in worker.upstreams["u"].backends) == [0, 1]
        gate.set()
        assert (await slow.answer()).body == b"ok"
        assert [each.active for each in worker.upstreams["u"].backends] == [0, 0]


async def test_a_backend_that_refuses_is_passed_over() -> None:
    async with AsyncExitStack() as stack:
        fleet = Fleet()
        await fleet.open(stack, 1)
        upstream = Upstream("u", (closed_port(), fleet.addresses[0]))
        worker, _, port = await stack.enter_async_context(door(LINES, [upstream], QUIET))
        wire = await stack.enter_async_context(connected(port))
        for _ in range(6):
            await ask(wire, GET, 200, b"0")
            await ask(wire, request("POST", b"abc"), 200, b"0")
        assert worker.report(1).counters["upstream.u.failures"] == 1
        assert [each.body for each in fleet.recorders[0].requests if each.body] == [b"abc"] * 6


@undisturbed
async def test_a_backend_that_refused_is_tried_again_after_its_time() -> None:
    async with AsyncExitStack() as stack:
        fleet = Fleet()
        await fleet.open(stack, 1)
        upstream = Upstream("u", (closed_port(), fleet.addresses[0]), fail_timeout=SHORT)
        worker, _, port = await stack.enter_async_context(door(LINES, [upstream], QUIET))
        wire = await stack.enter_async_context(connected(port))
        for _ in range(4):
            await ask(wire, GET, 200, b"0")
        await asyncio.sleep(SHORT / 1e6)
        for _ in range(4):
            await ask(wire, GET, 200, b"0")
        assert worker.report(1).counters["upstream.u.failures"] == 2


async def test_backends_that_all_refuse_give_502_each_time_and_are_asked_again() -> None:
    upstream = Upstream("u", (closed_port(), closed_port()))
    async with door(LINES, [upstream], QUIET) as (worker, _, port), connected(port) as wire:
        for _ in range(3):
            await ask(wire, GET, 502, FAILED)
        assert worker.report(1).counters["upstream.u.failures"] == 6


async def test_the_answer_is_given_for_a_body_of_any_size_when_nobody_can_be_reached() -> None:
    async with door(LINES, [Upstream("u", (closed_port(),))], QUIET) as (_, _, port), connected(port) as wire:
        await ask(wire, request("POST", b"x" * 60_000), 502, FAILED)
        await ask(wire, request("POST", b"x" * 10), 502, FAILED)


# -- how many connections


async def test_no_more_connections_than_allowed_and_the_rest_wait_their_turn() -> None:
    gate = asyncio.Event()
    most = now = 0

    async def reply(message: Message) -> Reply:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await gate.wait()
        now -= 1
        return ok()

    async with (
        recording(reply) as (recorder, address),
        door(LINES, [Upstream("u", (address,), max_connections=2)], QUIET) as (worker, _, port),
        AsyncExitStack() as stack,
    ):
        wires = [await stack.enter_async_context(connected(port)) for _ in range(8)]
        asking = [asyncio.create_task(wire.ask(GET)) for wire in wires]
        backend_ = worker.upstreams["u"].backends[0]
        await until(lambda: len(backend_._waiting) == 6 and len(recorder.requests) == 2)
        gate.set()
        assert [answer.status for answer in await asyncio.gather(*asking)] == [200] * 8
        assert (most, recorder.connections) == (2, 2)
        assert worker.upstreams["u"].backends[0].active == 0


@undisturbed
async def test_who_waits_too_long_for_a_connection_gets_504_and_leaves_the_queue() -> None:
    gate = asyncio.Event()

    async def reply(message: Message) -> Reply:
        await gate.wait()
        return ok()

    async with recording(reply) as (_, address):
        upstreams = [Upstream("u", (address,), max_connections=1, connect_timeout=100_000)]
        async with (
            door(LINES, upstreams, QUIET) as (worker, _, port),
            connected(port) as first,
            connected(port) as second,
        ):
            asking = asyncio.create_task(first.ask(GET))
            await until(lambda: worker.upstreams["u"].backends[0].connections == 1)
            await ask(second, GET, 504, TIMED_OUT)
            assert worker.upstreams["u"].backends[0].active == 1
            gate.set()
            assert (await asking).status == 200
            await ask(second, GET, 200, b"ok")
            assert worker.upstreams["u"].backends[0].active == 0


async def test_who_waits_gets_a_new_connection_when_the_one_in_use_is_lost() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await gate.wait()
        if first:
            first.clear()
            return
        writer.write(ok())
        await reader.read()

    gate, first = asyncio.Event(), {1}
    async with (
        backend(talk) as address,
        door(LINES, [Upstream("u", (address,), max_connections=1)], QUIET) as (worker, _, port),
        connected(port) as one,
        connected(port) as two,
    ):
        await one.say(GET)
        await until(lambda: worker.upstreams["u"].backends[0].connections == 1)
        await two.say(GET)
        await until(lambda: len(worker.upstreams["u"].backends[0]._waiting) == 1)
        gate.set()
        assert (await one.answer()).status == 502
        assert (await two.answer()).status == 200


async def test_who_waits_learns_at_once_that_nobody_can_be_reached() -> None:
    upstream = Upstream("u", (closed_port(),), max_connections=1)
    async with door(LINES, [upstream], QUIET) as (_, _, port), AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connected(port)) for _ in range(5)]
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(*(wire.ask(GET) for wire in wires))
        assert [answer.status for answer in answers] == [502] * 5


async def test_a_client_that_leaves_the_queue_leaves_nothing_behind() -> None:
    gate = asyncio.Event()

    async def reply(message: Message) -> Reply:
        await gate.wait()
        return ok()

    async with (
        recording(reply) as (recorder, address),
        door(LINES, [Upstream("u", (address,), max_connections=1)], QUIET) as (worker, _, port),
        connected(port) as one,
    ):
        await one.say(GET)
        await until(lambda: len(recorder.requests) == 1)
        async with connected(port) as two:
            await two.say(GET)
            await until(lambda: len(worker.upstreams["u"].backends[0]._waiting) == 1)
            two.reset()
            await until(lambda: not worker.upstreams["u"].backends[0]._waiting)
        gate.set()
        assert (await one.answer()).status == 200
        assert worker.upstreams["u"].backends[0].active == 0
        assert len(recorder.requests) == 1


async def test_a_client_that_leaves_takes_its_backend_connection_with_it() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with (
        backend(silent) as address,
        door(LINES, [Upstream("u", (address,))], QUIET) as (worker, _, port),
        connected(port) as wire,
    ):
        await wire.say(GET)
        await until(lambda: worker.upstreams["u"].backends[0].connections == 1)
        wire.reset()
        await until(lambda: worker.upstreams["u"].backends[0].connections == 0)
        assert worker.upstreams["u"].backends[0].active == 0
        assert [each.statuses for each in worker.report(1).routes] == [{499: 1}]


# -- deadlines


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend that takes all and says nothing."""
    await reader.read()


@pytest.mark.parametrize("compat", [False, True])
async def test_a_backend_that_says_nothing_gives_504_and_500_for_apifest(compat: bool) -> None:
    line = Line("* /a", "/b", policy=Policy(compat=compat))
    async with (
        backend(silence) as address,
        door([line], [Upstream("u", (address,), timeout=SHORT)], QUIET) as (worker, _, port),
        connected(port) as wire,
    ):
        expected = (500, b"") if compat else (504, TIMED_OUT)
        await ask(wire, GET, *expected)
        await ask(wire, request("POST", b"abc"), *expected)
        assert worker.upstreams["u"].backends[0].active == 0
        assert worker.upstreams["u"].backends[0].connections <= 1


@undisturbed
async def test_a_backend_that_stops_in_the_middle_of_its_answer_ends_the_clients_connection() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
        await reader.read()

    async with (
        backend(talk) as address,
        door(LINES, [Upstream("u", (address,), timeout=SHORT)], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await wire.say(GET)
        assert (await wire.head()).status == 200
        assert await wire.end() == b"ab"


@undisturbed
async def test_an_answer_that_keeps_coming_may_take_longer_than_the_timeout() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _ in range(10):
            writer.write(b"x")
            await asyncio.sleep(0.05)

    async with (
        backend(talk) as address,
        door(LINES, [Upstream("u", (address,), timeout=300_000)], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await ask(wire, GET, 200, b"x" * 10)


@undisturbed
async def test_a_routes_timeout_counts_for_the_whole_exchange() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.02)

    policy = Policy(timeout=SHORT)
    async with backend(talk) as address, backend(silence) as silent:
        upstreams = [Upstream("u", (address,)), Upstream("s", (silent,))]
        lines = [Line("GET /a", "/b", policy=policy), Line("GET /s", "/s", "s", policy)]
        async with door(lines, upstreams, QUIET) as (_, _, port), connected(port) as wire:
            await ask(wire, b"GET /s HTTP/1.1\r\nHost: x\r\n\r\n", 504, TIMED_OUT)
            await wire.say(GET)
            assert (await wire.head()).status == 200
            assert 0 < len(await wire.end()) < 100


@contextmanager
def deaf() -> Iterator[str]:
    """An address that takes no connection: its accept queue is full, so that the kernel drops what comes."""
    with socket.socket() as full, ExitStack() as fillers:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield f"127.0.0.1:{full.getsockname()[1]}"


async def test_a_backend_that_does_not_accept_gives_504() -> None:
    with deaf() as address:
        upstream = Upstream("u", (address,), connect_timeout=SHORT)
        async with door(LINES, [upstream], QUIET) as (worker, _, port), connected(port) as wire:
            await ask(wire, GET, 504, TIMED_OUT)
            await until(lambda: worker.upstreams["u"].backends[0].connections == 0)
            assert worker.upstreams["u"].backends[0].active == 0


@undisturbed
async def test_a_connection_that_fails_too_late_does_not_touch_the_next_exchange() -> None:
    """The first exchange is given up before connecting fails; the next one on its connection waits for another."""
    gate = asyncio.Event()

    async def reply(message: Message) -> Reply:
        await gate.wait()
        return ok()

    with deaf() as address:
        async with recording(reply) as (recorder, other):
            upstreams = [
                Upstream("d", (address,), connect_timeout=2 * SHORT),
                Upstream("u", (other,), max_connections=1, connect_timeout=5_000_000),
            ]
            lines = [Line("GET /deaf", "/d", "d", Policy(timeout=SHORT // 3)), *LINES]
            async with (
                door(lines, upstreams, QUIET) as (worker, _, port),
                connected(port) as busy,
                connected(port) as wire,
            ):
                await busy.say(GET)
                await until(lambda: len(recorder.requests) == 1)
                await ask(wire, b"GET /deaf HTTP/1.1\r\nHost: x\r\n\r\n", 504, TIMED_OUT)
                await wire.say(GET)
                deaf_one, one = worker.upstreams["d"].backends[0], worker.upstreams["u"].backends[0]
                await until(lambda: deaf_one.connections == 0)
                assert (deaf_one.active, one.active, len(one._waiting)) == (0, 2, 1)
                gate.set()
                assert [(await each.answer()).status for each in (busy, wire)] == [200, 200]
                assert one.active == 0


# -- addresses and names


async def test_the_host_is_the_backends_or_the_clients() -> None:
    async with recording() as (recorder, address):
        upstreams = [Upstream("u", (address,)), Upstream("p", (address,), preserve_host=True)]
        lines = [Line("GET /a", "/b"), Line("GET /p", "/p", "p")]
        async with door(lines, upstreams, QUIET) as (_, _, port), connected(port) as wire:
            await ask(wire, b"GET /a HTTP/1.1\r\nHost: Public:81\r\n\r\n", 200, b"ok")
            await ask(wire, b"GET /p HTTP/1.1\r\nHost: Public:81\r\n\r\n", 200, b"ok")
            await ask(wire, b"GET http://other/p HTTP/1.1\r\nHost: Public:81\r\n\r\n", 200, b"ok")
        hosts = [each.one(b"host") for each in recorder.requests]
        assert hosts == [address.encode(), b"Public:81", b"other"]


async def test_a_backend_may_listen_on_a_unix_socket() -> None:
    with tempfile.TemporaryDirectory() as directory:
        recorder = Recorder(lambda message: ok())
        async with (
            backend(recorder.serve, path=str(Path(directory) / "s")) as address,
            door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
            connected(port) as wire,
        ):
            await ask(wire, GET, 200, b"ok")
        assert recorder.requests[0].one(b"host") == b"localhost"
