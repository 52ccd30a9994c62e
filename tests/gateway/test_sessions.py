"""Sessions: users on open connections, listed, counted and ended."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tests.gateway.door import FakeControl, Line, build, door
from tests.gateway.test_streams import LATER, QUIET, SWITCHED, echo
from tests.gateway.wire import PATIENCE, Message, Recorder, Reply, backend, connected, ok, recording, until
from tests.undisturbed import undisturbed

from ostiary.core.admission import Admission
from ostiary.core.snapshot import Gateway, Policy, Upstream
from ostiary.gateway.worker import Worker
from ostiary.link.messages import Change, Counted, Drain, Dump, Kick, Order, ResetStats, Who

ALICE, BOB = "a" * 64, "b" * 64
TOKENS = {
    ALICE: Admission("c", "alice", ("basic",), LATER, None, {"plan": "gold"}),
    BOB: Admission("c", "bob", ("basic",), LATER, None, {}),
    "n" * 64: Admission("c", "", ("basic",), LATER, None, {}),
}
USERS = [Line("* /a", "/a", policy=Policy(token="client-app")), Line("GET /open", "/open")]
SESSION_ENDED = b'{"error":"session ended"}'
_SEQ = iter(range(1, 1_000_000))


def get(token: str, path: str = "/a", more: str = "") -> bytes:
    auth = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{auth}{more}\r\n".encode()


UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"


async def told(worker: Worker, control: FakeControl, order: Order) -> object:
    """What the worker says when it has carried `order` out."""
    seq = next(_SEQ)
    worker.do(seq, order)
    return await control.carried_out(seq)


async def who(worker: Worker, control: FakeControl) -> list[tuple[str, str, str]]:
    rows = await told(worker, control, Who())
    assert isinstance(rows, list)
    return sorted((row.user, row.service, row.address) for row in rows)


class Gate:
    """A backend that answers when it is let."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def reply(self, message: Message) -> Reply:
        await self.opened.wait()
        return ok(b"late")


@asynccontextmanager
async def gated(gateway: Gateway = QUIET) -> AsyncIterator[tuple[Gate, Recorder, Worker, FakeControl, int]]:
    gate = Gate()
    async with (
        recording(gate.reply) as (recorder, address),
        door(USERS, [Upstream("u", (address,))], gateway, TOKENS) as (worker, control, port),
    ):
        try:
            yield gate, recorder, worker, control, port
        finally:
            gate.opened.set()


async def test_a_session_lasts_from_the_first_admission_to_the_end_of_the_connection() -> None:
    async with recording() as (_, address), door(USERS, [Upstream("u", (address,))], QUIET, TOKENS) as (
        worker, control, port,
    ):  # fmt: skip
        async with connected(port) as wire:
            assert (await wire.ask(get("", "/open"))).status == 200
            assert (await wire.ask(get("n" * 64))).status == 200
            assert await who(worker, control) == []
            assert (await wire.ask(get(ALICE))).status == 200
            assert (await wire.ask(get("", "/open"))).status == 200
            assert await who(worker, control) == [("alice", "http", "127.0.0.1")]
        await until(lambda: not worker.clients)
        assert await who(worker, control) == []


async def test_two_users_of_one_connection_are_two_sessions_and_an_idle_one_ends_after_a_minute() -> None:
    async with (
        recording() as (_, address),
        door(USERS, [Upstream("u", (address,))], QUIET, TOKENS) as (worker, control, port),
        connected(port) as wire,
    ):
        for token in (ALICE, BOB, ALICE, BOB):
            assert (await wire.ask(get(token))).status == 200
        assert [row[0] for row in await who(worker, control)] == ["alice", "bob"]
        (client,) = worker.clients
        last = max(tally.last for tally in client.tallies() if tally.user == "alice")
        client.sign_off_idle(last)
        assert [row[0] for row in await who(worker, control)] == ["alice", "bob"]
        client.sign_off_idle(last + 1)
        assert [row[0] for row in await who(worker, control)] == ["bob"]


async def test_an_address_of_a_session_is_what_a_trusted_proxy_says() -> None:
    trusting = Gateway(access_log="", trusted_proxies=("127.0.0.0/8",))
    async with (
        recording() as (_, address),
        door(USERS, [Upstream("u", (address,))], trusting, TOKENS) as (worker, control, port),
        connected(port) as wire,
    ):
        assert (await wire.ask(get(ALICE, more="X-Forwarded-For: 10.1.2.3\r\n"))).status == 200
        assert await who(worker, control) == [("alice", "http", "10.1.2.3")]


async def test_a_kick_closes_an_idle_connection_at_once() -> None:
    async with (
        recording() as (_, address),
        door(USERS, [Upstream("u", (address,))], QUIET, TOKENS) as (worker, control, port),
        connected(port) as alice,
        connected(port) as bob,
    ):
        await alice.ask(get(ALICE))
        await bob.ask(get(BOB))
        assert await told(worker, control, Kick(["alice"])) == ["alice"]
        assert await alice.end() == b""
        assert (await bob.ask(get(BOB))).status == 200
        assert await who(worker, control) == [("bob", "http", "127.0.0.1")]
        assert await told(worker, control, Kick(["alice"])) == []


async def test_a_kick_lets_the_exchange_in_flight_end_and_answers_then() -> None:
    async with gated() as (gate, recorder, worker, control, port), connected(port) as wire:
        await wire.say(get(ALICE))
        await until(lambda: len(recorder.requests) == 1)
        worker.do(1, Kick(["alice"]))
        await asyncio.sleep(0.1)
        assert 1 not in control.results
        gate.opened.set()
        answer = await wire.answer()
        assert (answer.status, answer.body, answer.one(b"connection")) == (200, b"late", b"close")
        assert await control.carried_out(1) == ["alice"]
        assert await wire.end() == b""


async def test_a_kick_cuts_what_takes_longer_than_its_grace() -> None:
    async with gated() as (_, recorder, worker, control, port), connected(port) as wire:
        await wire.say(get(ALICE))
        await until(lambda: len(recorder.requests) == 1)
        assert await told(worker, control, Kick(["alice"], grace=100_000)) == ["alice"]
        assert (await wire.answer()).status == 503
        assert await wire.end() == b""


async def test_a_forced_kick_answers_503_where_nothing_was_sent() -> None:
    async with gated() as (_, recorder, worker, control, port), connected(port) as wire:
        await wire.say(get(ALICE))
        await until(lambda: len(recorder.requests) == 1)
        assert await told(worker, control, Kick(["alice"], force=True)) == ["alice"]
        answer = await wire.answer()
        assert (answer.status, answer.body, answer.one(b"connection")) == (503, SESSION_ENDED, b"close")
        assert await wire.end() == b""


async def test_a_forced_kick_breaks_a_running_download() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        await reader.read()

    async with (
        backend(slow) as address,
        door(USERS, [Upstream("u", (address,))], QUIET, TOKENS) as (worker, control, port),
        connected(port) as wire,
    ):
        await wire.say(get(ALICE))
        assert (await wire.head()).status == 200
        assert await wire.reader.readuntil(b"ab\r\n") == b"2\r\nab\r\n"
        assert await told(worker, control, Kick(["alice"], force=True)) == ["alice"]
        assert await wire.end() == b""


async def test_a_kick_ends_a_tunnel_on_both_sides() -> None:
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCHED)
        await reader.read()
        ended.set()

    async with (
        backend(talk) as address,
        door(USERS, [Upstream("u", (address,))], QUIET, TOKENS) as (worker, control, port),
        connected(port) as wire,
    ):
        assert (await wire.ask(get(ALICE, more=UPGRADE))).status == 101
        assert await who(worker, control) == [("alice", "ws", "127.0.0.1")]
        assert await told(worker, control, Kick(["alice"])) == ["alice"]
        assert await wire.end() == b""
        async with asyncio.timeout(PATIENCE):
            await ended.wait()


async def test_a_shared_connection_outlives_a_kick_but_not_a_forced_one() -> None:
    async with (
        recording() as (_, address),
        door(USERS, [Upstream("u", (address,))], QUIET, TOKENS) as (worker, control, port),
        connected(port) as wire,
    ):
        for token in (ALICE, BOB):
            assert (await wire.ask(get(token))).status == 200
        assert await told(worker, control, Kick(["alice"])) == ["alice"]
        assert await who(worker, control) == [("bob", "http", "127.0.0.1")]
        assert (await wire.ask(get(ALICE))).status == 200
        assert await told(worker, control, Kick(["alice"], force=True)) == ["alice", "bob"]
        assert await wire.end() == b""


async def test_a_kick_by_a_tokens_detail_and_of_one_upstream() -> None:
    lines = [*USERS, Line("GET /v", "/v", "v", Policy(token="client-app"))]
    async with (
        recording() as (_, address),
        door(lines, [Upstream("u", (address,)), Upstream("v", (address,))], QUIET, TOKENS) as (worker, control, port),
        connected(port) as here,
        connected(port) as there,
    ):
        assert (await here.ask(get(ALICE))).status == 200
        assert (await there.ask(get(ALICE, "/v"))).status == 200
        assert await told(worker, control, Kick([], detail=("plan", "silver"))) == []
        assert await told(worker, control, Kick([], upstream="v", detail=("plan", "gold"))) == ["alice"]
        assert await there.end() == b""
        assert (await here.ask(get(ALICE))).status == 200


async def counted(worker: Worker, control: FakeControl) -> Counted:
    found = await told(worker, control, Dump())
    assert isinstance(found, Counted)
    return found


async def test_what_was_counted_of_users_addresses_and_sessions() -> None:
    async with (
        recording(lambda message: ok(b"12345")) as (_, address),
        door(USERS, [Upstream("u", (address,))], QUIET, TOKENS) as (worker, control, port),
    ):
        request = get(ALICE)
        async with connected(port) as wire:
            answers = [await wire.ask(request) for _ in range(3)]
            assert [answer.body for answer in answers] == [b"12345"] * 3
            assert (await wire.ask(get("f" * 64))).status == 401
            open_ = await counted(worker, control)
            assert (open_.users["alice"].connected, open_.total.connected) == (1, 1)
            assert [each.open for each in open_.sessions] == [True]
        await until(lambda: not worker.clients)
        found = await counted(worker, control)
        alice = found.users["alice"]
        assert (alice.logins, alice.exchanges, alice.reads, alice.writes) == (1, 4, 4, 4)
        assert (alice.admitted, alice.asked, alice.cached, alice.refused) == (3, 1, 2, 1)
        assert alice.read_bytes == 3 * len(request) + len(get("f" * 64))
        assert alice.write_bytes > 3 * 5 + 3 * 40
        assert found.addresses["127.0.0.1"].exchanges == 4
        assert (found.total.exchanges, found.total.connected) == (4, 0)
        (session,) = found.sessions
        assert (session.session.user, session.open, session.sums.exchanges) == ("alice", False, 4)
        assert found.total.last == session.session.last
        await told(worker, control, ResetStats())
        empty = await counted(worker, control)
        assert (empty.total.exchanges, empty.users, empty.addresses, empty.sessions) == (0, {}, {}, [])
        assert empty.since > found.since


async def test_failed_exchanges_are_remembered_singly() -> None:
    failing = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
    async with (
        recording(lambda message: failing) as (_, address),
        door(USERS, [Upstream("u", (address,))], QUIET, TOKENS) as (worker, control, port),
        connected(port) as wire,
    ):
        assert (await wire.ask(get(ALICE))).status == 500
        (slow,) = (await counted(worker, control)).slow
        assert (slow.route, slow.user, slow.address) == ("* /a", "alice", "127.0.0.1")


async def test_a_stopped_service_refuses_connections_until_it_is_started() -> None:
    async with (
        recording() as (_, address),
        door(USERS, [Upstream("u", (address,))], Gateway(access_log="", drain_timeout=100_000), TOKENS) as (
            worker, _, port,
        ),
        connected(port) as wire,
    ):  # fmt: skip
        assert (await wire.ask(get(ALICE))).status == 200
        worker.change(Change(1, stopped=["http"]))
        assert await wire.end() == b""
        await until(lambda: _refused(port))
        worker.change(Change(2, stopped=[]))
        await until(lambda: not _refused(port))
        async with connected(port) as again:
            assert (await again.ask(get(ALICE))).status == 200


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


async def test_stopped_tunnels_get_503_and_open_ones_end_after_the_drain() -> None:
    async with (
        backend(echo) as address,
        door(USERS, [Upstream("u", (address,))], Gateway(access_log="", drain_timeout=100_000), TOKENS) as (
            worker, _, port,
        ),
        connected(port) as tunnel,
        connected(port) as later,
    ):  # fmt: skip
        assert (await tunnel.ask(get(ALICE, more=UPGRADE))).status == 101
        worker.change(Change(1, stopped=["ws"]))
        assert await tunnel.end() == b""
        assert (await later.ask(get(ALICE, more=UPGRADE))).status == 503


async def test_members_join_an_upstream_and_leave_it_without_a_lost_request() -> None:
    gate = Gate()
    async with AsyncExitStack() as stack:
        one, first = await stack.enter_async_context(recording(lambda message: ok(b"one")))
        two, second = await stack.enter_async_context(recording(gate.reply))
        worker, control, port = await stack.enter_async_context(door(USERS, [Upstream("u", ())], QUIET, TOKENS))
        wire = await stack.enter_async_context(connected(port))
        assert (await wire.ask(get(ALICE))).status == 503
        worker.change(Change(1, members={"u": [first]}))
        assert (await wire.ask(get(ALICE))).body == b"one"
        worker.change(Change(2, members={"u": [second]}))
        await wire.say(get(ALICE))
        await until(lambda: len(two.requests) == 1)
        worker.change(Change(3, members={"u": [first]}))
        worker.do(9, Drain("u", hosts=[second]))
        assert (await _ask(port)).body == b"one"
        assert 9 not in control.results
        gate.opened.set()
        assert (await wire.answer()).body == b"late"
        assert await control.carried_out(9) == ["alice"]
        assert len(one.requests) == 2


async def _ask(port: int) -> Message:
    async with connected(port) as wire:
        return await wire.ask(get(BOB))


async def test_a_kick_ends_a_connection_whose_request_body_nobody_wants() -> None:
    async with (
        recording() as (_, address),
        door(USERS, [Upstream("u", (address,))], QUIET, TOKENS) as (worker, control, port),
        connected(port) as wire,
    ):
        assert (await wire.ask(get(ALICE))).status == 200
        await wire.say(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        assert (await wire.answer()).status == 404
        worker.do(1, Kick(["alice"], grace=60_000_000))
        assert await control.carried_out(1) == ["alice"]
        assert await wire.end() == b""


async def test_a_request_that_came_ahead_is_not_begun_on_a_connection_that_was_kicked() -> None:
    async with gated() as (gate, recorder, worker, control, port), connected(port) as wire:
        await wire.say(get(ALICE) + get(BOB))
        await until(lambda: len(recorder.requests) == 1)
        worker.do(1, Kick(["alice"]))
        gate.opened.set()
        assert (await wire.answer()).body == b"late"
        assert await wire.end() == b""
        assert await control.carried_out(1) == ["alice"]
        assert len(recorder.requests) == 1


async def test_what_a_client_left_before_its_answer_is_counted() -> None:
    async with gated() as (_, recorder, worker, control, port):
        async with connected(port) as wire:
            await wire.say(get(ALICE))
            await until(lambda: len(recorder.requests) == 1)
            wire.reset()
        await until(lambda: not worker.clients)
        found = await counted(worker, control)
        assert (found.total.exchanges, found.users["alice"].exchanges) == (1, 1)


async def test_what_is_refused_for_too_many_connections_is_counted() -> None:
    async with (
        recording() as (_, address),
        door(USERS, [Upstream("u", (address,))], Gateway(access_log="", max_connections=1), TOKENS) as (
            worker, control, port,
        ),
        connected(port) as wire,
    ):  # fmt: skip
        assert (await wire.ask(get(ALICE))).status == 200
        async with connected(port) as other:
            assert (await other.answer()).status == 503
            assert await other.end() == b""
        found = await counted(worker, control)
        assert found.total.exchanges == 2


async def test_members_that_change_while_another_configuration_is_built_are_its_members() -> None:
    async with AsyncExitStack() as stack:
        _, first = await stack.enter_async_context(recording(lambda message: ok(b"one")))
        _, second = await stack.enter_async_context(recording(lambda message: ok(b"two")))
        worker, _, port = await stack.enter_async_context(door(USERS, [Upstream("u", ())], QUIET, TOKENS))
        worker.change(Change(1, members={"u": [first]}))
        assert (await _ask(port)).body == b"one"
        build(worker, 2, USERS, [Upstream("u", (), timeout=9_000_000)], QUIET)
        worker.change(Change(2, members={"u": [second]}))
        worker.swap(2)
        assert (await _ask(port)).body == b"two"


async def test_the_least_recent_users_of_a_shared_connection_end_first() -> None:
    tokens = {f"{number:064x}": Admission("c", f"u{number}", ("basic",), LATER, None, {}) for number in range(5)}
    async with (
        recording() as (_, address),
        door(USERS, [Upstream("u", (address,))], QUIET, tokens) as (worker, control, port),
        connected(port) as wire,
    ):
        for token in [*tokens, *list(tokens)[:2]]:
            assert (await wire.ask(get(token))).status == 200
        (client,) = worker.clients
        client.sign_off_idle(max(tally.last for tally in client.tallies() if tally.user == "u3") + 1)
        assert [row[0] for row in await who(worker, control)] == ["u0", "u1", "u4"]


async def test_a_first_request_on_its_way_is_answered_while_connections_end() -> None:
    async with (
        recording() as (_, address),
        door(USERS, [Upstream("u", (address,))], QUIET, TOKENS) as (worker, _, port),
        connected(port) as fresh,
        connected(port) as silent,
        connected(port) as used,
    ):
        assert (await used.ask(get(ALICE))).status == 200
        await until(lambda: len(worker.clients) == 3)
        worker.change(Change(1, stopped=["http"]))
        answer = await fresh.ask(get(BOB))
        assert (answer.status, answer.one(b"connection")) == (200, b"close")
        assert [await each.end() for each in (fresh, silent, used)] == [b""] * 3


@undisturbed
async def test_a_second_stop_gives_what_is_under_way_its_whole_time() -> None:
    async with gated(Gateway(access_log="", drain_timeout=600_000)) as (gate, recorder, worker, _, port):
        worker.change(Change(1, stopped=["http"]))
        await asyncio.sleep(0.4)
        worker.change(Change(2, stopped=[]))
        async with connected(port) as wire:
            await wire.say(get(ALICE))
            await until(lambda: len(recorder.requests) == 1)
            worker.change(Change(3, stopped=["http"]))
            await asyncio.sleep(0.3)  # the first stop's time is over
            gate.opened.set()
            answer = await wire.answer()
            assert (answer.status, answer.body) == (200, b"late")
