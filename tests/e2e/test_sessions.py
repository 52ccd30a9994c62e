"""Sessions with live clients: who is connected, and ending it, in all workers, before the answer."""

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.e2e.crowd import basic, each, request
from tests.e2e.house import LIMIT, OWNER, Answer, Node, configuration, serving
from tests.e2e.test_races import Racing
from tests.listening import listening

ADMIN = basic("admin", "change-me-please-1")
MORE = f"""\
  - {{match: "GET /held", upstream: here, require: {{scope: basic}}}}
  - {{match: "GET /download", upstream: here, require: {{scope: basic}}}}
  - {{match: "GET /events", upstream: here, require: {{scope: basic}}}}
  - {{match: "GET /socket", upstream: here, require: {{scope: basic}}}}
{OWNER}"""
TUNNEL = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "k", "Sec-WebSocket-Version": "13"}
WORKER = re.compile(rb"x-request-id: \w{12}(\w+)-")
BEAT = 0.005
"""Seconds between two pieces of what never ends."""


class Pump:
    """A backend. `/held` waits for `go`, `/download` and `/events` tell the time without end, `/socket` is a tunnel."""

    def __init__(self) -> None:
        self.arrived, self.go, self.gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self.answer(head.split()[1].decode(), reader, writer)
        finally:
            self.gone.set()

    async def answer(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if path == "/held":
            self.arrived.set()
            await self.go.wait()
        if path in ("/download", "/events"):
            kind = b"text/event-stream" if path == "/events" else b"text/plain"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % kind)
            while True:
                writer.write(b"15\r\n%020d\n\r\n" % time.monotonic_ns())
                await writer.drain()
                await asyncio.sleep(BEAT)
        if path == "/socket":
            writer.write(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            while data := await reader.read(1000):
                writer.write(data)
            raise ConnectionError
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


class Line:
    """A client's connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.worker = 0

    async def begin(self, path: str, token: str, **headers: str) -> bytes:
        """Ask; the head that comes back."""
        self.writer.write(request("GET", path, Authorization=f"Bearer {token}", **headers))
        async with asyncio.timeout(LIMIT):
            head = await self.reader.readuntil(b"\r\n\r\n")
        found = WORKER.search(head)
        self.worker = int(found[1], 16) if found else self.worker
        return head

    async def ask(self, token: str, path: str = "/closed") -> bytes:
        """Ask for what is `hello`; the head that came with it."""
        head = await self.begin(path, token)
        assert await asyncio.wait_for(self.reader.readexactly(5), LIMIT) == b"hello", head
        return head

    async def rest(self) -> bytes:
        """Everything up to the end of the connection, in order or not."""
        found = bytearray()
        try:
            async with asyncio.timeout(LIMIT):
                while data := await self.reader.read(65_536):
                    found += data
        except ConnectionError:
            pass
        return bytes(found)

    def close(self) -> None:
        self.writer.close()


class Stage:
    """A node, a backend, tokens of users, and their connections."""

    def __init__(self, node: Node, pump: Pump) -> None:
        self.node, self.pump = node, pump
        self.racing: Racing
        self.lines: list[Line] = []
        self.tokens: dict[str, str] = {}

    async def open(self, *users: str) -> None:
        self.racing = Racing(self.node, await self.node.client())
        for user in users:
            self.tokens[user] = (await self.racing.tokens(await self.racing.code(user)))["access_token"]

    async def line(self, user: str = "", address: str = "127.0.0.1", worker: int = 0) -> Line:
        """A connection that `user` has used once; at a certain worker, where one is named."""
        place = urlsplit(self.node.gateway)
        async with asyncio.timeout(LIMIT):
            while True:
                streams = await asyncio.open_connection(place.hostname, place.port, local_addr=(address, 0))
                line = Line(*streams)
                self.lines.append(line)
                if worker:
                    await line.begin("/open", "")
                    await line.reader.readexactly(5)
                if not worker or line.worker == worker:
                    break
                line.close()
        if user:
            await line.ask(self.tokens[user])
        return line

    async def run(self, name: str, **params: object) -> Answer:
        data = request("POST", f"/operations/{name}", params, Authorization=ADMIN)
        return (await each(self.node.admin, [data], 1))[0]

    async def who(self, **params: object) -> list[dict[str, Any]]:
        return list((await self.run("sessions.list", **params)).json)

    async def kick(self, **params: object) -> list[str]:
        """Who was ended."""
        answer = await self.run("sessions.kick", **params)
        assert answer.status == 200, answer.body
        return list(answer.json["users"])


@asynccontextmanager
async def staged(place: Path, workers: int, *users: str, grace: str = "10m") -> AsyncIterator[Stage]:
    """`grace`: that exchanges in flight are given, which is longer than a test may take."""
    pump = Pump()
    async with listening(pump.serve) as listener:
        text = configuration(listener.port, MORE)
        text = text.replace("drain_timeout: 15s", f"drain_timeout: {grace}, kick_grace: {grace}")
        (place / "ostiary.yaml").write_text(text)
        async with serving(place, "--workers", str(workers)) as node:
            stage = Stage(node, pump)
            await stage.open(*users)
            try:
                yield stage
            finally:
                pump.go.set()
                for line in stage.lines:
                    line.close()


@pytest.fixture
async def stage(place: Path) -> AsyncIterator[Stage]:
    """One worker, and two users."""
    async with staged(place, 1, "ann", "bob") as stage:
        yield stage


def stamps(data: bytes) -> list[int]:
    """The moments at which the pieces of what never ends were sent."""
    return [int(each) for each in re.findall(rb"(\d{20})\n", data)]


async def test_who_shows_users_over_all_workers(place: Path) -> None:
    async with staged(place, 2, "ann", "bob") as stage:
        pids = sorted(stage.node.children("worker"))
        for user, address, worker in (
            ("bob", "127.0.0.1", 1), ("ann", "127.0.0.5", 2), ("ann", "127.0.0.1", 1), ("ann", "127.0.0.1", 2),
        ):  # fmt: skip
            await stage.line(user, address, worker)
        rows = await stage.who()
        assert sorted({row["pid"] for row in rows}) == pids
        shown = [(row["user"], row["service"], row["address"]) for row in rows]
        assert sorted(shown) == [
            ("ann", "http", "127.0.0.1"), ("ann", "http", "127.0.0.1"), ("ann", "http", "127.0.0.5"),
            ("bob", "http", "127.0.0.1"),
        ]  # fmt: skip
        assert [(row["user"], row["pid"]) for row in rows] == sorted((row["user"], row["pid"]) for row in rows)
        assert len(await stage.who(network="127.0.0.5")) == 3
        assert {row["user"] for row in await stage.who(user="B?B")} == {"bob"}


async def test_a_session_ends_with_its_connection_and_tokens_without_a_user_make_none(stage: Stage) -> None:
    line = await stage.line("ann")
    client = await stage.line()
    await client.ask(await another_token(stage))
    assert [row["user"] for row in await stage.who()] == ["ann"]
    line.close()
    async with asyncio.timeout(LIMIT):
        while await stage.who():
            pass


async def another_token(stage: Stage) -> str:
    """A token of the client application itself."""
    form = {"grant_type": "client_credentials", **stage.racing.client}
    text = "&".join(f"{name}={value}" for name, value in form.items()).encode()
    data = request("POST", "/oauth20/token", text, Content_Type="application/x-www-form-urlencoded")
    return str((await each(stage.node.admin, [data], 1))[0].json["access_token"])


async def test_an_idle_connection_ends_at_once_and_others_stay(stage: Stage) -> None:
    bob = await stage.line("bob")
    for force in (False, True):
        ann = await stage.line("ann")
        assert await stage.kick(user="ann", force=force) == ["ann"]
        assert await ann.rest() == b""
        await bob.ask(stage.tokens["bob"])
        assert [row["user"] for row in await stage.who()] == ["bob"]
        again = await stage.run("sessions.kick", user="ann", force=force)
        assert (again.status, again.json["error"]) == (404, "session.none")


async def test_without_force_an_exchange_in_flight_is_finished(stage: Stage) -> None:
    ann = await stage.line("ann")
    asked = asyncio.ensure_future(ann.ask(stage.tokens["ann"], "/held"))
    await asyncio.wait_for(stage.pump.arrived.wait(), LIMIT)
    kicked = asyncio.ensure_future(stage.kick(user="ann"))
    async with asyncio.timeout(LIMIT):
        while await stage.who():
            pass
    stage.pump.go.set()
    head = await asked
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in head.lower()
    assert await ann.rest() == b""
    assert await kicked == ["ann"]


async def test_with_force_who_has_had_no_byte_is_told(stage: Stage) -> None:
    ann = await stage.line("ann")
    asked = asyncio.ensure_future(ann.begin("/held", stage.tokens["ann"]))
    await asyncio.wait_for(stage.pump.arrived.wait(), LIMIT)
    assert await stage.kick(user="ann", force=True) == ["ann"]
    head = await asked
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nconnection: close\r\n" in head.lower()
    assert await ann.rest() == b'{"error":"session ended"}'


async def test_after_the_answer_no_byte_of_a_running_answer_flows(stage: Stage) -> None:
    for path in ("/download", "/events"):
        await kicked_while_it_runs(stage, path, True)


async def test_without_force_a_running_answer_is_cut_after_the_grace(place: Path) -> None:
    async with staged(place, 1, "ann", grace="500ms") as stage:
        for path in ("/download", "/events"):
            began = time.monotonic()
            await kicked_while_it_runs(stage, path, False)
            assert time.monotonic() - began > 0.5


async def kicked_while_it_runs(stage: Stage, path: str, force: bool) -> None:
    """An answer without end is cut."""
    ann = await stage.line("ann")
    head = await ann.begin(path, stage.tokens["ann"])
    assert head.startswith(b"HTTP/1.1 200 ")
    async with asyncio.timeout(LIMIT):
        first = await ann.reader.readuntil(b"\n\r\n")
    rest = asyncio.ensure_future(ann.rest())
    assert await stage.kick(user="ann", force=force) == ["ann"]
    answered = time.monotonic_ns()
    data = first + await rest
    assert max(stamps(data)) < answered
    assert not data.endswith(b"0\r\n\r\n")
    assert await stage.who() == []


async def test_a_tunnel_ends_on_both_sides(stage: Stage) -> None:
    for force in (False, True):
        ann = await stage.line()
        head = await ann.begin("/socket", stage.tokens["ann"], **TUNNEL)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert [row["service"] for row in await stage.who()] == ["ws"]
        stage.pump.gone.clear()
        assert await stage.kick(user="ann", force=force) == ["ann"]
        assert await ann.rest() == b""
        await asyncio.wait_for(stage.pump.gone.wait(), LIMIT)


async def test_a_connection_that_others_share_outlives_a_kick_without_force(stage: Stage) -> None:
    shared = await stage.line("ann")
    await shared.ask(stage.tokens["bob"])
    assert [row["user"] for row in await stage.who()] == ["ann", "bob"]
    assert await stage.kick(user="ann") == ["ann"]
    assert [row["user"] for row in await stage.who()] == ["bob"]
    await shared.ask(stage.tokens["bob"])


async def test_with_force_a_shared_connection_ends_and_the_others_are_named(stage: Stage) -> None:
    shared = await stage.line("ann")
    await shared.ask(stage.tokens["bob"])
    assert await stage.kick(user="ann", force=True) == ["ann", "bob"]
    assert await shared.rest() == b""
    assert await stage.who() == []


async def test_a_kick_reaches_the_one_worker_of_four(place: Path) -> None:
    async with staged(place, 4, "ann", "bob") as stage:
        lines = {worker: await stage.line("bob", worker=worker) for worker in range(1, 5)}
        ann = await stage.line("ann", worker=3)
        assert await stage.kick(user="a*") == ["ann"]
        assert await ann.rest() == b""
        for worker, line in lines.items():
            await line.ask(stage.tokens["bob"])
            assert line.worker == worker


async def test_a_kick_by_network_ends_all_sessions_of_who_has_one_from_there(stage: Stage) -> None:
    near, far = await stage.line("ann"), await stage.line("ann", "127.0.0.5")
    bob = await stage.line("bob")
    assert await stage.kick(network="127.0.0.4/31") == ["ann"]
    assert (await near.rest(), await far.rest()) == (b"", b"")
    await bob.ask(stage.tokens["bob"])


async def test_statistics_count_what_passed_until_they_are_reset(stage: Stage) -> None:
    line = await stage.line("ann")
    await line.ask(stage.tokens["ann"])
    await stage.line("bob")
    rows = {kind: (await stage.run("stats.dump", type=kind)).json for kind in ("global", "user", "session", "ip")}
    (total,) = rows["global"]
    assert (total["num_logins"], total["num_cmds"], total["num_connected_sessions"]) == (2, 3, 2)
    assert (total["read_count"], total["auth_successes"], total["auth_failures"]) == (3, 3, 0)
    assert {row["keys"]["user"]: row["num_cmds"] for row in rows["user"]} == {"ann": 2, "bob": 1}
    assert [row["keys"]["connected"] for row in rows["session"]] == ["1", "1"]
    assert [row["num_cmds"] for row in rows["ip"]] == [3]
    assert (await stage.run("stats.reset")).status == 200
    (total,) = (await stage.run("stats.dump", type="global")).json
    assert (total["num_logins"], total["num_cmds"], total["num_connected_sessions"]) == (0, 0, 2)
    assert total["last_update"] == 0


async def test_a_stopped_gateway_takes_nobody_in_until_a_reload(stage: Stage) -> None:
    line = await stage.line("ann")
    assert (await stage.run("services.stop", services=["http"])).json == {"stopped": ["http"]}
    assert await line.rest() == b""
    with pytest.raises(ConnectionError):
        await stage.line()
    assert (await stage.run("config.reload")).status == 200
    await stage.line("ann")


async def test_a_successor_of_control_has_all_services_serve_again(stage: Stage) -> None:
    assert (await stage.run("services.stop", services=["http"])).status == 200
    (control,) = stage.node.children("control")
    os.kill(control, signal.SIGKILL)
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                line = await stage.line()
            except ConnectionError:
                continue
            await line.ask(stage.tokens["ann"])
            break
    assert (await stage.run("node.health")).json["stopped"] == []


async def test_a_node_that_is_stopped_answers_whole_and_ends(stage: Stage) -> None:
    line = await stage.line("ann")
    answer = await stage.run("node.stop")
    assert (answer.status, answer.body) == (200, b"{}")
    assert await line.rest() == b""
    assert await asyncio.wait_for(stage.node.process.wait(), LIMIT) == 0


async def test_without_worker_processes_sessions_end_and_services_stop_and_start_just_so(place: Path) -> None:
    async with staged(place, 0, "ann", "bob") as stage:
        ann, bob = await stage.line("ann"), await stage.line("bob")
        assert [row["user"] for row in await stage.who()] == ["ann", "bob"]
        assert await stage.kick(user="ann") == ["ann"]
        assert await ann.rest() == b""
        assert (await stage.run("services.stop", services=["gateway"])).status == 200
        assert await bob.rest() == b""
        with pytest.raises(ConnectionError):
            await stage.line()
        assert (await stage.run("services.start")).json == {"stopped": []}
        await stage.line("ann")


async def test_a_hangup_signal_starts_what_was_stopped(stage: Stage) -> None:
    assert (await stage.run("services.stop", services=["http"])).status == 200
    stage.node.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(LIMIT):
        while (await stage.run("node.health")).json["stopped"]:
            pass
    await stage.line("ann")


async def test_a_worker_that_dies_while_a_service_is_stopped_does_not_start_it(stage: Stage) -> None:
    assert (await stage.run("services.stop", services=["http"])).status == 200
    (old,) = stage.node.children("worker")
    os.kill(old, signal.SIGKILL)
    async with asyncio.timeout(LIMIT):
        while [each for each in (await stage.run("node.health")).json["workers"] if not _new(each, old)]:
            pass
    with pytest.raises(ConnectionError):
        await stage.line()
    assert (await stage.run("services.start")).status == 200
    await stage.line("ann")


def _new(worker: dict[str, Any], old: int) -> bool:
    return bool(worker["connected"] and worker["pid"] != old and worker["revision"])
