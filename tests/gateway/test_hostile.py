"""What hostile clients say, byte for byte, with the exact answer; nothing of it reaches the backend."""

import asyncio
import re
from typing import NamedTuple

import pytest
from tests.gateway.door import Line, door
from tests.gateway.wire import Message, connected, recording
from tests.undisturbed import undisturbed

from ostiary.core.snapshot import Gateway, Policy, Upstream

QUIET = Gateway(access_log="")
SHORT = 150_000
"""Microseconds of the time-outs that tests wait for."""
LINES = [
    Line("GET /a", "/b"),
    Line("POST /a", "/b"),
    Line("POST /small", "/b", policy=Policy(max_body=10)),
    Line("* /any", "/b"),
    Line("GET /v/{name}", "/n/{name}"),
    Line("GET /mine", "/b", policy=Policy(token="user")),
    Line("GET /old", "/b", policy=Policy(compat=True)),
]
GOOD = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


class Case(NamedTuple):
    """What is said, and the status and body that come back; `open`: the connection can be used on."""

    name: str
    said: bytes
    status: int
    body: bytes
    open: bool = False


def bad(name: str, said: bytes, reason: str) -> Case:
    """A case of 400 with its reason."""
    return Case(name, said, 400, b'{"error":"bad request: %s"}' % reason.encode())


def post(fields: bytes, body: bytes = b"", path: bytes = b"/a") -> bytes:
    """A POST with these field lines."""
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n%s" % (path, fields, body)


def get(target: bytes, fields: bytes = b"") -> bytes:
    """A GET of `target`."""
    return b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (target, fields)


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
BOTH = "both Content-Length and Transfer-Encoding"
FIELD = "malformed header field"
LINE = "malformed request line"
LENGTH = "malformed Content-Length"
CODING = "Transfer-Encoding is not chunked"
PATH = "path is ambiguous or malformed"
TARGET = "malformed request target"
BARE = "bare CR or LF"
SIZE = "malformed chunk size"
HOST = "malformed Host"

VERSION = b'{"error":"HTTP version not supported"}'
HEAD_TOO_LARGE = b'{"error":"request head too large"}'
TARGET_TOO_LONG = b'{"error":"request target too long"}'
EXPECTATION = b'{"error":"expectation failed"}'
REQUIRED = b'{"error":"access token required"}'
NOT_VALID = b'{"error":"access token not valid"}'
TOO_LARGE = b'{"error":"request body too large"}'
LATE = b'{"error":"request timed out"}'
AWAY = b'{"error":"temporarily unavailable"}'
NOT_FOUND = b'{"error":"Not found"}'
NOT_ALLOWED = b'{"error":"method not allowed"}'

FRAMING = [
    bad("CL.TE", post(b"Content-Length: 4\r\n" + CHUNKED, b"0\r\n\r\n" + SMUGGLED), BOTH),
    bad("TE.CL", post(CHUNKED + b"Content-Length: 4\r\n", b"5c\r\n" + SMUGGLED), BOTH),
    bad("CL.TE with a length of zero", post(b"Content-Length: 0\r\n" + CHUNKED, b"0\r\n\r\n"), BOTH),
    bad("CL.TE on GET", get(b"/a", b"Content-Length: 5\r\n" + CHUNKED), BOTH),
    bad(
        "two lengths that differ",
        post(b"Content-Length: 3\r\nContent-Length: 5\r\n", b"abcde"),
        "repeated Content-Length",
    ),
    bad("two equal lengths", post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"abcde"), "repeated Content-Length"),
    bad("lengths in a list", post(b"Content-Length: 5, 5\r\n", b"abcde"), LENGTH),
    bad("a negative length", post(b"Content-Length: -1\r\n"), LENGTH),
    bad("a length with a plus", post(b"Content-Length: +5\r\n", b"abcde"), LENGTH),
    bad("a hexadecimal length", post(b"Content-Length: 0x5\r\n", b"abcde"), LENGTH),
    bad("a length with a point", post(b"Content-Length: 5.0\r\n", b"abcde"), LENGTH),
    bad("an empty length", post(b"Content-Length: \r\n"), LENGTH),
    bad("a length with an underscore", post(b"Content-Length: 1_0\r\n", b"abcdefghij"), LENGTH),
    bad("a length in other digits", post("Content-Length: ٥\r\n".encode(), b"abcde"), LENGTH),
    bad("a length of 19 digits", post(b"Content-Length: 9999999999999999999\r\n"), LENGTH),
    bad("a length with a blank inside", post(b"Content-Length: 1 0\r\n", b"abcdefghij"), LENGTH),
    bad("TE identity", post(b"Transfer-Encoding: identity\r\n"), CODING),
    bad("TE gzip, chunked", post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), CODING),
    bad("TE chunked, identity", post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"), CODING),
    bad("TE chunked twice in a list", post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), CODING),
    bad("TE chunked twice", post(CHUNKED + CHUNKED, b"0\r\n\r\n"), "repeated Transfer-Encoding"),
    bad(
        "TE chunked, then another",
        post(CHUNKED + b"Transfer-Encoding: x\r\n", b"0\r\n\r\n"),
        "repeated Transfer-Encoding",
    ),
    bad("TE quoted", post(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n"), CODING),
    bad("TE with a vertical tab", post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"), FIELD),
    bad("TE with a parameter", post(b"Transfer-Encoding: chunked;x=1\r\n", b"0\r\n\r\n"), CODING),
    bad("TE empty", post(b"Transfer-Encoding: \r\n", b"0\r\n\r\n"), CODING),
    bad("TE xchunked", post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), CODING),
    bad("TE behind a blank", post(b" Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"), FIELD),
    bad("TE with a blank before the colon", post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), FIELD),
    bad("TE on a folded line", post(b"X: y\r\n Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"), FIELD),
    bad("TE folded", post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"), FIELD),
    bad(
        "TE in HTTP/1.0",
        b"POST /a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding in HTTP/1.0",
    ),
]

HEADS = [
    bad("a folded field", get(b"/a", b"X: a\r\n b\r\n"), FIELD),
    bad("a field folded by a tab", get(b"/a", b"X: a\r\n\tb\r\n"), FIELD),
    bad("the first field folded", b"GET /a HTTP/1.1\r\n Host: x\r\n\r\n", FIELD),
    bad("a blank before the colon", get(b"/a", b"X : a\r\n"), FIELD),
    bad("a tab before the colon", get(b"/a", b"X\t: a\r\n"), FIELD),
    bad("no colon", get(b"/a", b"nonsense\r\n"), FIELD),
    bad("no name", get(b"/a", b": a\r\n"), FIELD),
    bad("a name with a blank", get(b"/a", b"X Y: a\r\n"), FIELD),
    bad("a name with a slash", get(b"/a", b"X/Y: a\r\n"), FIELD),
    bad("a name that is not ASCII", get(b"/a", b"X\xc3\xa9: a\r\n"), FIELD),
    bad("NUL in a value", get(b"/a", b"X: a\0b\r\n"), FIELD),
    bad("NUL in a name", get(b"/a", b"X\0: a\r\n"), FIELD),
    bad("BEL in a value", get(b"/a", b"X: a\x07b\r\n"), FIELD),
    bad("DEL in a value", get(b"/a", b"X: a\x7fb\r\n"), FIELD),
    bad("a bare CR in a value", get(b"/a", b"X: a\rTransfer-Encoding: chunked\r\n"), FIELD),
    bad("a bare LF between fields", get(b"/a", b"X: a\nTransfer-Encoding: chunked\r\n"), FIELD),
    bad("CR CR LF", get(b"/a", b"X: a\r\r\n"), FIELD),
    bad("bare LFs only", b"GET /a HTTP/1.1\nHost: x\n\n", BARE),
    bad("a bare LF behind the request line", b"GET /a HTTP/1.1\nHost: x\r\n\r\n", LINE),
    bad("a bare CR behind the request line", b"GET /a HTTP/1.1\rHost: x\r\n\r\n", LINE),
    bad("LF CR LF", b"GET /a HTTP/1.1\r\nHost: x\r\n\n\r\n\r\n", FIELD),
    bad("bare CRs only", b"GET /a HTTP/1.1\rHost: x\r\r", BARE),
    bad("two empty lines first", b"\r\n\r\n" + GOOD, LINE),
    bad("a bare LF first", b"\n" + GOOD, LINE),
    bad("a blank first", b" " + GOOD, LINE),
    bad("two blanks in the line", b"GET  /a HTTP/1.1\r\nHost: x\r\n\r\n", LINE),
    bad("a tab in the line", b"GET\t/a HTTP/1.1\r\nHost: x\r\n\r\n", LINE),
    bad("a blank behind the line", b"GET /a HTTP/1.1 \r\nHost: x\r\n\r\n", LINE),
    bad("a blank in the path", b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", LINE),
    bad("no version", b"GET /a\r\nHost: x\r\n\r\n", LINE),
    bad("HTTP/0.9", b"GET /a\r\n\r\n", LINE),
    bad("the version in lower case", b"GET /a http/1.1\r\nHost: x\r\n\r\n", LINE),
    bad("a version of two digits", b"GET /a HTTP/1.10\r\nHost: x\r\n\r\n", LINE),
    bad("a version without a point", b"GET /a HTTP/11\r\nHost: x\r\n\r\n", LINE),
    bad("another protocol", b"GET /a ICAP/1.0\r\nHost: x\r\n\r\n", LINE),
    bad("no method", b" /a HTTP/1.1\r\nHost: x\r\n\r\n", LINE),
    bad("a method with a colon", b"GE:T /a HTTP/1.1\r\nHost: x\r\n\r\n", LINE),
    bad("a method of 33 letters", b"A" * 33 + b" /any HTTP/1.1\r\nHost: x\r\n\r\n", LINE),
    bad("a TLS hello", bytes.fromhex("16030100c8010000c40303") + bytes(200), LINE),
    bad("an SSH banner", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", LINE),
    bad("a PROXY header", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + GOOD, LINE),
    Case("HTTP/2.0", b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n", 505, VERSION),
    Case("HTTP/1.2", b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n", 505, VERSION),
    Case("HTTP/0.9 with a version", b"GET /a HTTP/0.9\r\n\r\n", 505, VERSION),
    Case("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, VERSION),
    Case("101 fields", get(b"/a", b"X: y\r\n" * 100), 431, HEAD_TOO_LARGE),
    Case("a huge field", get(b"/a", b"X: " + b"y" * 20_000 + b"\r\n"), 431, HEAD_TOO_LARGE),
    Case("many fields, huge together", get(b"/a", b"X: %s\r\n" % (b"y" * 500) * 50), 431, HEAD_TOO_LARGE),
    Case("a huge target", get(b"/" + b"a" * 20_000), 414, TARGET_TOO_LONG),
    Case("an endless line", b"A" * 40_000, 414, TARGET_TOO_LONG),
    Case("an unknown expectation", post(b"Expect: 200-ok\r\nContent-Length: 1\r\n", b"x"), 417, EXPECTATION),
    Case("two expectations", post(b"Expect: 100-continue, x\r\nContent-Length: 1\r\n"), 417, EXPECTATION),
    bad(
        "two Authorization fields",
        get(b"/mine", b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n"),
        "repeated Authorization",
    ),
    bad(
        "Connection names Authorization",
        get(b"/mine", b"Connection: close, Authorization\r\n"),
        "Connection names an end-to-end field",
    ),
    bad("Connection names Host", get(b"/a", b"Connection: host\r\n"), "Connection names an end-to-end field"),
    bad(
        "Connection names Cookie",
        get(b"/a", b"Connection: keep-alive\r\nConnection: COOKIE\r\n"),
        "Connection names an end-to-end field",
    ),
    bad(
        "Connection names Content-Type",
        post(b"Connection: content-type\r\nContent-Length: 0\r\n"),
        "Connection names an end-to-end field",
    ),
]

HOSTS = [
    bad("no Host", b"GET /a HTTP/1.1\r\n\r\n", "Host is missing"),
    bad("two Hosts", b"GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "repeated Host"),
    bad("Host with a blank", b"GET /a HTTP/1.1\r\nHost: x y\r\n\r\n", HOST),
    bad("Host with a user", b"GET /a HTTP/1.1\r\nHost: a@x\r\n\r\n", HOST),
    bad("Host with a path", b"GET /a HTTP/1.1\r\nHost: x/y\r\n\r\n", HOST),
    bad("Host with a query", b"GET /a HTTP/1.1\r\nHost: x?y\r\n\r\n", HOST),
    bad("Host with a port that is no number", b"GET /a HTTP/1.1\r\nHost: x:8a\r\n\r\n", HOST),
    bad("Host with two ports", b"GET /a HTTP/1.1\r\nHost: x:80:81\r\n\r\n", HOST),
    bad("Host with an open bracket", b"GET /a HTTP/1.1\r\nHost: [::1\r\n\r\n", HOST),
    bad("Host that is not ASCII", b"GET /a HTTP/1.1\r\nHost: x\xff\r\n\r\n", HOST),
    bad("Host with a backslash", b"GET /a HTTP/1.1\r\nHost: x\\y\r\n\r\n", HOST),
    bad("a bad Host behind an absolute form", b"GET http://x/a HTTP/1.1\r\nHost: x y\r\n\r\n", HOST),
    bad("an absolute form with a user", b"GET http://u@x/a HTTP/1.1\r\nHost: x\r\n\r\n", TARGET),
    bad("an absolute form with a bad port", b"GET http://x:y/a HTTP/1.1\r\nHost: x\r\n\r\n", HOST),
    bad("an absolute form without Host", b"GET http://x/a HTTP/1.1\r\n\r\n", "Host is missing"),
    bad("an absolute form without an authority", b"GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n", TARGET),
    bad("an absolute form of another scheme", b"GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", TARGET),
    bad("an authority form", b"GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n", TARGET),
    bad("CONNECT", b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", TARGET),
    bad("an asterisk with GET", b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", TARGET),
    bad("a path without a slash", b"GET a HTTP/1.1\r\nHost: x\r\n\r\n", TARGET),
]

PATHS = [
    bad(f"the path {path!r}", get(path), PATH)
    for path in (
        b"/v/a%2fb", b"/v/a%2Fb", b"/v/a%5cb", b"/v/a\\b", b"/v/%2e%2e/a", b"/v/.%2e/a", b"/v/%2e/a", b"/../a",
        b"/v/../../a", b"/v/..;/a", b"/v/..;x=1/a", b"/v/.;/a", b"/v/%2e%2e;/a", b"/v/%c0%ae%c0%ae/a", b"/v/%c0%af",
        b"/v/%e0%80%af", b"/v/%ed%a0%80", b"/v/%f8%88%80%80%80", b"/v/%ff", b"/v/%80", b"/v/%00", b"/v/a%00.txt",
        b"/v/%0d%0aX:y", b"/v/%0a", b"/v/%7f", b"/v/%", b"/v/%2", b"/v/%zz", b"/v/%u002f", b"/v/%%32%66", b"/v/a#b",
        b"/a?x#y", b"/..\\a",
    )
]  # fmt: skip
PATHS += [
    bad(f"the raw bytes {path!r}", b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path, LINE)
    for path in (b"/v/\x00", b"/v/\xc3\xa9", b"/v/a\x7f", b"/v/\x1b")
]

ANSWERED = [
    Case("no route", get(b"/none"), 404, NOT_FOUND, True),
    Case("a route with a slash more", get(b"/a/"), 404, NOT_FOUND, True),
    Case("a route in capitals", get(b"/A"), 404, NOT_FOUND, True),
    Case("an asterisk with OPTIONS", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404, NOT_FOUND, True),
    Case("another method", b"DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n", 405, NOT_ALLOWED, True),
    Case("an unknown method", b"BREW /a HTTP/1.1\r\nHost: x\r\n\r\n", 405, NOT_ALLOWED, True),
    Case("a method in lower case", b"get /a HTTP/1.1\r\nHost: x\r\n\r\n", 405, NOT_ALLOWED, True),
    Case("TRACE", b"TRACE /any HTTP/1.1\r\nHost: x\r\n\r\n", 405, NOT_ALLOWED, True),
    Case("another method on a route of ApiFest's files", b"PUT /old HTTP/1.1\r\nHost: x\r\n\r\n", 404, NOT_FOUND, True),
    Case("HEAD on a route of ApiFest's files", b"HEAD /old HTTP/1.1\r\nHost: x\r\n\r\n", 404, b"", True),
    Case("a body for nobody", post(b"Content-Length: 5\r\n", b"abcde", b"/none"), 404, NOT_FOUND, True),
    Case("a large body for nobody", post(b"Content-Length: 100000\r\n", b"abcde", b"/none"), 404, NOT_FOUND),
    Case("chunks for nobody", post(CHUNKED, b"5\r\nabcde\r\n0\r\n\r\n", b"/none"), 404, NOT_FOUND),
    Case(
        "a body for nobody that is waited for",
        post(b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"", b"/none"),
        404,
        NOT_FOUND,
    ),
    Case("no token", get(b"/mine"), 401, REQUIRED, True),
    Case("another scheme", get(b"/mine", b"Authorization: Basic YTpi\r\n"), 401, REQUIRED, True),
    Case("no token behind Bearer", get(b"/mine", b"Authorization: Bearer \r\n"), 401, REQUIRED, True),
    Case("a token of odd letters", get(b"/mine", b"Authorization: Bearer a,b\r\n"), 401, NOT_VALID, True),
    Case("two tokens", get(b"/mine", b"Authorization: Bearer a b\r\n"), 401, NOT_VALID, True),
    Case("a guessed token", get(b"/mine", b"Authorization: Bearer a\r\n"), 401, NOT_VALID, True),
    Case("a token in the query", get(b"/mine?access_token=a"), 401, REQUIRED, True),
    Case("spoofed identity", get(b"/mine", b"X-User-Id: 1\r\nX_User_Id: 1\r\n"), 401, REQUIRED, True),
    Case("a declared body too large", post(b"Content-Length: 11\r\n", b"x" * 11, b"/small"), 413, TOO_LARGE, True),
    Case(
        "a declared body much too large",
        post(b"Content-Length: 999999999999999999\r\n", b"x" * 11, b"/small"),
        413,
        TOO_LARGE,
    ),
    Case(
        "a body too large that is waited for",
        post(b"Expect: 100-continue\r\nContent-Length: 11\r\n", b"", b"/small"),
        413,
        TOO_LARGE,
    ),
]

CASES = FRAMING + HEADS + HOSTS + PATHS + ANSWERED


def test_the_table_is_long_enough() -> None:
    assert len(CASES) >= 160
    assert len({case.name for case in CASES}) == len(CASES)


def checked(answer: Message, status: int, body: bytes) -> None:
    """`answer` is what the gateway itself says: status, JSON body, its length, a request id."""
    assert (answer.status, answer.body) == (status, body)
    assert len(answer.one(b"x-request-id")) >= 12
    if body:
        assert answer.one(b"content-type") == b"application/json"
        assert answer.one(b"content-length") == b"%d" % len(body)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_a_hostile_request_gets_its_answer_and_reaches_no_backend(case: Case) -> None:
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        answer = await wire.ask(case.said)
        checked(answer, case.status, case.body)
        if case.open:
            assert answer.all(b"connection") == []
            assert (await wire.ask(GOOD)).status == 200
            assert [each.start for each in recorder.heads] == [b"GET /b HTTP/1.1"]
        else:
            assert answer.one(b"connection") == b"close"
            assert await wire.end() == b""
            assert recorder.connections == 0


@pytest.mark.parametrize("case", [case for case in CASES if len(case.said) < 500], ids=lambda case: case.name)
async def test_the_answer_does_not_depend_on_how_the_bytes_arrive(case: Case) -> None:
    """The same table, byte by byte. Only that a bare CR or LF is seen at once, before what else is wrong, differs."""
    said = case.said
    head = said[: said.find(b"\r\n\r\n") + 2]
    body = bad("", b"", BARE).body if re.search(rb"(?<!\r)\n|\r(?!\n)", head) else case.body
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        for at in range(len(said)):
            wire.writer.write(said[at : at + 1])
            await asyncio.sleep(0)
        checked(await wire.answer(said.split(b" ", 1)[0]), case.status, body)
        assert recorder.connections == 0


CHUNKS = [
    ("a size that is no number", b"xyz\r\nabc\r\n0\r\n\r\n", SIZE),
    ("no size", b"\r\nabc\r\n0\r\n\r\n", SIZE),
    ("a negative size", b"-3\r\nabc\r\n0\r\n\r\n", SIZE),
    ("a size with a plus", b"+3\r\nabc\r\n0\r\n\r\n", SIZE),
    ("a size with 0x", b"0x3\r\nabc\r\n0\r\n\r\n", SIZE),
    ("a size with an underscore", b"1_0\r\nabc\r\n0\r\n\r\n", SIZE),
    ("a size of 16 digits", b"0000000000000003\r\nabc\r\n0\r\n\r\n", SIZE),
    ("a size that overflows", b"ffffffffffffffff3\r\nabc\r\n0\r\n\r\n", SIZE),
    ("a blank before the size", b" 3\r\nabc\r\n0\r\n\r\n", SIZE),
    ("a blank behind the size", b"3 \r\nabc\r\n0\r\n\r\n", SIZE),
    ("a comma behind the size", b"3,\r\nabc\r\n0\r\n\r\n", SIZE),
    ("an extension with a control character", b"3;a=\x01\r\nabc\r\n0\r\n\r\n", SIZE),
    ("an extension with a bare CR", b"3;a\rb\r\nabc\r\n0\r\n\r\n", SIZE),
    ("an endless extension", b"3;" + b"a" * 300 + b"\r\nabc\r\n0\r\n\r\n", SIZE),
    ("a bare LF behind the size", b"3\nabc\r\n0\r\n\r\n", "bare LF in a chunked body"),
    ("a bare LF behind the data", b"3\r\nabc\n0\r\n\r\n", "bare LF in a chunked body"),
    ("a bare LF at the end", b"3\r\nabc\r\n0\r\n\n", "bare LF in a chunked body"),
    ("a chunk longer than its size", b"3\r\nabcd\r\n0\r\n\r\n", "chunk longer than its size"),
    ("a chunk shorter than its size", b"5\r\nabc\r\n0\r\n\r\n", "chunk longer than its size"),
    ("a trailer without a colon", b"0\r\nnonsense\r\n\r\n", "malformed trailer field"),
    ("a trailer with a blank before the colon", b"0\r\nX : y\r\n\r\n", "malformed trailer field"),
    ("a folded trailer", b"0\r\nX: y\r\n z\r\n\r\n", "malformed trailer field"),
    ("an endless trailer", b"0\r\n" + b"X: y\r\n" * 2000 + b"\r\n", "malformed trailer field"),
]


@pytest.mark.parametrize(("chunks", "reason"), [each[1:] for each in CHUNKS], ids=[each[0] for each in CHUNKS])
async def test_a_malformed_chunked_body_is_refused_and_its_request_never_completes(chunks: bytes, reason: str) -> None:
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (worker, _, port),
        connected(port) as wire,
    ):
        answer = await wire.ask(post(CHUNKED, chunks + SMUGGLED))
        checked(answer, 400, b'{"error":"bad request: %s"}' % reason.encode())
        assert answer.one(b"connection") == b"close"
        assert await wire.end() == b""
        assert recorder.requests == []
        assert worker.upstreams["u"].backends[0].active == 0


async def test_chunks_that_add_up_to_too_much_are_refused_with_413() -> None:
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        answer = await wire.ask(post(CHUNKED, b"5\r\nabcde\r\n6\r\nabcdef\r\n0\r\n\r\n", b"/small"))
        checked(answer, 413, TOO_LARGE)
        assert await wire.end() == b""
        assert recorder.requests == []


async def test_a_body_as_large_as_allowed_passes() -> None:
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        assert (await wire.ask(post(b"Content-Length: 10\r\n", b"abcdefghij", b"/small"))).status == 200
        assert (await wire.ask(post(CHUNKED, b"a\r\nabcdefghij\r\n0\r\n\r\n", b"/small"))).status == 200
        assert [each.body for each in recorder.requests] == [b"abcdefghij"] * 2


@pytest.mark.parametrize("said", [b"G", b"GET /a HTTP/1.1\r\n", GOOD[:-1], b"\r\n"], ids=str)
@undisturbed
async def test_a_slow_head_is_answered_with_408(said: bytes) -> None:
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], Gateway(access_log="", head_timeout=SHORT)) as (_, _, port),
        connected(port) as wire,
    ):
        answer = await wire.ask(said)
        checked(answer, 408, LATE)
        assert await wire.end() == b""
        assert recorder.connections == 0


@undisturbed
async def test_a_head_that_trickles_in_gets_no_more_time() -> None:
    gateway = Gateway(access_log="", head_timeout=SHORT)
    async with (
        door(LINES, [], gateway) if not LINES else door([], [], gateway) as (_, _, port),
        connected(port) as wire,
    ):
        answering = asyncio.create_task(wire.answer())
        for byte in get(b"/" + b"a" * 1000):
            wire.writer.write(bytes([byte]))
            if (await asyncio.wait([answering], timeout=0.02))[0]:
                break
        checked(await answering, 408, LATE)


async def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    async with door([], [], Gateway(access_log="", head_timeout=SHORT)) as (_, _, port), connected(port) as wire:
        assert await wire.end() == b""


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    gateway = Gateway(access_log="", idle_timeout=SHORT)
    async with door([], [], gateway) as (_, _, port), connected(port) as wire:
        assert (await wire.ask(get(b"/none"))).status == 404
        assert await wire.end() == b""


@pytest.mark.parametrize(
    "said",
    [post(b"Content-Length: 5\r\n", b"abc"), post(CHUNKED, b"5\r\nab"), post(CHUNKED)],
    ids=["length", "chunk", "none"],
)
@undisturbed
async def test_a_slow_body_is_answered_with_408(said: bytes) -> None:
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], Gateway(access_log="", body_timeout=SHORT)) as (_, _, port),
        connected(port) as wire,
    ):
        answer = await wire.ask(said)
        checked(answer, 408, LATE)
        assert await wire.end() == b""
        assert recorder.requests == []


@undisturbed
async def test_a_slow_body_that_nobody_wants_ends_the_connection() -> None:
    gateway = Gateway(access_log="", body_timeout=SHORT)
    async with door([], [], gateway) as (_, _, port), connected(port) as wire:
        assert (await wire.ask(post(b"Content-Length: 5\r\n", b"abc"))).status == 404
        assert await wire.end() == b""


async def test_too_many_connections_are_answered_with_503_and_do_not_count() -> None:
    async with (
        door([], [], Gateway(access_log="", max_connections=2)) as (worker, _, port),
        connected(port) as first,
        connected(port) as second,
    ):
        assert (await first.ask(get(b"/none"))).status == 404
        assert (await second.ask(get(b"/none"))).status == 404
        for _ in range(10):
            async with connected(port) as third:
                answer = await third.answer()
                checked(answer, 503, AWAY)
                assert answer.one(b"retry-after") == b"1"
                assert await third.end() == b""
        assert len(worker.clients) == 2
        assert (await first.ask(get(b"/none"))).status == 404


async def test_too_many_connections_from_one_address_are_answered_with_503() -> None:
    gateway = Gateway(access_log="", max_connections_per_address=1)
    async with door([], [], gateway) as (worker, _, port), connected(port) as first:
        assert (await first.ask(get(b"/none"))).status == 404
        async with connected(port) as second:
            checked(await second.answer(), 503, AWAY)
        assert len(worker.clients) == 1


# -- what is harmless passes in one form only

PASSING = [
    (b"GET /v/a%41%7e HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /n/aA~ HTTP/1.1"),
    (b"GET //v//b HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /n/b HTTP/1.1"),
    (b"GET /x/../v/./b HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /n/b HTTP/1.1"),
    (b"GET /v/caf%c3%a9 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /n/caf%C3%A9 HTTP/1.1"),
    (b"GET /v/a;x=1?b=%2f..%5c&b=2 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /n/a;x=1?b=%2f..%5c&b=2 HTTP/1.1"),
    (b"GET /v/%252e%252e HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /n/%252e%252e HTTP/1.1"),
    (b"GET http://y/v/b?c HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /n/b?c HTTP/1.1"),
    (b"GET HTTP://y/v/b HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /n/b HTTP/1.1"),
    (b"GET /a? HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /b HTTP/1.1"),
    (b"GET /a HTTP/1.1\r\nHost: x:80\r\n\r\n", b"GET /b HTTP/1.1"),
    (b"GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", b"GET /b HTTP/1.1"),
    (b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", b"GET /b HTTP/1.1"),
    (b"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /b HTTP/1.1"),
    (b"GET /a HTTP/1.0\r\n\r\n", b"GET /b HTTP/1.1"),
    (b"BREW /any HTTP/1.1\r\nHost: x\r\n\r\n", b"BREW /b HTTP/1.1"),
    (b"M-SEARCH /any HTTP/1.1\r\nHost: x\r\n\r\n", b"M-SEARCH /b HTTP/1.1"),
]


@pytest.mark.parametrize(("said", "start"), PASSING, ids=[each[0].split(b"\r\nH")[0].decode() for each in PASSING])
async def test_what_passes_reaches_the_backend_in_canonical_form(said: bytes, start: bytes) -> None:
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        answer = await wire.ask(said)
        assert answer.status == 200
        (got,) = recorder.requests
        assert got.start == start
        assert got.one(b"host") == address.encode()


SPOOFED = (
    b"X-User-Id: 1\r\nx_user_id: 1\r\nX-Client-Id: evil\r\nX_Client-Id: evil\r\nX-Scope: all\r\nx_scope: all\r\n"
    b"X-Forwarded-For: 1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n"
    b"X-Forwarded-Port: 1\r\nForwarded: for=1.2.3.4\r\nVia: 1.0 evil\r\nX-Real-IP: 1.2.3.4\r\nX-Request-Id: evil\r\n"
    b"X_Request_Id: evil\r\nProxy: http://evil\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n"
    b"Authorization: Basic YTpi\r\nConnection: X-Secret, keep-alive\r\nX-Secret: s\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
    b"Trailer: X\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"
)


async def test_what_says_who_the_client_is_or_how_the_hop_works_is_never_passed_on() -> None:
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], QUIET) as (_, _, port),
        connected(port) as wire,
    ):
        answer = await wire.ask(get(b"/a", SPOOFED + b"Cookie: a=b\r\nX-Mine: y\r\n"))
        assert answer.status == 200
        (got,) = recorder.requests
        request_id = answer.one(b"x-request-id")
        assert request_id != b"evil"
        assert sorted(got.fields) == sorted(
            [
                (b"host", address.encode()),
                (b"cookie", b"a=b"),
                (b"x-mine", b"y"),
                (b"x-forwarded-for", b"127.0.0.1"),
                (b"x-forwarded-proto", b"http"),
                (b"x-forwarded-host", b"x"),
                (b"forwarded", b'for=127.0.0.1;proto=http;host="x"'),
                (b"via", got.one(b"via")),
                (b"x-request-id", request_id),
            ]
        )
