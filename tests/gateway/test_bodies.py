"""Bodies arrive byte-identical both ways, however they are framed; and what comes of backends that misbehave."""

import asyncio
from dataclasses import dataclass

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.gateway.door import Line, door
from tests.gateway.wire import Recorder, Wire, backend, closed_port, connected, ok, recording, says, until

from ostiary.core.snapshot import Gateway, Policy, Upstream

QUIET = Gateway(access_log="")
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH"]
STATUSES = [
    200,
    201,
    202,
    203,
    206,
    207,
    226,
    300,
    301,
    302,
    307,
    400,
    401,
    403,
    404,
    409,
    418,
    429,
    451,
    500,
    502,
    503,
    599,
]
BODIES = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\0" * 3000, bytes(range(256)) * 300]),
)
CUTS = st.lists(st.integers(1, 200), max_size=6)
NAMES = st.sampled_from([b"X-A", b"x-a", b"X-B", b"Accept", b"Content-Encoding", b"ETag", b"Range", b"x_under"])
VALUES = st.sampled_from([b"", b"1", b"a, b", b"gzip", b'"q"', b"caf\xc3\xa9", b"\xff", b"a\tb", b"x" * 300])
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
QUERIES = st.lists(
    st.sampled_from([b"a=1", b"a=2", b"b", b"a=1", b"", b"%2F", b"+", b"x=%ff", b"q=a/b?c", b"{n}"]), max_size=6
)


def cut(body: bytes, cuts: list[int]) -> list[bytes]:
    """`body` in pieces of these sizes, then the rest."""
    pieces, at = [], 0
    for size in cuts:
        pieces.append(body[at : at + size])
        at += size
    return [piece for piece in [*pieces, body[at:]] if piece]


@dataclass(frozen=True)
class Framed:
    """A body, how it is delimited and how it is cut: `length`, `chunked`, `close` or `none`."""

    how: str
    body: bytes
    cuts: list[int]

    def head(self) -> bytes:
        """Its field line."""
        if self.how == "chunked":
            return b"Transfer-Encoding: chunked\r\n"
        return b"Content-Length: %d\r\n" % len(self.body) if self.how == "length" else b""

    def pieces(self) -> list[bytes]:
        """What is written, piece by piece."""
        pieces = cut(self.body, self.cuts)
        if self.how != "chunked":
            return pieces
        return [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]


def framed(*ways: str) -> st.SearchStrategy[Framed]:
    """Bodies framed in one of these ways."""
    return st.builds(Framed, st.sampled_from(ways), BODIES, CUTS).map(
        lambda each: Framed(each.how, b"", []) if each.how == "none" else each
    )


@dataclass(frozen=True)
class Trip:
    """One request and the answer of its backend."""

    method: str
    query: list[bytes]
    fields: list[tuple[bytes, bytes]]
    request: Framed
    status: int
    answer_fields: list[tuple[bytes, bytes]]
    response: Framed

    def said(self) -> list[bytes]:
        """What the client writes."""
        query = b"?" + b"&".join(self.query) if self.query else b""
        lines = b"".join(b"%s: %s\r\n" % pair for pair in self.fields)
        start = b"%s /a%s HTTP/1.1\r\nHost: x\r\n" % (self.method.encode(), query)
        return [start + lines + self.request.head() + b"\r\n", *self.request.pieces()]

    def answered(self) -> list[bytes]:
        """What the backend writes."""
        lines = b"".join(b"%s: %s\r\n" % pair for pair in self.answer_fields)
        start = b"HTTP/1.1 %d Some Reason\r\n" % self.status
        end = [b""] if self.response.how == "close" else []
        return [start + lines + self.response.head() + b"\r\n", *self.response.pieces(), *end]


TRIPS = st.builds(
    Trip,
    st.sampled_from(METHODS),
    QUERIES,
    FIELDS,
    framed("length", "chunked", "none"),
    st.sampled_from(STATUSES),
    FIELDS,
    framed("length", "chunked", "close"),
)


def lowered(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """`fields` with names in lower case."""
    return [(name.lower(), value) for name, value in fields]


def without(fields: list[tuple[bytes, bytes]], *names: bytes) -> list[tuple[bytes, bytes]]:
    """`fields` but for those of these names."""
    return [pair for pair in fields if pair[0] not in names]


ADDED = (
    b"host", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded", b"via", b"x-request-id",
    b"content-length", b"transfer-encoding", b"connection",
)  # fmt: skip


async def travel(wire: Wire, recorder: Recorder, trip: Trip) -> None:
    """Make the trip, and see that all of it arrived at both ends."""
    recorder.reply = lambda message: trip.answered()
    recorder.requests.clear()
    for piece in trip.said():
        await wire.say(piece)
    answer = await wire.answer(trip.method.encode())
    assert answer.start == b"HTTP/1.1 %d Some Reason" % trip.status
    assert answer.body == trip.response.body
    assert without(answer.fields, *ADDED) == lowered(trip.answer_fields)
    (got,) = recorder.requests
    query = b"?" + b"&".join(trip.query) if b"&".join(trip.query) else b""
    assert got.start == b"%s /b%s HTTP/1.1" % (trip.method.encode(), query)
    assert got.body == trip.request.body
    assert without(got.fields, *ADDED) == lowered(trip.fields)
    assert got.all(b"content-length") == ([b"%d" % len(got.body)] if trip.request.how == "length" else [])


@given(st.lists(TRIPS, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_bodies_and_fields_arrive_as_they_were_sent(trips: list[Trip]) -> None:
    """Several trips on one kept-alive connection, so that nothing of one is left in the next."""

    async def travels() -> None:
        async with (
            recording() as (recorder, address),
            door([Line("* /a", "/b")], [Upstream("u", (address,))], QUIET) as (_, _, port),
            connected(port) as wire,
        ):
            for trip in trips:
                await travel(wire, recorder, trip)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(travels())


GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
PLAIN = Policy()
FAILED = b'{"error":"backend failed"}'


def lines(policy: Policy = PLAIN) -> list[Line]:
    """One route for any method."""
    return [Line("* /a", "/b", policy=policy)]


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
async def test_head_has_the_head_of_get_and_no_body(framing: bytes) -> None:
    async with (
        recording(lambda message: b"HTTP/1.1 200 OK\r\nX-A: 1\r\n%s\r\n" % framing) as (recorder, address),
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        for _ in range(2):
            answer = await wire.ask(HEAD)
            assert (answer.status, answer.one(b"x-a")) == (200, b"1")
            assert answer.all(b"content-length") == ([b"5"] if b"Length" in framing else [])
            assert answer.all(b"transfer-encoding") == []
        assert [each.start for each in recorder.requests] == [b"HEAD /b HTTP/1.1"] * 2


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("framing", [b"", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n"])
async def test_answers_that_have_no_body_have_none_whatever_they_announce(status: int, framing: bytes) -> None:
    async with (
        recording(lambda message: b'HTTP/1.1 %d X\r\nETag: "1"\r\n%s\r\n' % (status, framing)) as (recorder, address),
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        for _ in range(2):
            answer = await wire.ask(GET)
            assert (answer.status, answer.one(b"etag")) == (status, b'"1"')
            kept = [] if status == 204 or not framing else [framing[16:-2]]
            assert answer.all(b"content-length") == kept
        assert [each.connection for each in recorder.requests] == [1, 1]


async def test_interim_answers_pass_to_clients_of_http_1_1_but_for_100() -> None:
    reply = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + ok()
    async with (
        recording(lambda message: reply) as (_, address),
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
    ):
        async with connected(port) as wire:
            answer = await wire.ask(GET)
            assert (answer.status, answer.body) == (200, b"ok")
            assert [(each.status, each.all(b"link")) for each in wire.interim] == [(103, [b"</x>"]), (102, [])]
        async with connected(port) as wire:
            answer = await wire.ask(b"GET /a HTTP/1.0\r\n\r\n")
            assert (answer.status, answer.body) == (200, b"ok")
            assert wire.interim == []


async def test_interim_answers_that_come_in_pieces_pass_whole() -> None:
    reply = [bytes([byte]) for byte in b"HTTP/1.1 103 Early\r\n\r\n" + ok()]
    async with (
        recording(lambda message: reply) as (_, address),
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        assert (await wire.ask(GET)).body == b"ok"
        assert [each.status for each in wire.interim] == [103]


async def test_endless_interim_answers_are_a_failure_of_the_backend() -> None:
    async with (
        recording(lambda message: b"HTTP/1.1 102 P\r\n\r\n" * 5000 + ok()) as (_, address),
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        answer = await wire.ask(GET)
        assert (answer.status, answer.body) == (502, FAILED)
        assert len(wire.interim) == 16


# -- 100-continue


async def test_100_continue_is_said_before_the_body_is_read() -> None:
    async with (
        recording() as (recorder, address),
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await wire.say(POST + b"Expect: 100-Continue\r\n\r\n")
        assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert recorder.requests == []
        await wire.say(b"abcde")
        assert (await wire.answer()).status == 200
        assert recorder.requests[0].body == b"abcde"
        assert recorder.requests[0].all(b"expect") == []


async def test_100_continue_is_not_said_when_the_body_is_there_or_announced_by_nobody() -> None:
    async with (
        recording() as (recorder, address),
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        assert (await wire.ask(POST + b"Expect: 100-continue\r\n\r\nabcde")).status == 200
        assert (await wire.ask(b"GET /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n")).status == 200
        assert wire.interim == []
        assert [each.body for each in recorder.requests] == [b"abcde", b""]


async def test_a_client_of_http_1_0_expects_nothing() -> None:
    async with (
        recording() as (_, address),
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await wire.say(b"POST /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        await wire.say(b"abcde")
        assert (await wire.answer()).status == 200
        assert wire.interim == []


# -- early answers


async def test_an_answer_before_the_body_has_come_passes_and_ends_the_connection() -> None:
    async with (
        backend(says(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", close=False)) as address,
        door(lines(), [Upstream("u", (address,))], QUIET) as (worker, _, port),
        connected(port) as wire,
    ):
        await wire.say(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\nabc")
        answer = await wire.answer()
        assert (answer.status, answer.body, answer.one(b"connection")) == (403, b"no", b"close")
        assert await wire.end() == b""
        await until(lambda: worker.upstreams["u"].backends[0].connections == 0)


async def test_a_client_that_goes_on_sending_still_reads_the_early_answer() -> None:
    body = b"n" * 100_000
    async with (
        backend(says(b"HTTP/1.1 413 No\r\nContent-Length: 100000\r\n\r\n" + body, close=False)) as address,
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await wire.say(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
        sending = asyncio.create_task(wire.say(b"x" * 2_900_000))
        answer = await wire.answer()
        assert (answer.status, answer.body) == (413, body)
        await sending


async def test_both_directions_flow_at_once() -> None:
    """A backend that answers each piece as it gets it (early answer, then echo)."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n")
        for _ in range(3):
            writer.write(await reader.readexactly(5))

    async with (
        backend(talk) as address,
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await wire.say(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n")
        assert (await wire.head()).status == 200
        for piece in (b"first", b"secnd", b"third"):
            await wire.say(piece)
            assert await wire.reader.readexactly(5) == piece


# -- HTTP/1.0 clients


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("keep", [False, True])
async def test_clients_of_http_1_0_get_no_chunks(framing: str, keep: bool) -> None:
    response = Framed(framing, b"abcdefgh", [3])
    end = [b""] if framing == "close" else []
    async with (
        recording(lambda message: [b"HTTP/1.1 200 OK\r\n" + response.head() + b"\r\n", *response.pieces(), *end]) as (
            recorder,
            address,
        ),
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        keeping = b"Connection: keep-alive\r\n" if keep else b""
        answer = await wire.ask(b"GET /a HTTP/1.0\r\n" + keeping + b"\r\n")
        assert (answer.status, answer.body) == (200, b"abcdefgh")
        assert answer.all(b"transfer-encoding") == []
        kept = keep and framing == "length"
        assert answer.one(b"connection") == (b"keep-alive" if kept else b"close")
        if kept:
            assert (await wire.ask(b"GET /a HTTP/1.0\r\n\r\n")).body == b"abcdefgh"
        assert await wire.end() == b""
        assert recorder.requests[0].start == b"GET /b HTTP/1.1"


async def test_a_client_that_has_said_all_still_gets_its_answer() -> None:
    async with (
        recording() as (_, address),
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        wire.writer.write(GET)
        wire.half_close()
        assert (await wire.answer()).body == b"ok"
        assert await wire.end() == b""


# -- backends that misbehave

WHOLE = (502, FAILED)
MISBEHAVIOUR: list[tuple[str, bytes, tuple[int, bytes] | None]] = [
    ("nothing", b"", WHOLE),
    ("garbage", b"nonsense\r\n\r\n", WHOLE),
    ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le", WHOLE),
    ("HTTP/2", b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", WHOLE),
    ("HTTP/0.9", b"<html>\r\n\r\n</html>", WHOLE),
    ("a status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", WHOLE),
    ("a status of 600", b"HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok", WHOLE),
    ("a status of 099", b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", WHOLE),
    ("a reason with a control character", b"HTTP/1.1 200 O\x01K\r\nContent-Length: 2\r\n\r\nok", WHOLE),
    ("an empty line first", b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", WHOLE),
    ("both framings", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", WHOLE),
    ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", WHOLE),
    ("a negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", WHOLE),
    ("another coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", WHOLE),
    ("a folded field", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", WHOLE),
    ("a blank before the colon", b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", WHOLE),
    ("a bare LF in the head", b"HTTP/1.1 200 OK\r\nX: a\nY: b\r\nContent-Length: 2\r\n\r\nok", WHOLE),
    ("a bare CR in the head", b"HTTP/1.1 200 OK\r\nX: a\rY: b\r\nContent-Length: 2\r\n\r\nok", WHOLE),
    ("NUL in the head", b"HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 2\r\n\r\nok", WHOLE),
    ("101 fields", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n", WHOLE),
    ("a huge head", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\nContent-Length: 2\r\n\r\nok", WHOLE),
    ("an endless head", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, WHOLE),
    ("another protocol unasked", b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", WHOLE),
    ("a body cut short", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", None),
    ("chunks cut short", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", None),
    ("no last chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", None),
    ("a malformed chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n", None),
    ("a chunk too long", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", None),
]


@pytest.mark.parametrize(
    ("said", "outcome"), [each[1:] for each in MISBEHAVIOUR], ids=[each[0] for each in MISBEHAVIOUR]
)
async def test_a_backend_that_misbehaves_gives_502_or_visibly_no_whole_answer(
    said: bytes, outcome: tuple[int, bytes] | None
) -> None:
    """Before the answer has begun: 502, and the client's connection goes on. Afterwards it is cut, never completed."""
    async with (
        backend(says(said)) as address,
        door(lines(), [Upstream("u", (address,))], QUIET) as (worker, _, port),
        connected(port) as wire,
    ):
        await wire.say(GET)
        if outcome is None:
            assert (await wire.head()).status == 200
            assert not (await wire.end()).endswith(b"0\r\n\r\n")
        else:
            answer = await wire.answer()
            assert (answer.status, answer.body) == outcome
            assert (await wire.ask(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")).status == 404
        await until(lambda: worker.upstreams["u"].backends[0].connections == 0)
        assert worker.upstreams["u"].backends[0].active == 0


@pytest.mark.parametrize("together", [True, False])
async def test_more_body_than_announced_is_cut_off_and_its_connection_is_not_used_again(together: bool) -> None:
    extra = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    reply = [ok() + extra] if together else [ok(), extra]
    async with (
        recording(lambda message: reply) as (recorder, address),
        door(lines(), [Upstream("u", (address,))], QUIET) as (worker, _, port),
        connected(port) as wire,
    ):
        assert (await wire.ask(GET)).body == b"ok"
        await until(lambda: worker.upstreams["u"].backends[0].connections == 0)
        assert (await wire.ask(GET)).body == b"ok"
        assert [each.connection for each in recorder.requests] == [1, 2]


async def test_a_body_where_there_may_be_none_is_dropped_with_its_connection() -> None:
    async with (
        recording(lambda message: b"HTTP/1.1 204 No\r\n\r\nbody") as (recorder, address),
        door(lines(), [Upstream("u", (address,))], QUIET) as (worker, _, port),
        connected(port) as wire,
    ):
        assert (await wire.ask(GET)).status == 204
        await until(lambda: worker.upstreams["u"].backends[0].connections == 0)
        assert (await wire.ask(GET)).status == 204
        assert [each.connection for each in recorder.requests] == [1, 2]


async def test_a_backend_that_closes_while_the_body_still_comes_gives_502() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with (
        backend(talk) as address,
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        answer = await wire.ask(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\nabc")
        assert (answer.status, answer.body, answer.one(b"connection")) == (502, FAILED, b"close")
        assert await wire.end() == b""


async def test_a_backend_that_closes_at_once_or_speaks_first_gives_502() -> None:
    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pass

    async def speaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\r\n\r\n")
        await reader.read()

    for talk in (closes, speaks):
        async with backend(talk) as address, door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port):
            for _ in range(10):
                async with connected(port) as wire:
                    answer = await wire.ask(POST + b"\r\nabcde")
                    assert (answer.status, answer.body) == (502, FAILED)


async def test_nobody_at_the_backend_gives_502_and_500_for_apifest() -> None:
    upstreams = [Upstream("u", (closed_port(),))]
    async with door(lines(), upstreams, QUIET) as (_, _, port), connected(port) as wire:
        answer = await wire.ask(GET)
        assert (answer.status, answer.body) == (502, FAILED)
    async with door(lines(Policy(compat=True)), upstreams, QUIET) as (_, _, port), connected(port) as wire:
        answer = await wire.ask(GET)
        assert (answer.status, answer.body) == (500, b"")


async def test_a_backend_of_http_1_0_serves_one_exchange_a_connection() -> None:
    async with (
        recording(lambda message: b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok") as (recorder, address),
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        for _ in range(2):
            answer = await wire.ask(GET)
            assert (answer.start, answer.body) == (b"HTTP/1.1 200 OK", b"ok")
        assert [each.connection for each in recorder.requests] == [1, 2]


async def test_trailers_are_dropped_in_both_directions() -> None:
    reply = b"HTTP/1.1 200 OK\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX: evil\r\n\r\n"
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(reply)
        await reader.read()

    async with (
        backend(talk) as address,
        door(lines(), [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        await wire.say(
            b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n"
        )
        assert (await wire.head()).all(b"trailer") == []
        assert await wire.reader.readuntil(b"0\r\n\r\n") == b"2\r\nok\r\n0\r\n\r\n"
        assert seen[0].endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
