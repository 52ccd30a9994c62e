"""An upstream with a director: each user has one backend, as control says, while control is heard."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic_ns

import msgspec
import pytest
from tests.gateway.door import FOREVER, FakeControl, Line, door, install
from tests.gateway.test_sessions import ALICE, BOB, TOKENS, Gate, get, told
from tests.gateway.wire import Recorder, Wire, backend, connected, ok, recording, until
from tests.undisturbed import undisturbed

from ostiary.core.director import Unsteer
from ostiary.core.marks import Mark
from ostiary.core.snapshot import Director, Gateway, Policy, Upstream
from ostiary.gateway.worker import Worker
from ostiary.link.messages import Change, Drain, FindStrays, Kick, Place, Question, Stray

QUIET = Gateway(access_log="")
LINES = [
    Line("* /a", "/a", policy=Policy(token="client-app")),
    Line("GET /eu", "/eu", policy=Policy(token="client-app", director_tag="eu")),
    Line("GET /open", "/open"),
]


def upstream(**definition: object) -> Upstream:
    return Upstream("u", (), "director", director=msgspec.convert(definition, Director))


class Two:
    """Two backends, and a worker before them."""

    def __init__(
        self, worker: Worker, control: FakeControl, port: int, one: Recorder, two: Recorder, at: list[str]
    ) -> None:
        self.worker, self.control, self.port, self.one, self.two, self.at = worker, control, port, one, two, at

    def place(self, name: str, index: int, hash_: int) -> None:
        """Have control say this of a user from now on."""
        self.control.places[name] = (f"127.0.0.{index + 1}", self.at[index], hash_)

    async def body(self, token: str, path: str = "/a", more: str = "") -> tuple[int, bytes]:
        async with connected(self.port) as wire:
            answer = await wire.ask(get(token, path, more))
            return answer.status, answer.body


@asynccontextmanager
async def two(gate: Gate | None = None, **definition: object) -> AsyncIterator[Two]:
    reply = gate.reply if gate is not None else lambda message: ok(b"one")
    async with (
        recording(reply) as (one, first),
        recording(lambda message: ok(b"two")) as (other, second),
        door(LINES, [upstream(**definition)], QUIET, TOKENS) as (worker, control, port),
    ):
        try:
            yield Two(worker, control, port, one, other, [first, second])
        finally:
            if gate is not None:
                gate.opened.set()


@asynccontextmanager
async def both_wait(gate: Gate) -> AsyncIterator[tuple[Two, Wire, Wire]]:
    """Alice (hash 7) and Bob (8) have asked the same host, which answers neither until the gate opens."""
    async with two(gate) as both:
        both.place("alice", 0, 7)
        both.place("bob", 0, 8)
        async with connected(both.port) as alice, connected(both.port) as bob:
            await alice.say(get(ALICE))
            await bob.say(get(BOB))
            await until(lambda: len(both.one.requests) == 2)
            yield both, alice, bob


async def test_a_user_goes_where_control_says_and_is_asked_about_once() -> None:
    async with two() as both:
        both.place("alice", 0, 7)
        both.place("bob", 1, 8)
        for _ in range(3):
            assert await both.body(ALICE) == (200, b"one")
            assert await both.body(BOB) == (200, b"two")
        assert (len(both.one.requests), len(both.two.requests)) == (3, 3)


async def test_a_tag_comes_from_the_route() -> None:
    async with two() as both:
        both.control.held = True
        asking = asyncio.create_task(both.body(ALICE, "/eu"))
        await until(lambda: bool(both.control.questions))
        assert both.control.questions == [Question("u", "eu", "alice", True)]
        both.place("alice", 1, 7)
        both.control.place()
        assert await asking == (200, b"two")


@pytest.mark.parametrize(
    ("source", "more", "question"),
    [
        ("header X-Mailbox", "X-Mailbox: Alice@Example\r\n", Question("u", "", "Alice@Example", True)),
        ("header X-Mailbox", "X-Mailbox: a\r\nX-Mailbox: b\r\n", Question("u", "", "127.0.0.1", False)),
        ("cookie who", "Cookie: a=b; who=carol\r\n", Question("u", "", "carol", True)),
        ("cookie who", "Cookie: who=carol; who=dave\r\n", Question("u", "", "127.0.0.1", False)),
        ("cookie who", f"Cookie: who={'x' * 256}\r\n", Question("u", "", "127.0.0.1", False)),
        ("token", "", Question("u", "", "127.0.0.1", False)),
    ],
)
async def test_where_the_user_is_named(source: str, more: str, question: Question) -> None:
    async with two(user_from=source) as both:
        both.place(question.name, 0, 1)
        both.control.held = True
        asking = asyncio.create_task(both.body("", "/open", more))
        await until(lambda: bool(both.control.questions))
        assert both.control.questions == [question]
        both.control.place()
        assert await asking == (200, b"one")


async def test_a_client_without_a_user_is_steered_by_its_client_application_and_asked_about_once() -> None:
    async with two() as both:
        both.place("c", 1, 9)
        assert await both.body("n" * 64) == (200, b"two")
        both.control.places.clear()
        assert await both.body("n" * 64) == (200, b"two")
        assert len(both.worker.upstreams["u"].director or ()) == 0


async def test_no_host_is_503_at_once_and_an_unreachable_one_502() -> None:
    async with two() as both:
        async with connected(both.port) as wire:
            answer = await wire.ask(get(ALICE))
            assert (answer.status, answer.one(b"retry-after")) == (503, b"1")
        both.control.places["bob"] = ("127.0.0.9", "127.0.0.1:1", 3)
        assert (await both.body(BOB))[0] == 502
        assert (len(both.one.requests), len(both.two.requests)) == (0, 0)


async def test_who_is_forgotten_is_asked_about_anew() -> None:
    async with two() as both:
        for steering, asked in (
            (Unsteer("u", hashes=[("", 7)]), True),
            (Unsteer("u", hashes=[("eu", 7)]), False),
            (Unsteer("u", hosts=["127.0.0.1"]), True),
            (Unsteer("u", hosts=["127.0.0.2"]), False),
            (Unsteer("u"), True),
            (Unsteer("v"), False),
        ):
            both.place("alice", 0, 7)
            both.worker.change(Change(1, steering=[Unsteer("u")]))
            assert await both.body(ALICE) == (200, b"one")
            both.place("alice", 1, 7)
            both.worker.change(Change(2, steering=[steering]))
            assert await both.body(ALICE) == (200, b"two" if asked else b"one")


async def test_without_a_lease_an_assignment_counts_for_nothing() -> None:
    async with two() as both:
        both.place("alice", 0, 7)
        assert await both.body(ALICE) == (200, b"one")
        both.worker.lease(monotonic_ns() - 1)
        both.worker.connected(False)
        assert (await both.body("", "/open"))[0] == 503
        both.worker.lease(FOREVER)
        both.worker.connected(True)
        assert await both.body(ALICE) == (200, b"one")


async def test_what_control_said_holds_when_another_is_heard_but_for_what_that_one_ends() -> None:
    async with two() as both:
        both.place("alice", 0, 7)
        both.place("bob", 0, 8)
        assert [await both.body(ALICE), await both.body(BOB)] == [(200, b"one")] * 2
        both.control.places = {}
        both.worker.connected(False)
        assert await both.body(ALICE) == (200, b"one")
        both.worker.connected(True)
        assert [await both.body(ALICE), await both.body(BOB)] == [(200, b"one")] * 2
        both.place("bob", 1, 8)
        both.worker.change(Change(1, steering=[Unsteer("u", hashes=[("", 8)])]))
        assert [await both.body(ALICE), await both.body(BOB)] == [(200, b"one"), (200, b"two")]
        both.place("alice", 1, 7)
        both.worker.change(Change(2, steering=[Unsteer("")]))
        assert await both.body(ALICE) == (200, b"two")


async def test_who_may_have_expired_unnoticed_is_asked_about_anew_and_need_not_change() -> None:
    async with two() as both:
        both.place("alice", 0, 7)
        director = both.worker.upstreams["u"].director
        assert director is not None
        async with connected(both.port) as wire:
            assert (await wire.ask(get(ALICE))).body == b"one"
            known = director.find("", "alice", monotonic_ns())
            both.worker.doubt([("u", "", 7), ("u", "", 9), ("v", "", 7)])
            assert director.find("", "alice", monotonic_ns()) is None
            assert (await wire.ask(get(ALICE))).body == b"one"
            assert director.find("", "alice", monotonic_ns()) is known
            both.worker.doubt([("u", "", 7)])
            both.place("alice", 1, 7)
            assert (await wire.ask(get(ALICE))).body == b"two"


async def test_a_worker_says_what_flows_for_those_it_has_forgotten() -> None:
    gate = Gate()
    async with both_wait(gate) as (both, alice, bob):
        both.worker.change(Change(1, steering=[Unsteer("u", hashes=[("", 7)])]))
        assert await told(both.worker, both.control, FindStrays()) == [Stray("u", "", 7, "127.0.0.1")]
        gate.opened.set()
        assert (await alice.answer()).body == (await bob.answer()).body == b"late"
        both.worker.change(Change(2, steering=[Unsteer("")]))
        assert await told(both.worker, both.control, FindStrays()) == []


async def test_two_names_of_one_hash_are_one() -> None:
    async with two() as both:
        both.place("alice", 0, 7)
        both.place("bob", 0, 7)
        assert await both.body(ALICE) == (200, b"one")
        assert await both.body(BOB) == (200, b"one")
        assert len(both.worker.upstreams["u"].director or ()) == 1
        both.place("bob", 1, 7)
        both.place("alice", 1, 7)
        both.worker.change(Change(1, steering=[Unsteer("u", hashes=[("", 7)])]))
        assert await both.body(BOB) == (200, b"two")


@undisturbed
async def test_an_assignment_in_use_is_told_once_in_half_its_time_and_one_that_is_over_goes() -> None:
    async with two() as both:
        both.control.expire = 1
        both.place("alice", 0, 7)
        both.place("bob", 0, 8)
        director = both.worker.upstreams["u"].director
        assert director is not None
        async with connected(both.port) as wire:
            assert (await wire.ask(get(ALICE))).status == 200
            assert await both.body(BOB) == (200, b"one")
            assert len(director) == 2
            # Alice's connection is open, though idle: that keeps her assignment, and Bob's goes.
            await until(lambda: len(director) < 2)
            assert len(director) == 1
            assert set(both.control.touched) == {("u", "", 7)}


async def test_a_drain_waits_for_what_flows_to_the_old_host_and_nothing_else() -> None:
    gate = Gate()
    async with two(gate) as both:
        both.place("alice", 0, 7)
        both.place("bob", 1, 8)
        async with connected(both.port) as wire:
            await wire.say(get(ALICE))
            await until(lambda: len(both.one.requests) == 1)
            assert await both.body(BOB) == (200, b"two")
            both.place("alice", 1, 7)
            both.worker.change(Change(1, steering=[Unsteer("u", hashes=[("", 7)])]))
            both.worker.do(1, Drain("u", hashes=[("", 7)]))
            both.worker.do(2, Drain("u", hashes=[("", 8)]))
            assert await both.control.carried_out(2) == []
            assert 1 not in both.control.results
            gate.opened.set()
            assert (await wire.answer()).body == b"late"
            assert await both.control.carried_out(1) == ["alice"]
            assert (await wire.ask(get(ALICE))).body == b"two"


async def test_a_drain_cuts_what_takes_longer_than_its_grace() -> None:
    gate = Gate()
    async with two(gate) as both:
        both.place("alice", 0, 7)
        async with connected(both.port) as wire:
            await wire.say(get(ALICE))
            await until(lambda: len(both.one.requests) == 1)
            both.worker.change(Change(1, steering=[Unsteer("u", hosts=["127.0.0.1"])]))
            order = Drain("u", hosts=[both.at[0]], grace=100_000, close=True)
            assert await told(both.worker, both.control, order) == ["alice"]
            assert (await wire.answer()).status == 503
            assert await wire.end() == b""


async def test_a_worker_says_whether_anything_flows_for_those_it_forgets() -> None:
    gate = Gate()
    async with two(gate) as both:
        both.place("alice", 0, 7)
        both.place("bob", 1, 8)

        def still(*hashes: int, hosts: Sequence[str] = ()) -> int:
            gone = Unsteer("u", [("", number) for number in hashes], list(hosts))
            return both.worker.change(Change(1, steering=[gone]))["still"]

        async with connected(both.port) as alice, connected(both.port) as bob:
            await alice.say(get(ALICE))
            await until(lambda: len(both.one.requests) == 1)
            assert (await bob.ask(get(BOB))).body == b"two"
            assert (still(8, 9), still(7, 8), still(7), still(hosts=["127.0.0.9"])) == (1, 0, 0, 0)
            gate.opened.set()
            assert (await alice.answer()).body == b"late"
            await until(lambda: still(7) == 1)


async def test_a_drain_by_a_mark_is_for_those_whom_it_takes_from_the_host() -> None:
    """Alice and Bob are at one host; all but Bob leave it."""
    gate = Gate()
    async with both_wait(gate) as (both, alice, bob):
        both.worker.change(Change(1, steering=[Unsteer("u", hosts=["127.0.0.1"])]))
        mark = Mark(1, "127.0.0.1", (("127.0.0.2", 1),), 0, frozenset({8}))
        elsewhere = msgspec.structs.replace(mark, host="127.0.0.2", ring=())
        assert await told(both.worker, both.control, Drain("u", grace=0, mark=elsewhere)) == []
        assert await told(both.worker, both.control, Drain("u", grace=0, mark=mark)) == ["alice"]
        assert (await alice.answer()).status == 503
        gate.opened.set()
        assert (await bob.answer()).body == b"late"


async def test_a_mark_that_forgets_ends_idle_connections_of_those_whom_it_takes() -> None:
    async with two() as both:
        both.place("alice", 0, 7)
        both.place("bob", 0, 8)
        async with connected(both.port) as alice, connected(both.port) as bob:
            assert (await alice.ask(get(ALICE))).body == b"one"
            assert (await bob.ask(get(BOB))).body == b"one"
            both.worker.change(Change(1, steering=[Unsteer("u", hosts=["127.0.0.1"])]))
            mark = Mark(1, "127.0.0.1", (), 0, frozenset({8}))
            assert await told(both.worker, both.control, Drain("u", close=True, mark=mark)) == ["alice"]
            assert await alice.end() == b""
            assert (await bob.ask(get(BOB))).status == 200


async def test_a_drain_that_closes_ends_idle_connections_of_its_users() -> None:
    async with two() as both:
        both.place("alice", 0, 7)
        both.place("bob", 1, 8)
        async with connected(both.port) as alice, connected(both.port) as bob:
            assert (await alice.ask(get(ALICE))).body == b"one"
            assert (await bob.ask(get(BOB))).body == b"two"
            both.worker.change(Change(1, steering=[Unsteer("u", hashes=[("", 7)])]))
            order = Drain("u", hashes=[("", 7)], close=True)
            assert await told(both.worker, both.control, order) == ["alice"]
            assert await alice.end() == b""
            assert (await bob.ask(get(BOB))).status == 200


async def test_a_reload_keeps_who_is_to_be_drained() -> None:
    gate = Gate()
    async with two(gate) as both:
        both.place("alice", 0, 7)
        async with connected(both.port) as wire:
            await wire.say(get(ALICE))
            await until(lambda: len(both.one.requests) == 1)
            install(both.worker, 2, LINES, [upstream(user_hash="%u")], QUIET)
            both.worker.do(1, Drain("u", hashes=[("", 7)]))
            await asyncio.sleep(0.1)
            assert 1 not in both.control.results
            gate.opened.set()
            assert (await wire.answer()).body == b"late"
            assert await both.control.carried_out(1) == ["alice"]


async def test_an_answer_for_an_upstream_that_is_gone_is_a_refusal() -> None:
    async with two() as both:
        both.control.held = True
        asking = asyncio.create_task(both.body(ALICE))
        await until(lambda: bool(both.control.questions))
        (question,) = both.control.questions
        install(both.worker, 2, [Line("GET /x", "/x", "v")], [Upstream("v", ("127.0.0.1:1",))], QUIET)
        both.worker.steered([Place(question, "127.0.0.1", both.at[0], 7, 900)])
        assert (await asking)[0] == 503


async def test_a_kick_finds_users_that_no_token_names() -> None:
    async with two(user_from="header X-Mailbox") as both:
        both.place("alice", 0, 7)
        both.place("bob", 1, 8)
        async with connected(both.port) as alice, connected(both.port) as bob:
            assert (await alice.ask(get("", "/open", "X-Mailbox: alice\r\n"))).body == b"one"
            assert (await bob.ask(get("", "/open", "X-Mailbox: bob\r\n"))).body == b"two"
            assert await told(both.worker, both.control, Kick(["alice"], upstream="u")) == ["alice"]
            assert await alice.end() == b""
            assert (await bob.ask(get("", "/open", "X-Mailbox: bob\r\n"))).body == b"two"
            assert both.control.questions == []


async def test_who_was_forgotten_is_drained_however_late_and_however_often_that_is_asked() -> None:
    gate = Gate()
    async with two(gate) as both:
        both.place("alice", 0, 7)
        director = both.worker.upstreams["u"].director
        assert director is not None
        async with connected(both.port) as wire:
            await wire.say(get(ALICE))
            await until(lambda: len(both.one.requests) == 1)
            both.worker.change(Change(1, steering=[Unsteer("u", hashes=[("", 7)])]))
            for _ in range(3):
                director.tick(monotonic_ns(), 1.0)
            for seq in (1, 2):
                both.worker.do(seq, Drain("u", hashes=[("", 7)]))
            await turns()
            both.worker.connected(True)  # control has a successor, which asks again
            both.worker.do(3, Drain("u", hashes=[("", 7)]))
            await turns()
            assert both.control.results == {}
            gate.opened.set()
            assert (await wire.answer()).body == b"late"
            for seq in (1, 2, 3):
                assert await both.control.carried_out(seq) == ["alice"]


async def turns() -> None:
    """Let the worker look a few times at what must end."""
    await asyncio.sleep(0.1)


async def test_a_drain_does_not_wait_for_a_request_that_has_not_gone_anywhere() -> None:
    async with two() as both:
        both.place("alice", 0, 7)
        both.control.silent = False
        async with connected(both.port) as wire:
            assert (await wire.ask(get(ALICE))).body == b"one"
            both.worker.admissions.drop(Change(1, everything=True))
            both.control.silent = True
            await wire.say(get(ALICE))
            await until(lambda: bool(both.worker.asking.waiting))
            both.worker.change(Change(2, steering=[Unsteer("u", hashes=[("", 7)])]))
            assert await told(both.worker, both.control, Drain("u", hashes=[("", 7)])) == []
            both.place("alice", 1, 7)
            both.control.silent = False
            both.control.ask(list(both.worker.asking.waiting))
            assert (await wire.answer()).body == b"two"


async def test_a_request_that_is_sent_again_waits_for_the_move_that_waits_for_nothing_else() -> None:
    dropped = asyncio.Event()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(b"one"))
        await reader.readuntil(b"\r\n\r\n")
        await dropped.wait()

    async with (
        backend(once) as first,
        recording(lambda message: ok(b"two")) as (_, second),
        door(LINES, [upstream()], QUIET, TOKENS) as (worker, control, port),
        connected(port) as wire,
    ):
        control.places["alice"] = ("127.0.0.1", first, 7)
        assert (await wire.ask(get(ALICE))).body == b"one"
        await wire.say(get(ALICE))
        await until(lambda: any(client.exchange.flowing() for client in worker.clients))
        control.held = True
        worker.change(Change(1, steering=[Unsteer("u", hashes=[("", 7)])]))
        worker.do(1, Drain("u", hashes=[("", 7)]))
        await turns()
        assert 1 not in control.results
        dropped.set()
        assert await control.carried_out(1) == ["alice"]
        control.places["alice"] = ("127.0.0.2", second, 7)
        control.place()
        assert (await wire.answer()).body == b"two"


async def test_users_of_a_shared_connection_are_let_go_a_while_after_their_last_request() -> None:
    async with two(user_from="header X-Mailbox") as both:
        async with connected(both.port) as wire:
            for number in range(100):
                both.place(f"user{number}", number % 2, number)
                answer = await wire.ask(get("", "/open", f"X-Mailbox: user{number}\r\n"))
                assert answer.status == 200
            (client,) = both.worker.clients
            every = client.uses()
            assert len(every) == 100
            client.use_anew()
            assert (await wire.ask(get("", "/open", "X-Mailbox: user7\r\n"))).status == 200
            client.use_anew()
            assert [each.names for each in client.uses()] == [["user7"]]
            assert [each.names for each in every if each.clients] == [["user7"]]
            client.use_anew()
            client.use_anew()
            assert [each.names for each in client.uses()] == [["user7"]]
        await until(lambda: not both.worker.clients)
        assert [each.names for each in every if each.clients] == []


async def test_an_exchange_under_way_keeps_its_users_assignment_on_a_shared_connection() -> None:
    gate = Gate()
    async with two(gate, user_from="header X-Mailbox") as both:
        both.place("ann", 1, 7)
        both.place("bob", 0, 8)
        async with connected(both.port) as wire:
            assert (await wire.ask(get("", "/open", "X-Mailbox: ann\r\n"))).body == b"two"
            await wire.say(get("", "/open", "X-Mailbox: bob\r\n"))
            await until(lambda: len(both.one.requests) == 1)
            (client,) = both.worker.clients
            for _ in range(3):
                client.use_anew()
            assert [each.names for each in client.uses()] == [["bob"]]
            gate.opened.set()
            assert (await wire.answer()).body == b"late"


async def test_a_removed_host_leaves_a_shared_connection_open() -> None:
    async with two(user_from="header X-Mailbox") as both:
        both.place("ann", 1, 7)
        both.place("bob", 0, 8)
        async with connected(both.port) as wire:
            for name in ("ann", "bob"):
                assert (await wire.ask(get("", "/open", f"X-Mailbox: {name}\r\n"))).status == 200
            both.worker.change(Change(1, steering=[Unsteer("u", hosts=["127.0.0.1"])]))
            await told(both.worker, both.control, Drain("u", hosts=["127.0.0.1"], close=True))
            both.place("bob", 1, 8)
            assert (await wire.ask(get("", "/open", "X-Mailbox: bob\r\n"))).body == b"two"


async def test_hosts_that_operators_added_keep_their_connections_over_a_reload() -> None:
    async with two() as both:
        both.place("alice", 0, 7)
        assert await both.body(ALICE) == (200, b"one")
        install(both.worker, 2, LINES, [upstream()], QUIET)
        for _ in range(3):
            assert await both.body(ALICE) == (200, b"one")
        assert both.one.connections == 1


async def test_hosts_of_one_address_are_apart() -> None:
    """A droplet, and a server on another port of that address."""
    gate = Gate()
    async with two(gate) as both:
        both.control.places["alice"] = (both.at[0], both.at[0], 7)
        both.control.places["bob"] = ("127.0.0.1", both.at[1], 8)
        async with connected(both.port) as wire:
            await wire.say(get(ALICE))
            await until(lambda: len(both.one.requests) == 1)
            assert await both.body(BOB) == (200, b"two")
            both.worker.change(Change(1, steering=[Unsteer("u", hosts=["127.0.0.1"])]))
            assert await told(both.worker, both.control, Drain("u", hosts=["127.0.0.1"])) == []
            assert list(both.worker.upstreams["u"].named) == [both.at[0]]
            both.worker.change(Change(2, steering=[Unsteer("u", hosts=[both.at[0]])]))
            both.worker.do(1, Drain("u", hosts=[both.at[0]]))
            gate.opened.set()
            assert (await wire.answer()).body == b"late"
            assert await both.control.carried_out(1) == ["alice"]
            assert list(both.worker.upstreams["u"].named) == []


async def test_who_waits_for_a_droplet_waits_as_long_as_that_may_drain() -> None:
    async with two(drain=3_600_000_000) as both:
        both.control.held = True
        async with connected(both.port) as wire:
            await wire.say(get(ALICE))
            await until(lambda: bool(both.control.questions))
            [client] = both.worker.clients
            assert client.deadline > monotonic_ns() + 3_500_000_000_000


async def test_what_is_over_is_remembered_of_nobody() -> None:
    async with two(user_from="header X-Mailbox") as both:
        director = both.worker.upstreams["u"].director
        assert director is not None
        for number in range(50):
            both.place(f"u{number}", 0, number)
            assert (await both.body("", "/open", f"X-Mailbox: u{number}\r\n"))[0] == 200
        assert len(director) == 50
        both.worker.change(Change(1, steering=[Unsteer("u", hosts=["127.0.0.1"])]))
        for _ in range(2):
            director.tick(monotonic_ns(), 1.0)
        assert (len(director), director._names, director._leaving) == (0, {}, {})


async def test_a_kick_waits_for_a_user_that_only_a_header_names_whoever_holds_the_token() -> None:
    gate = Gate()
    async with two(gate, user_from="header X-Mailbox") as both:
        both.place("ann", 0, 7)
        both.place("bob", 1, 8)
        async with connected(both.port) as wire, connected(both.port) as alone:
            assert (await wire.ask(get(BOB, more="X-Mailbox: bob\r\n"))).body == b"two"
            for line in (wire, alone):
                await line.say(get(ALICE, more="X-Mailbox: ann\r\n"))
            await until(lambda: len(both.one.requests) == 2)
            both.worker.do(1, Kick(["ann"], upstream="u"))
            await turns()
            assert 1 not in both.control.results
            gate.opened.set()
            assert (await wire.answer()).all(b"connection") == []
            assert (await alone.answer()).one(b"connection") == b"close"
            assert await both.control.carried_out(1) == ["ann"]
            assert (await wire.ask(get(BOB, more="X-Mailbox: bob\r\n"))).body == b"two"


async def test_a_kick_by_a_tokens_detail_finds_users_that_a_header_names() -> None:
    async with two(user_from="header X-Mailbox") as both:
        both.place("ann", 0, 7)
        async with connected(both.port) as wire:
            assert (await wire.ask(get(ALICE, more="X-Mailbox: ann\r\n"))).body == b"one"
            assert await told(both.worker, both.control, Kick([], upstream="u", detail=("plan", "gold"))) == ["alice"]
            assert await wire.end() == b""
