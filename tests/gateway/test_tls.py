"""TLS on the listener, exchanged at a swap, and towards backends."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from msgspec.structs import replace
from tests.gateway.certificates import Authority, Pair
from tests.gateway.door import Line, door, install
from tests.gateway.wire import PATIENCE, Message, Recorder, Wire, backend, connected, ok, recording

from ostiary.core.snapshot import Gateway, Snapshot, Tls, Upstream, UpstreamTls
from ostiary.gateway.worker import Worker
from ostiary.link.messages import Change

SHORT = 150_000
LINES = [Line("* /a", "/b")]
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
FAILED = b'{"error":"backend failed"}'
REFUSED = (OSError, EOFError)
"""What a client sees of a handshake that the other end does not want (EOFError: an IncompleteReadError)."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority that everybody here trusts."""
    return Authority(tmp_path, "authority")


@pytest.fixture
def pair(authority: Authority) -> Pair:
    """The listener's certificate."""
    return authority.sign("localhost")


def listening(pair: Pair, client_ca: str = "", minimum: Literal["1.2", "1.3"] = "1.2") -> Gateway:
    """A gateway with this certificate."""
    return Gateway(access_log="", tls=Tls(pair.certificate, pair.key, client_ca, minimum))


def trusting(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    """A client's context."""
    context = ssl.create_default_context(cafile=authority.path)
    if pair:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


def shown(wire: Wire) -> bytes | None:
    """The certificate that the gateway showed on this connection."""
    tls: ssl.SSLObject = wire.writer.get_extra_info("ssl_object")
    return tls.getpeercert(binary_form=True)


@asynccontextmanager
async def tls_door(gateway: Gateway) -> AsyncIterator[tuple[Worker, Recorder, str, int]]:
    """A door with one backend."""
    async with (
        recording() as (recorder, address),
        door(LINES, [Upstream("u", (address,))], gateway) as (worker, _, port),
    ):
        yield worker, recorder, address, port


async def test_the_listener_speaks_tls_and_says_so_to_the_backend(authority: Authority, pair: Pair) -> None:
    context = trusting(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with tls_door(listening(pair)) as (_, recorder, _, port), connected(port, context) as wire:
        for _ in range(2):
            answer = await wire.ask(GET)
            assert (answer.status, answer.body) == (200, b"ok")
        assert wire.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert recorder.requests[0].one(b"x-forwarded-proto") == b"https"
        assert recorder.requests[0].one(b"forwarded") == b'for=127.0.0.1;proto=https;host="x"'


async def test_a_large_answer_and_a_refusal_arrive_whole(authority: Authority, pair: Pair) -> None:
    async with tls_door(listening(pair)) as (_, recorder, _, port):
        recorder.reply = lambda message: ok(b"x" * 3_000_000)
        for said, status, body in (
            (GET, 200, b"x" * 3_000_000),
            (GET.replace(b"Host", b"Connection: close\r\nHost"), 200, b"x" * 3_000_000),
            (b"GET /a HTTP/1.1\r\n\r\n", 400, b'{"error":"bad request: Host is missing"}'),
        ):
            async with connected(port, trusting(authority)) as wire:
                answer = await wire.ask(said)
                assert (answer.status, answer.body) == (status, body)


async def test_a_plain_request_on_a_tls_port_is_closed(authority: Authority, pair: Pair) -> None:
    async with tls_door(listening(pair)) as (_, recorder, _, port):
        async with connected(port) as wire:
            await wire.say(GET)
            assert not (await wire.end()).startswith(b"HTTP")
        async with connected(port, trusting(authority)) as wire:
            assert (await wire.ask(GET)).status == 200
        assert len(recorder.requests) == 1


async def test_a_new_certificate_is_shown_from_the_swap_on(authority: Authority, pair: Pair) -> None:
    other = authority.sign("localhost")
    context = trusting(authority)
    async with tls_door(listening(pair)) as (worker, _, address, port), connected(port, context) as old:
        assert (await old.ask(GET)).status == 200
        assert shown(old) == pair.der
        install(worker, 2, LINES, [Upstream("u", (address,))], listening(other))
        async with connected(port, context) as new:
            assert shown(new) == other.der
            assert (await new.ask(GET)).status == 200
        assert (await old.ask(GET)).status == 200


async def test_a_certificate_exchanged_in_its_file_is_shown_from_the_swap_on(authority: Authority) -> None:
    pair = authority.sign("localhost", "same")
    async with tls_door(listening(pair)) as (worker, _, address, port):
        async with connected(port, trusting(authority)) as wire:
            assert shown(wire) == pair.der
        other = authority.sign("localhost", "same")
        async with connected(port, trusting(authority)) as wire:
            assert shown(wire) == pair.der
        install(worker, 2, LINES, [Upstream("u", (address,))], listening(pair))
        async with connected(port, trusting(authority)) as wire:
            assert shown(wire) == other.der


async def test_clients_must_show_a_certificate_where_that_is_asked(
    authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    client, stranger = authority.sign("client"), other.sign("client")
    async with tls_door(listening(pair, client_ca=authority.path)) as (_, recorder, _, port):
        async with connected(port, trusting(authority, client)) as wire:
            assert (await wire.ask(GET)).status == 200
        for shown_ in (None, stranger):
            with pytest.raises(REFUSED):
                async with connected(port, trusting(authority, shown_)) as wire:
                    await wire.ask(GET)
        assert len(recorder.requests) == 1


async def test_asking_for_client_certificates_begins_and_ends_at_a_swap(authority: Authority, pair: Pair) -> None:
    client = authority.sign("client")
    async with tls_door(listening(pair)) as (worker, recorder, address, port):
        async with connected(port, trusting(authority)) as wire:
            assert (await wire.ask(GET)).status == 200
        install(worker, 2, LINES, [Upstream("u", (address,))], listening(pair, client_ca=authority.path))
        with pytest.raises(REFUSED):
            async with connected(port, trusting(authority)) as wire:
                await wire.ask(GET)
        async with connected(port, trusting(authority, client)) as wire:
            assert (await wire.ask(GET)).status == 200
        install(worker, 3, LINES, [Upstream("u", (address,))], listening(pair))
        async with connected(port, trusting(authority)) as wire:
            assert (await wire.ask(GET)).status == 200
        assert len(recorder.requests) == 3


async def test_a_session_begun_before_does_not_get_around_client_certificates(authority: Authority, pair: Pair) -> None:
    """A TLS session kept by a client from a time when no certificate was asked for."""
    context = trusting(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with tls_door(listening(pair)) as (worker, recorder, address, port):
        session = await asyncio.to_thread(_session, context, port, None)
        install(worker, 2, LINES, [Upstream("u", (address,))], listening(pair, client_ca=authority.path))
        with pytest.raises(REFUSED):
            await asyncio.to_thread(_session, context, port, session)
        assert len(recorder.requests) == 1


def _session(context: ssl.SSLContext, port: int, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """One request on a connection that resumes `session`; the session to resume next time."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock,
        context.wrap_socket(sock, server_hostname="localhost", session=session) as tls,
    ):
        tls.sendall(GET)
        if not tls.recv(4096).startswith(b"HTTP/1.1 200"):
            raise EOFError
        return tls.session


async def test_versions_below_the_lowest_are_refused_and_that_too_may_change(authority: Authority, pair: Pair) -> None:
    old = trusting(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with tls_door(listening(pair, minimum="1.3")) as (worker, _, address, port):
        with pytest.raises(REFUSED):
            async with connected(port, old) as wire:
                await wire.ask(GET)
        async with connected(port, trusting(authority)) as wire:
            assert (await wire.ask(GET)).status == 200
        install(worker, 2, LINES, [Upstream("u", (address,))], listening(pair))
        async with connected(port, old) as wire:
            assert (await wire.ask(GET)).status == 200


async def test_a_certificate_that_cannot_be_read_leaves_the_old_one_serving(authority: Authority, pair: Pair) -> None:
    async with tls_door(listening(pair)) as (worker, _, address, port):
        for certificate in ("/none", pair.key, authority.sign("another").certificate):
            broken = Pair(certificate, pair.key, b"")
            with pytest.raises(OSError, match=r".+"):
                install(worker, 2, LINES, [Upstream("u", (address,))], listening(broken))
        async with connected(port, trusting(authority)) as wire:
            assert (await wire.ask(GET)).status == 200


async def test_tls_is_not_switched_on_or_off_by_a_swap(authority: Authority, pair: Pair) -> None:
    async with tls_door(listening(pair)) as (worker, _, _, port), connected(port, trusting(authority)):
        worker.prepare(Snapshot(2, Gateway(access_log=""), (), (), 0))
        assert worker.prepared() == "TLS can be switched on or off by a restart only"
    async with tls_door(Gateway(access_log="")) as (worker, _, _, port), connected(port) as wire:
        assert (await wire.ask(GET)).status == 200
        worker.prepare(Snapshot(2, listening(pair), (), (), 0))
        assert worker.prepared() == "TLS can be switched on or off by a restart only"


# -- towards backends


def serving(pair: Pair, client_ca: str = "") -> ssl.SSLContext:
    """A backend's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


async def answered(upstream: Upstream) -> Message:
    """What a request gets that goes to `upstream`."""
    async with door(LINES, [upstream], Gateway(access_log="")) as (_, _, port), connected(port) as wire:
        return await wire.ask(GET)


async def test_a_backends_certificate_is_verified(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    cases = [
        (UpstreamTls(ca=authority.path, name="localhost"), 200),
        (UpstreamTls(ca=authority.path), 502),
        (UpstreamTls(ca=authority.path, name="elsewhere"), 502),
        (UpstreamTls(ca=other.path, name="localhost"), 502),
        (UpstreamTls(), 502),
        (UpstreamTls(verify=False), 200),
    ]
    async with recording(context=serving(pair)) as (recorder, address):
        for tls, status in cases:
            answer = await answered(Upstream("u", (address,), tls=tls))
            assert (answer.status, answer.body) == (status, b"ok" if status == 200 else FAILED)
    assert len(recorder.requests) == 2


async def test_the_gateway_shows_its_certificate_to_backends_that_ask(authority: Authority, pair: Pair) -> None:
    client = authority.sign("gateway")
    async with recording(context=serving(pair, authority.path)) as (_, address):
        tls = UpstreamTls(authority.path, "localhost", certificate=client.certificate, key=client.key)
        assert (await answered(Upstream("u", (address,), tls=tls))).status == 200
        assert (await answered(Upstream("u", (address,), tls=UpstreamTls(authority.path, "localhost")))).status == 502


async def test_a_plain_backend_behind_tls_gives_502() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert not (await reader.read(65_536)).startswith(b"GET")
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with backend(plain) as address:
        answer = await answered(Upstream("u", (address,), tls=UpstreamTls(verify=False)))
        assert (answer.status, answer.body) == (502, FAILED)


async def test_a_backend_that_never_shakes_hands_gives_504() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with backend(silent) as address:
        answer = await answered(Upstream("u", (address,), tls=UpstreamTls(verify=False), connect_timeout=SHORT))
        assert (answer.status, answer.body) == (504, b'{"error":"backend timed out"}')


async def test_an_authority_exchanged_in_its_file_counts_from_the_swap_on(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    bundle.write_bytes(first.pem)
    async with recording(context=serving(second.sign("localhost"))) as (_, address):
        upstreams = [Upstream("u", (address,), tls=UpstreamTls(str(bundle), "localhost"))]
        gateway = Gateway(access_log="")
        async with door(LINES, upstreams, gateway) as (worker, _, port), connected(port) as wire:
            assert (await wire.ask(GET)).status == 502
            bundle.write_bytes(second.pem)
            assert (await wire.ask(GET)).status == 502
            install(worker, 2, LINES, upstreams, gateway)
            assert (await wire.ask(GET)).status == 200


async def test_a_large_body_passes_through_tls_on_both_sides(authority: Authority, pair: Pair) -> None:
    body = bytes(range(256)) * 8192
    async with recording(lambda message: ok(message.body[::-1]), serving(pair)) as (recorder, address):
        upstream = Upstream("u", (address,), tls=UpstreamTls(authority.path, "localhost"))
        async with (
            door(LINES, [upstream], listening(pair)) as (_, _, port),
            connected(port, trusting(authority)) as wire,
        ):
            answer = await wire.ask(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert (answer.status, answer.body) == (200, body[::-1])
    assert recorder.requests[0].body == body


async def test_a_service_that_starts_again_speaks_tls_as_the_configuration_says_by_then(
    authority: Authority, pair: Pair
) -> None:
    async with tls_door(listening(pair)) as (worker, _, address, port):
        worker.change(Change(1, stopped=["http"]))
        install(worker, 2, LINES, [Upstream("u", (address,))], listening(pair, authority.path))
        worker.change(Change(2, stopped=[]))
        with pytest.raises(REFUSED):
            async with connected(port, trusting(authority)) as wire:
                await wire.ask(GET)
        async with connected(port, trusting(authority, authority.sign("client"))) as wire:
            assert (await wire.ask(GET)).status == 200


@pytest.mark.parametrize(("patience", "status", "served"), [(30_000_000, 200, 1), (0, 503, 0)])
async def test_who_was_shaking_hands_when_the_service_stopped_has_the_drain_timeout(
    authority: Authority, pair: Pair, patience: int, status: int, served: int
) -> None:
    async with tls_door(replace(listening(pair), drain_timeout=patience)) as (worker, recorder, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.1)  # it is accepted by now
        worker.change(Change(1, stopped=["http"]))
        await writer.start_tls(trusting(authority), server_hostname="localhost")
        wire = Wire(reader, writer)
        answer = await wire.ask(GET)
        assert (answer.status, answer.one(b"connection")) == (status, b"close")
        assert await wire.end() == b""
        assert len(recorder.requests) == served
        await wire.close()


async def test_who_was_shaking_hands_and_asks_nothing_is_let_go(authority: Authority, pair: Pair) -> None:
    async with tls_door(listening(pair)) as (worker, _, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.1)
        worker.change(Change(1, stopped=["http"]))
        await writer.start_tls(trusting(authority), server_hostname="localhost")
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()
