"""Whatever body comes to an endpoint of the OAuth server, it gives its documented refusal and goes on serving."""

import asyncio
import gzip
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from tests.e2e.crowd import FORM, JSON, each, request
from tests.e2e.house import LIMIT, Answer, Backend, Node, configuration, serving
from tests.undisturbed import undisturbed

LARGE = 65_537


class Endpoint(NamedTuple):
    """A path, and what it says to a body that it cannot read, one that is too large, and one of another type."""

    method: str
    path: str
    media: str
    unreadable: tuple[int, str]
    large: str = "request body too large"
    foreign: tuple[int, str] = (400, "unsupported media type")


STRANGER, INVALID, JSONLESS = (401, "invalid_client"), (400, "invalid_request"), (400, "invalid JSON")
NO_TOKEN, NO_USER = ((400, f"mandatory parameter {name} is missing") for name in ("access_token", "user_id"))
TOKENS = Endpoint("POST", "/oauth20/tokens", FORM, (400, "mandatory parameter client_id is missing"))
PUBLIC = [
    TOKENS,
    *(
        Endpoint("POST", f"/oauth20/{name}", FORM, STRANGER, "invalid_request", INVALID)
        for name in ("token", "revoke", "introspect")
    ),
]
INSIDE = [
    Endpoint("POST", "/oauth20/scopes", JSON, JSONLESS),
    Endpoint("PUT", "/oauth20/scopes/basic", JSON, JSONLESS),
    Endpoint("POST", "/oauth20/applications", JSON, JSONLESS),
    Endpoint("POST", "/oauth20/tokens/revoke", JSON, NO_TOKEN, foreign=NO_TOKEN),
    Endpoint("DELETE", "/oauth20/tokens", JSON, NO_USER, foreign=NO_USER),
]
UNREADABLE = [
    b"", b"x", b'{"\xff": 1}', '{"scope": "ab"}'.encode("utf-16"), gzip.compress(b'{"scope": "ab"}'), b'{"scope": "a',
    b"[" * 30_000, b"[]", b"null", b"1e999", b'{"scope": "a\\u0000b", "name": "\\u0000"}', b'{"scope": "\\ud800"}',
    b"%zz=%&=&&&;", b"\0" * 1000, "\u202e".encode() * 100,
]  # fmt: skip
FOREIGN = ("text/plain", "application/xml", "\xe9", ";", "*/*")


def sent(endpoint: Endpoint, body: bytes, media: str = "") -> bytes:
    return request(endpoint.method, endpoint.path, body, Content_Type=media or endpoint.media)


def said(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["error"]


@pytest.fixture
def hasty(place: Path, behind: Backend) -> Path:
    """A configuration whose gateway waits no longer than two seconds for what a client began to send."""
    waits = "gateway: {head_timeout: 2s, body_timeout: 2s, "
    (place / "ostiary.yaml").write_text(configuration(behind.port).replace("gateway: {", waits))
    return place


async def test_every_malformed_body_gets_the_documented_refusal(configured: Path) -> None:
    async with serving(configured, "--workers", "1") as node:
        await node.client()
        for endpoint in [*PUBLIC, *INSIDE]:
            asked = [sent(endpoint, body) for body in UNREADABLE]
            for url in (node.admin, node.gateway) if endpoint in PUBLIC else (node.admin,):
                expected = endpoint.unreadable
                if endpoint.path.endswith("introspect") and url == node.admin:
                    expected = INVALID  # a trusted peer needs to show nothing: it is the token that is missing
                assert {said(answer) for answer in await each(url, asked)} == {expected}, endpoint
                foreign = [
                    sent(endpoint, b"a", media) for media in ("text/plain", "application/xml", "\xe9", ";", "*/*")
                ]
                assert {said(answer) for answer in await each(url, foreign)} == {endpoint.foreign}, endpoint
        await alive(node)


async def test_every_body_that_is_too_large_is_refused_before_it_is_read(configured: Path) -> None:
    async with serving(configured, "--workers", "1") as node:
        for endpoint in [*PUBLIC, *INSIDE]:
            for url in (node.admin, node.gateway) if endpoint in PUBLIC else (node.admin,):
                [whole] = await each(url, [sent(endpoint, b"a" * LARGE)])
                assert said(whole) == (413, endpoint.large), endpoint
                chunks = b"Transfer-Encoding: chunked\r\n\r\n" + (b"2000\r\n" + b"a" * 0x2000 + b"\r\n") * 10
                assert (await begun(url, head(endpoint) + chunks)).startswith(b"HTTP/1.1 413 "), endpoint


def head(endpoint: Endpoint) -> bytes:
    """The beginning of a request."""
    line = f"{endpoint.method} {endpoint.path} HTTP/1.1"
    return f"{line}\r\nHost: localhost\r\nContent-Type: {endpoint.media}\r\n".encode()


async def begun(url: str, data: bytes, *, end: bool = False) -> bytes:
    """What comes back to a request that is begun and not ended; `end`: nothing more will ever come."""
    place = urlsplit(url)
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(data)
        if end:
            writer.write_eof()
        received = await reader.read()
        writer.close()
        return received


@undisturbed
async def test_who_begins_and_does_not_go_on_is_answered_or_let_go(hasty: Path) -> None:
    async with serving(hasty, "--workers", "1") as node:
        heads = [
            f"{one.method} {one.path} HTTP/1.1\r\nHost: a\r\nContent-Type: {one.media}\r\n".encode() for one in PUBLIC
        ]
        half = [start + b"Content-Length: 100\r\n\r\nclient_id=a" for start in heads]
        half += [start + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab" for start in heads]
        late = await asyncio.gather(*(begun(node.gateway, data) for data in [*half, *heads]))
        assert {data[:12] for data in late} == {b"HTTP/1.1 408"}
        for url in (node.gateway, node.admin):
            gone = await asyncio.gather(*(begun(url, data, end=True) for data in [*half, *heads]))
            assert {data[:12] for data in gone} == {b""}
        await alive(node)


async def alive(node: Node) -> None:
    """It serves on."""
    for url, path in ((node.gateway, "/open"), (node.admin, "/oauth20/scopes")):
        [answer] = await each(url, [request("GET", path)])
        assert answer.status == 200
