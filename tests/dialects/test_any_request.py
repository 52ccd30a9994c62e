"""Properties: whatever comes, there is an answer, it is no 500, and what refuses is JSON."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dialects.house import OWNER, PASSWORD, House, basic, build

from ostiary.dialects.apifest import ROWS
from ostiary.dialects.cikit import ITEMS
from ostiary.dialects.cikit import PATHS as CIKIT
from ostiary.dialects.doorman import PATHS
from ostiary.dialects.http import Bounds, Listener
from ostiary.dialects.message import Answer, Request
from ostiary.dialects.oauth import ROWS as STANDARD

KNOWN = sorted(
    {row.path for row in (*ROWS, *STANDARD)}
    | set(PATHS)
    | {f"/api/v1/{path}" for path in (*CIKIT, *(f"{parent}/{{name}}" for parent in ITEMS))}
    | {"/operations", "/openapi.json", "/metrics", "/"}
)
OPERATIONS = ["scopes.create", "scopes.list", "applications.update", "tokens.check", "tokens.list", "routes.explain",
              "revisions.diff", "audit.list", "caches.flush", "config.current", "tokens.revoke_subject"]  # fmt: skip
MEMBERS = ["scope", "description", "cc_expires_in", "pass_expires_in", "name", "redirect_uri", "status", "client_id",
           "client_secret", "access_token", "user_id", "user", "token", "limit", "after", "grant_types", "rate_limit",
           "application_details", "path", "code", "refresh_token", "username",
           "password",
           "response_type", "redirect_uri", "code_verifier", "code_challenge",
           "method", "revision", "active", "since", "grant_type"]  # fmt: skip
texts = st.text(max_size=12) | st.sampled_from(["", "basic", "\0", "é" * 300, "ab", "GET", "/v1.0/me", "%2e%2e"])
numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**30])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
objects = st.dictionaries(st.sampled_from(MEMBERS) | texts, values, max_size=6)
bodies = (
    st.binary(max_size=40)
    | objects.map(lambda found: json.dumps(found).encode())
    | values.map(lambda found: json.dumps(found).encode())
    | st.lists(st.tuples(st.sampled_from(MEMBERS), texts), max_size=5).map(
        lambda pairs: "&".join(f"{name}={text}" for name, text in pairs).encode()
    )
)
items = st.sampled_from(["", "ab", "%00", "%", "%ff", "..", "a%2Fb", "a" * 300]) | st.text("ab01-_%/.", max_size=8)
paths = st.one_of(
    st.sampled_from(KNOWN),
    st.builds(lambda path, item: path.partition("{")[0] + item, st.sampled_from(KNOWN), items),
    st.sampled_from(OPERATIONS).map("/operations/{}".format),
    st.text("/abc%2eoauth0apifest-.{}", max_size=20).map("/{}".format),
)
queries = st.lists(st.tuples(st.sampled_from([*MEMBERS, "penalties"]), st.text("a1%&=+;é\0", max_size=6)), max_size=3)
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get", "X"])
media = st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain", "", "é"])


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def held(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house: House = runner.run(build(tmp_path_factory.mktemp("any")))
    house.apifest(trusted_networks=["192.0.2.0/24"])
    yield house
    runner.run(house.close())


@settings(max_examples=400)
@given(methods, paths, queries, bodies, media, st.booleans(), st.booleans())
def test_every_request_has_an_answer(
    runner: asyncio.Runner, held: House, method: str, path: str, query: list[tuple[str, str]], body: bytes, kind: str,
    owner: bool, public: bool,
) -> None:  # fmt: skip
    headers = {"content-type": [kind]} | ({"authorization": [basic(OWNER, PASSWORD)]} if owner else {})
    text = "&".join(f"{name}={value}" for name, value in query)
    request = Request(
        method, path, text, headers, "127.0.0.1", body, peer="192.0.2.1", address="192.0.2.1", public=public
    )
    answer: Answer = runner.run(held.answer(request))
    assert 200 <= answer.status < 500
    if dict(answer.headers).get("Content-Type", "").startswith("text/html"):
        assert path.startswith("/oauth20/authorize")
    elif answer.status >= 400:
        assert isinstance(json.loads(answer.body), dict)


HEAD = b"POST /oauth20/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
SEEDS = [
    HEAD + b"Content-Length: 10\r\n\r\nclient_id=GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET /api/health HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
    b"DELETE /api/caches HTTP/1.0\r\nAuthorization: Basic YTpi\r\nExpect: 100-continue\r\n\r\n",
]
pieces = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b":", b" ", b"\0", b"\xff", b"Content-Length: 5\r\n", b"0\r\n\r\n", b"Z"]
)
cuts = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), pieces), max_size=4)


def mutated(seed: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, piece in changes:
        seed = seed[:at] + piece + seed[at + length :]
    return seed


@settings(max_examples=300)
@given(st.sampled_from(SEEDS), cuts)
def test_every_input_is_answered_or_closed(
    runner: asyncio.Runner, held: House, seed: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    assert runner.run(_sent(held, mutated(seed, changes)))


async def _sent(house: House, data: bytes) -> bool:
    """Whether what came back are whole answers, none of them a 500, before the connection was closed."""
    listener = Listener(house.router, bounds=Bounds(head_time=0.05, body_time=0.05, idle_time=0.05, linger_time=0.05))
    sock = socket.create_server(("127.0.0.1", 0))
    await listener.listen(sock)
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(data)
    received = bytearray()
    with suppress(ConnectionResetError):  # it may be closed just when something comes
        async with asyncio.timeout(30):
            while data := await reader.read(65_536):
                received += data
    writer.close()
    await listener.drain(1)
    return _whole(bytes(received))


def _whole(received: bytes) -> bool:
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        status = int(head[9:12])
        assert (end and head.startswith(b"HTTP/1.1 ") and 100 <= status < 500) or status in (503, 505)
        lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")]
        received = rest[sum(lengths) :]
    return True
