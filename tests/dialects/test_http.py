"""Control's HTTP server on a real socket, with a small application behind it."""

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from ipaddress import ip_network

import pytest
from tests.undisturbed import undisturbed

from ostiary.core.mask import Network
from ostiary.core.refusal import Unavailable
from ostiary.dialects.http import Bounds, Listener
from ostiary.dialects.message import Answer, Look, Request, json_answer

ROOM = 16


class Echo:
    """Answers with what it understood; `/wait` answers when `gate` opens, `/fail` is a defect."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.arrived = asyncio.Event()
        self.after = asyncio.Event()
        """Set by what is to be done after an answer."""
        self.seen: list[Request] = []
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        """What `/follow` gives; an empty one is its end, b"fail" a defect, b"refuse" a refusal."""
        self.left = asyncio.Event()
        """Set when nobody follows any more."""

    def room(self, request: Request) -> int:
        return ROOM

    async def answer(self, request: Request) -> Answer:
        self.seen.append(request)
        self.arrived.set()
        if request.oversized:
            return json_answer(413, {"error": "too large"})
        if request.path == "/wait":
            await self.gate.wait()
            return Answer(200, after=self.after.set)
        if request.path == "/fail":
            raise KeyError("a defect")
        if request.path == "/odd":
            return Answer(401, b"{}", (("Content-Type", "application/json"),), reason="UNAUTHORIZED")
        if request.path == "/none":
            return Answer(204)
        if request.path == "/big":
            return Answer(200, b"x" * 4_000_000, after=self.after.set if request.query == "after" else None)
        if request.path == "/follow":
            return Answer(200, b"first", stream=self.follow())
        return Answer(200, f"{request.method} {request.path} {request.query} {request.body!r}".encode())

    async def follow(self) -> AsyncGenerator[bytes, None]:
        try:
            while piece := await self.pieces.get():
                if piece == b"fail":
                    raise KeyError("a defect")
                if piece == b"refuse":
                    raise Unavailable("engine.away", "The engine is away")
                yield piece
        finally:
            self.left.set()

    def refuse(self, request: Request, status: int, reason: str) -> Answer:
        return json_answer(status, {"error": reason, "path": request.path})

    def look(self, request: Request) -> Look | None:
        return self.quick if request.path.startswith("/quick") else None

    def quick(self, request: Request) -> Answer | None:
        if request.body == b"fail":
            raise KeyError("a defect")
        return Answer(429, request.body) if request.body != b"slow" else None


class Served:
    """A listener on a free port, and its address."""

    def __init__(self, echo: Echo, listener: Listener, port: int) -> None:
        self.echo, self.listener, self.port = echo, listener, port

    async def send(self, data: bytes, *, eof: bool = True) -> bytes:
        """Everything that comes back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        if eof:
            writer.write_eof()
        try:
            return await asyncio.wait_for(reader.read(), 30)
        finally:
            writer.close()


async def serve(
    proxies: Callable[[], Iterable[Network]] = tuple, public: bool = False, bounds: Bounds | None = None
) -> Served:
    echo = Echo()
    listener = Listener(echo, proxies, public=public, bounds=bounds)
    sock = socket.create_server(("127.0.0.1", 0))
    await listener.listen(sock)
    return Served(echo, listener, sock.getsockname()[1])


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = await serve()
    yield served
    await served.listener.drain(1)


@pytest.fixture
async def hasty() -> AsyncIterator[Served]:
    """It does not wait for long."""
    served = await serve(bounds=Bounds(head_time=0.2, body_time=0.2, idle_time=0.2, linger_time=0.2))
    yield served
    await served.listener.drain(1)


def split(raw: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}, body


HEAD = "GET /a HTTP/1.1\r\nhost: h\r\naccept: %s\r\nx-request-id: %s\r\n\r\n"
PUT = "PUT /a HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\n%s"


async def in_turn(served: Served, *requests: str) -> list[Request]:
    """What each of these requests on one connection was taken for, each sent after the answer to the one before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    for request in requests:
        writer.write(request.encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        await asyncio.wait_for(reader.readexactly(int(split(head)[1]["content-length"])), 30)
    writer.close()
    return served.echo.seen


async def test_heads_that_differ_in_their_id_alone_are_requests_of_their_own(served: Served) -> None:
    seen = await in_turn(served, HEAD % ("*/*", "one"), HEAD % ("*/*", "two"), HEAD % ("x", "three"), HEAD % ("x", "!"))
    assert [request.request_id for request in seen[:3]] == ["one", "two", "three"]
    assert re.fullmatch(r"[0-9a-f]{24}", seen[3].request_id)
    assert [request.one("accept") for request in seen] == ["*/*", "*/*", "x", "x"]


async def test_a_repeated_head_without_an_id_gets_a_fresh_one_each_time(served: Served) -> None:
    seen = await in_turn(served, *["GET / HTTP/1.1\r\nhost: h\r\n\r\n"] * 3)
    assert len({request.request_id for request in seen}) == 3


async def test_two_ids_in_a_head_count_as_none_however_often_it_comes(served: Served) -> None:
    seen = await in_turn(served, *[HEAD % ("*/*\r\nx-request-id: first", "second")] * 2)
    assert not {"first", "second"} & {request.request_id for request in seen}


async def test_bodies_behind_the_same_head_are_kept_apart(served: Served) -> None:
    seen = await in_turn(served, PUT % "one", PUT % "two")
    assert [request.body for request in seen] == [b"one", b"two"]


async def test_proxies_that_are_trusted_no_longer_are_not_believed_in_the_same_head() -> None:
    answers = iter([(ip_network("127.0.0.0/8"),), ()])
    served = await serve(lambda: next(answers))
    seen = await in_turn(served, *["GET /a HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 192.0.2.7\r\n\r\n"] * 2)
    await served.listener.drain(1)
    assert [request.address for request in seen] == ["192.0.2.7", "127.0.0.1"]


async def test_an_answer_has_its_length_its_date_and_a_fresh_request_id(served: Served) -> None:
    raw = await served.send(b"GET /a%20b?x=1&y HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    status, headers, body = split(raw)
    assert status == "HTTP/1.1 200 OK"
    assert body == b"GET /a%20b x=1&y b''"
    assert headers["content-length"] == str(len(body))
    assert headers["connection"] == "close"
    assert re.fullmatch(r"[0-9a-f]{24}", headers["x-request-id"])
    assert headers["date"].endswith(" GMT")


@pytest.mark.parametrize(("sent", "kept"), [("req-123", True), ("-x", False), ("a b", False), ("a" * 65, False)])
async def test_a_well_formed_request_id_is_kept(served: Served, sent: str, kept: bool) -> None:
    raw = await served.send(f"GET / HTTP/1.1\r\nHost: h\r\nX-Request-Id: {sent}\r\n\r\n".encode())
    assert (split(raw)[1]["x-request-id"] == sent) is kept


async def test_pipelined_requests_are_answered_in_order_on_one_connection(served: Served) -> None:
    one = b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
    two = b"POST /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n"
    three = b"\r\nGET /3 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    raw = await served.send(one + two + three, eof=False)
    assert raw.count(b"HTTP/1.1 200 OK") == 3
    assert [body in raw for body in (b"POST /1  b'abc'", b"POST /2  b'def'", b"GET /3  b''")] == [True] * 3
    assert raw.index(b"/1") < raw.index(b"/2") < raw.index(b"/3")


async def test_a_half_closed_client_gets_every_answer_that_it_asked_for_in_full(served: Served) -> None:
    one = b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n"
    two = b"POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
    raw = await served.send(one + two + one)
    assert raw.count(b"HTTP/1.1 200 OK") == 3
    assert raw.count(b"Connection: close") == 1
    assert raw.index(b"Connection: close") > raw.index(b"/2")
    raw = await served.send(one + b"POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na")
    assert raw.count(b"HTTP/1.1 ") == 1


async def test_bytes_that_come_one_by_one_make_the_same_request(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    for byte in b"POST /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc":
        writer.write(bytes([byte]))
        await writer.drain()
    assert split(await reader.read())[2] == b"POST /1  b'abc'"
    writer.close()


async def test_a_dialect_may_say_its_own_reason_phrase(served: Served) -> None:
    raw = await served.send(b"GET /odd HTTP/1.1\r\nHost: h\r\n\r\n")
    assert split(raw)[0] == "HTTP/1.1 401 UNAUTHORIZED"


async def test_head_has_the_length_and_no_body(served: Served) -> None:
    status, headers, body = split(await served.send(b"HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n"))
    assert (status, headers["content-length"], body) == ("HTTP/1.1 200 OK", str(len("HEAD /x  b''")), b"")


async def test_204_has_neither_body_nor_length(served: Served) -> None:
    status, headers, body = split(await served.send(b"GET /none HTTP/1.1\r\nHost: h\r\n\r\n"))
    assert (status, body) == ("HTTP/1.1 204 No Content", b"")
    assert "content-length" not in headers


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 17\r\n\r\n",
        b"Content-Length: 99999999999999999\r\nExpect: 100-continue\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n11\r\n" + b"x" * 17,
    ],
)
async def test_a_body_over_its_room_is_answered_before_it_has_come(served: Served, body: bytes) -> None:
    raw = await served.send(b"POST /x HTTP/1.1\r\nHost: h\r\n" + body, eof=False)
    status, headers, answer = split(raw)
    assert (status, answer) == ("HTTP/1.1 413 Content Too Large", b'{"error":"too large"}')
    assert headers["connection"] == "close"


async def test_a_body_that_fills_its_room_is_taken(served: Served) -> None:
    raw = await served.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 16\r\n\r\n" + b"x" * 16)
    assert split(raw)[2] == b"POST /x  b'xxxxxxxxxxxxxxxx'"


async def test_100_continue_is_said_before_the_body(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"ok")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    writer.close()


BAD = [
    (b"GET /x HTTP/1.1\r\n\r\n", 400, "/x"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "/x"),
    (b"GET /x HTTP/1.1\r\nHost : a\r\n\r\n", 400, "/x"),
    (b"GET /x HTTP/1.1\nHost: a\n\n", 400, "/x"),
    (b"GET /x HTTP/2.0\r\nHost: a\r\n\r\n", 505, "/x"),
    (b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    (b"\x16\x03\x01\x02\x00\x01\x00", 400, ""),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "/x"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", 400, "/x"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "/x"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "/x"),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400, "/x"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\n\r\n", 417, "/x"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 20_000, 431, "/x"),
    (b"GET /" + b"x" * 20_000, 414, "/" + "x" * 1019),
    (b"GET /x HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431, "/x"),
]


@pytest.mark.parametrize(("data", "status", "path"), BAD)
async def test_what_is_no_request_is_refused_and_the_connection_ends(
    served: Served, data: bytes, status: int, path: str
) -> None:
    line, headers, body = split(await served.send(data, eof=False))
    assert line.split(" ")[1] == str(status)
    assert headers["connection"] == "close"
    assert f'"path":"{path}"'.encode() in body
    assert served.echo.seen == []


@pytest.mark.parametrize("data", [b"GET /x HTT", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na"])
@undisturbed
async def test_what_does_not_come_in_time_is_refused_and_the_connection_ends(hasty: Served, data: bytes) -> None:
    line, headers, body = split(await hasty.send(data, eof=False))
    assert (line.split(" ")[1], headers["connection"]) == ("408", "close")
    assert b'"path":"/x"' in body
    assert hasty.echo.seen == []


async def test_a_second_request_that_is_bad_is_refused_as_itself(served: Served) -> None:
    raw = await served.send(b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\n\r\n", eof=False)
    assert b"/1" in raw
    assert raw.endswith(b'"path":"/2"}')


async def test_a_silent_connection_ends_without_a_word(hasty: Served) -> None:
    assert await hasty.send(b"", eof=False) == b""


async def test_a_defect_is_a_500_that_tells_nothing(served: Served) -> None:
    status, _, body = split(await served.send(b"GET /fail HTTP/1.1\r\nHost: h\r\n\r\n"))
    assert status == "HTTP/1.1 500 Internal Server Error"
    assert b"defect" not in body


async def test_a_client_that_hangs_up_stops_nothing(served: Served) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"POST /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    await served.echo.arrived.wait()
    (task,) = served.listener.tasks
    writer.transport.abort()
    await served.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    served.echo.gate.set()
    await task
    assert not task.cancelled()


async def test_a_drain_lets_what_runs_answer(served: Served) -> None:
    sent = asyncio.ensure_future(served.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n", eof=False))
    await served.echo.arrived.wait()
    drained = asyncio.ensure_future(served.listener.drain(30))
    await asyncio.sleep(0)
    served.echo.gate.set()
    await drained
    status, headers, _ = split(await sent)
    assert (status, headers["connection"]) == ("HTTP/1.1 200 OK", "close")


async def test_answers_wait_for_a_client_that_does_not_read(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    writer.write(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n" * 50)
    await served.echo.arrived.wait()
    for _ in range(1000):
        await asyncio.sleep(0)
    assert len(served.echo.seen) < 5
    writer.transport.abort()
    await reader.read(1)


async def test_what_is_to_be_done_after_an_answer_waits_until_all_of_it_is_handed_over(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    writer.write(b"GET /big?after HTTP/1.1\r\nHost: h\r\n\r\n")
    await reader.readexactly(1000)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert not served.echo.after.is_set()
    writer.write_eof()
    await asyncio.wait_for(reader.read(), 30)
    await asyncio.wait_for(served.echo.after.wait(), 30)
    writer.close()


async def test_what_is_to_be_done_after_an_answer_is_done_although_the_client_has_gone(served: Served) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    await served.echo.arrived.wait()
    writer.transport.abort()
    await served.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert not served.echo.after.is_set()
    served.echo.gate.set()
    await asyncio.wait_for(served.echo.after.wait(), 30)


async def test_what_is_to_be_done_after_an_answer_is_done_when_nobody_reads_it() -> None:
    served = await serve(bounds=Bounds(write_time=0.1))
    _, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    writer.write(b"GET /big?after HTTP/1.1\r\nHost: h\r\n\r\n")
    await asyncio.wait_for(served.echo.after.wait(), 30)
    assert served.listener.connections == set()
    writer.transport.abort()
    await served.listener.drain(1)


FOLLOW = b"GET /follow HTTP/1.1\r\nHost: h\r\n\r\n"


async def following(
    served: Served, request: bytes = FOLLOW
) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    """The head of what is followed, and the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    writer.write(request)
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30), reader, writer


async def test_pieces_are_written_as_they_come_and_end_the_connection(served: Served) -> None:
    head, reader, writer = await following(served)
    _, headers, _ = split(head)
    assert (headers["transfer-encoding"], headers["connection"]) == ("chunked", "close")
    assert "content-length" not in headers
    assert await asyncio.wait_for(reader.readexactly(10), 30) == b"5\r\nfirst\r\n"
    served.echo.pieces.put_nowait(b"x" * 17)
    assert await asyncio.wait_for(reader.readexactly(23), 30) == b"11\r\n" + b"x" * 17 + b"\r\n"
    served.echo.pieces.put_nowait(b"")
    assert await asyncio.wait_for(reader.read(), 30) == b"0\r\n\r\n"
    writer.close()


async def test_pieces_for_an_older_client_end_with_the_connection(served: Served) -> None:
    head, reader, writer = await following(served, b"GET /follow HTTP/1.0\r\n\r\n")
    assert "transfer-encoding" not in split(head)[1]
    served.echo.pieces.put_nowait(b" second")
    served.echo.pieces.put_nowait(b"")
    assert await asyncio.wait_for(reader.read(), 30) == b"first second"
    writer.close()


async def test_head_asks_for_no_pieces(served: Served) -> None:
    raw = await served.send(b"HEAD /follow HTTP/1.1\r\nHost: h\r\n\r\n", eof=False)
    assert split(raw)[1]["transfer-encoding"] == "chunked"
    assert split(raw)[2] == b""


async def test_nothing_is_followed_for_a_client_that_has_left(served: Served) -> None:
    _, _, writer = await following(served)
    (task,) = served.listener.tasks
    writer.close()
    await asyncio.wait({task}, timeout=30)
    assert task.cancelled()
    assert served.echo.left.is_set()


async def test_who_has_closed_its_side_follows_nothing(served: Served) -> None:
    raw = await served.send(FOLLOW)
    assert split(raw)[2] == b"5\r\nfirst\r\n"


async def test_who_follows_and_does_not_read_is_cut_off() -> None:
    served = await serve(bounds=Bounds(write_time=0.1))
    _, _, writer = await following(served)
    for _ in range(100):
        served.echo.pieces.put_nowait(b"x" * 100_000)
    await asyncio.wait_for(served.echo.left.wait(), 30)
    assert served.echo.pieces.qsize() > 0
    writer.transport.abort()
    await served.listener.drain(1)


async def test_a_drain_breaks_off_what_is_followed(served: Served) -> None:
    _, reader, writer = await following(served)
    await asyncio.wait_for(served.listener.drain(60), 30)
    assert served.echo.left.is_set()
    assert await asyncio.wait_for(reader.read(), 30) == b"5\r\nfirst\r\n"
    writer.close()


@pytest.mark.parametrize(
    ("how", "level", "said"),
    [
        (b"fail", "ERROR", "what was followed broke off"),
        (b"refuse", "WARNING", "what was followed broke off: The engine is away"),
    ],
)
async def test_pieces_that_break_off_are_no_whole_answer(
    served: Served, caplog: pytest.LogCaptureFixture, how: bytes, level: str, said: str
) -> None:
    _, reader, writer = await following(served)
    served.echo.pieces.put_nowait(how)
    assert await asyncio.wait_for(reader.read(), 30) == b"5\r\nfirst\r\n"
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [(level, said)]
    writer.close()


async def test_a_crowd_over_the_limit_is_turned_away() -> None:
    served = await serve(bounds=Bounds(max_connections=1, linger_time=0.1))
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    await served.echo.arrived.wait()
    raw = await served.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", eof=False)
    assert raw.startswith(b"HTTP/1.1 503 ")
    served.echo.gate.set()
    writer.close()
    await served.listener.drain(1)


FORWARDED = (
    b"X-Forwarded-For: 9.9.9.9, 7.7.7.7, 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: api.example\r\n"
)


@pytest.mark.parametrize(
    ("proxies", "public", "address", "secure", "host"),
    [
        ((), False, "127.0.0.1", False, "h"),
        (("127.0.0.0/8",), False, "10.0.0.1", True, "api.example"),
        (("127.0.0.0/8", "10.0.0.0/8"), False, "7.7.7.7", True, "api.example"),
        (("10.0.0.0/8",), True, "7.7.7.7", True, "api.example"),
        (("10.0.0.0/8",), False, "127.0.0.1", False, "h"),
    ],
)
async def test_forwarded_headers_count_from_trusted_proxies_only(
    proxies: tuple[str, ...], public: bool, address: str, secure: bool, host: str
) -> None:
    networks = [ip_network(text) for text in proxies]
    served = await serve(proxies=lambda: networks, public=public)
    await served.send(b"GET / HTTP/1.1\r\nHost: h\r\n" + FORWARDED + b"\r\n")
    (request,) = served.echo.seen
    assert (request.peer, request.address, request.secure, request.host) == ("127.0.0.1", address, secure, host)
    await served.listener.drain(1)


QUICK = "POST /quick HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\n%s"


async def test_an_answer_that_needs_no_waiting_is_given_at_once_and_others_by_a_task(served: Served) -> None:
    raw = await served.send("".join(QUICK % body for body in ("one1", "slow", "two2")).encode())
    assert re.findall(rb"HTTP/1.1 (\d+)", raw) == [b"429", b"200", b"429"]
    assert raw.index(b"one1") < raw.index(b"slow") < raw.index(b"two2")
    assert [request.body for request in served.echo.seen] == [b"slow"]


async def test_a_defect_in_an_answer_at_once_is_told_to_the_log_and_answered(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    raw = await served.send((QUICK % "fail" + QUICK % "next").encode())
    assert raw.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert raw.count(b"HTTP/1.1 429") == 1
    assert [each.getMessage() for each in caplog.records] == ["request failed"]


async def test_answers_at_once_let_others_have_their_turn(served: Served) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while not many.done():
            turns += 1
            await asyncio.sleep(0)

    many = asyncio.ensure_future(served.send((QUICK % "many" * 300).encode()))
    await asyncio.wait_for(others(), 30)
    assert (await many).count(b"HTTP/1.1 429") == 300
    assert turns > 300


async def test_too_much_is_not_answered_at_once(served: Served) -> None:
    raw = await served.send(b"POST /quick HTTP/1.1\r\nhost: h\r\ncontent-length: 17\r\n\r\n" + b"x" * 17)
    assert raw.startswith(b"HTTP/1.1 413 ")
