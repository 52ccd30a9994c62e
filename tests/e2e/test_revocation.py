"""What has ended stays ended: after the answer no worker admits it, whatever it had cached, wherever it stood still."""

import asyncio
import os
import random
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.e2e.crowd import Crowd, basic, bearer, each, form, request
from tests.e2e.house import LIMIT, Answer, Client, Node, configuration, serving
from tests.e2e.test_races import TOKEN, TOKENS, Racing
from tests.e2e.volley import Volley
from tests.listening import listening

WORKERS = 4
SHOTS = 10_000
LEASE = 5.0
"""Seconds that a worker may act on what control said."""
TURNS = 100
"""Of the loop, in which what has come before is read."""
PASSED = (200, b"hello")
REFUSED = (401, b'{"error":"access token not valid"}')
ADMIN = basic("admin", "change-me-please-1")


@dataclass
class Held:
    """A token that passes, refreshed once, and what it came from."""

    racing: Racing
    user: str
    access: str
    refresh: str
    spent: str
    code: str

    async def ask(self, data: bytes) -> Answer:
        return (await each(self.racing.node.admin, [data]))[0]

    async def change(self, **wanted: object) -> Answer:
        return await self.ask(request("PUT", f"/oauth20/applications/{self.racing.client['client_id']}", wanted))


async def held(node: Node, user: str = "ann", **more: object) -> Held:
    """A token of an application of its own."""
    racing = Racing(node, await node.another(rotate_refresh_tokens=True, **more))
    code = await racing.code(user)
    first = await racing.tokens(code)
    [second] = await each(node.admin, [racing.refresh(first["refresh_token"], TOKEN)])
    return Held(racing, user, second.json["access_token"], second.json["refresh_token"], first["refresh_token"], code)


async def revoked(each: Held) -> Answer:
    return await each.racing.node.revoke(each.access)


async def revoked_by_access_token(each: Held) -> Answer:
    return await each.ask(form("/oauth20/revoke", token=each.access, **each.racing.client))


async def revoked_by_refresh_token(each: Held) -> Answer:
    return await each.ask(form("/oauth20/revoke", token=each.refresh, **each.racing.client))


async def refresh_token_reused(each: Held) -> Answer:
    return await each.ask(each.racing.refresh(each.spent, TOKENS))


async def code_reused(each: Held) -> Answer:
    return await each.ask(each.racing.exchange(each.code, TOKEN))


async def application_deactivated(each: Held) -> Answer:
    return await each.change(status=0)


async def application_deleted(each: Held) -> Answer:
    path = "/operations/applications.delete"
    return await each.ask(request("POST", path, {"client_id": each.racing.client["client_id"]}, Authorization=ADMIN))


async def user_revoked(each: Held) -> Answer:
    return await each.ask(request("DELETE", "/oauth20/tokens", {"user_id": each.user}))


ENDINGS: dict[Callable[[Held], Awaitable[Answer]], int] = {
    revoked: 200,
    revoked_by_access_token: 200,
    revoked_by_refresh_token: 200,
    refresh_token_reused: 400,
    code_reused: 400,
    application_deactivated: 200,
    application_deleted: 200,
    user_revoked: 200,
}
"""How a token may end, and the status of the answer after which it has."""


@asynccontextmanager
async def house(place: Path) -> AsyncIterator[tuple[Node, Volley]]:
    """A node with a scope, and lanes to all of its workers."""
    async with serving(place, "--workers", str(WORKERS)) as node:
        await node.client()
        async with Volley(node.gateway, WORKERS) as volley:
            yield node, volley


def all_of(volley: Volley, answer: tuple[int, bytes], count: int) -> dict[tuple[int, bytes], int]:
    """That every answer was this one."""
    return {answer: -(-count // len(volley.lanes)) * len(volley.lanes)}


async def test_after_the_answer_no_worker_admits_what_ended(configured: Path) -> None:
    async with house(configured) as (node, volley):
        for end, status in ENDINGS.items():
            one, other = await held(node), await held(node, "bob")
            asked = bearer("/closed", one.access)
            assert await volley.fire([asked], 500) == all_of(volley, PASSED, 500), end.__name__
            assert (await end(one)).status == status, end.__name__
            assert await volley.fire([asked], SHOTS) == all_of(volley, REFUSED, SHOTS), end.__name__
            assert await volley.fire([bearer("/closed", other.access)], 100) == all_of(volley, PASSED, 100)


async def test_a_stopped_worker_delays_the_answer_by_a_lease_and_admits_nothing_when_it_goes_on(
    configured: Path,
) -> None:
    async with house(configured) as (node, volley):
        victims = [await held(node, f"user{number}") for number, _ in enumerate(ENDINGS)]
        asked = [bearer("/closed", victim.access) for victim in victims]
        assert set(await volley.fire(asked, 1000)) == {PASSED}
        stopped = node.children("worker")[0]
        os.kill(stopped, signal.SIGSTOP)
        began = time.monotonic()
        answers = await asyncio.gather(*(end(victim) for end, victim in zip(ENDINGS, victims, strict=True)))
        assert time.monotonic() - began > LEASE / 2
        assert [answer.status for answer in answers] == list(ENDINGS.values())
        firing = asyncio.create_task(volley.fire(asked, SHOTS))
        await asyncio.sleep(0)
        os.kill(stopped, signal.SIGCONT)
        assert set(await firing) == {REFUSED}


async def test_a_reactivated_application_passes_again_where_its_tokens_were_remembered_as_refused(
    configured: Path,
) -> None:
    async with house(configured) as (node, volley):
        one = await held(node)
        asked = [bearer("/closed", one.access)]
        for status, answer in ((0, REFUSED), (1, PASSED), (0, REFUSED), (1, PASSED)):
            assert (await one.change(status=status)).status == 200
            assert await volley.fire(asked, 2000) == all_of(volley, answer, 2000)
        flushed = await one.ask(request("POST", "/operations/caches.flush", {}, Authorization=ADMIN))
        assert (flushed.status, flushed.json["workers"]) == (200, WORKERS)
        assert await volley.fire(asked, 2000) == all_of(volley, PASSED, 2000)


async def test_a_refresh_ends_the_token_before_soon_and_its_answer_does_not_wait(configured: Path) -> None:
    async with house(configured) as (node, volley):
        took, tries = LEASE, 0
        while took > LEASE / 2 and tries < 3:  # what waits for the worker takes longer each time
            took, tries = await refreshed(node, volley), tries + 1
        assert took < LEASE / 2


async def refreshed(node: Node, volley: Volley) -> float:
    """Refresh while a worker is stopped: how long the answer took."""
    one = await held(node)
    asked = [bearer("/closed", one.access)]
    assert set(await volley.fire(asked, 200)) == {PASSED}
    stopped = node.children("worker")[0]
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()
    answer = await one.ask(one.racing.refresh(one.refresh, TOKEN))
    took = time.monotonic() - began
    os.kill(stopped, signal.SIGCONT)
    assert answer.status == 200
    async with asyncio.timeout(LIMIT):
        while set(await volley.fire(asked, 200)) != {REFUSED}:
            pass
    assert await volley.fire(asked, SHOTS) == all_of(volley, REFUSED, SHOTS)
    assert set(await volley.fire([bearer("/closed", answer.json["access_token"])], 200)) == {PASSED}
    return took


async def test_a_scope_that_an_application_loses_is_lost_with_the_next_refresh(configured: Path) -> None:
    async with house(configured) as (node, volley):
        for name in ("more", "other"):
            scope = {"scope": name, "description": name, "cc_expires_in": 900, "pass_expires_in": 900}
            [made] = await each(node.admin, [request("POST", "/oauth20/scopes", scope)])
            assert made.status == 200
        one = await held(node, scope="basic more")
        assert set(await volley.fire([bearer("/closed", one.access)], 200)) == {PASSED}
        assert (await one.change(scope="more")).status == 200
        assert set(await volley.fire([bearer("/closed", one.access)], 200)) == {PASSED}
        refreshed = await one.ask(one.racing.refresh(one.refresh, TOKENS))
        assert (refreshed.status, refreshed.json["scope"]) == (200, "more")
        asked = bearer("/closed", refreshed.json["access_token"])
        assert set(await volley.fire([asked], 200)) == {(403, b'{"error":"access token scope not valid"}')}
        assert (await one.change(scope="other")).status == 200
        refused = await one.ask(one.racing.refresh(refreshed.json["refresh_token"], TOKENS))
        assert (refused.status, refused.json) == (400, {"status": "scope not valid"})


async def streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend that opens a tunnel where it is asked to, else a stream of chunks that never ends."""
    head = await reader.readuntil(b"\r\n\r\n")
    if b"upgrade" in head.lower():
        writer.write(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello\n")
    else:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello\n\r\n")
    await reader.read()


async def opened(node: Node, token: str, more: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream of this token, after its first words."""
    place = Client(node.gateway).place
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(f"GET /closed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{more}\r\n".encode())
    await asyncio.wait_for(reader.readuntil(b"hello\n"), LIMIT)
    return reader, writer


UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n"


@asynccontextmanager
async def streaming(place: Path) -> AsyncIterator[Node]:
    """A node in front of a backend that streams."""
    async with listening(streams) as listener:
        (place / "ostiary.yaml").write_text(configuration(listener.port))
        async with serving(place, "--workers", str(WORKERS)) as node:
            await node.client()
            yield node


async def test_open_streams_and_tunnels_end_before_the_answer_and_those_of_others_go_on(place: Path) -> None:
    async with streaming(place) as node:
        one, other = await held(node), await held(node, "bob")
        mine = [await opened(node, one.access, more) for more in ("", UPGRADE) for _ in range(8)]
        others = [await opened(node, other.access, more) for more in ("", UPGRADE) for _ in range(8)]
        assert (await revoked(one)).json == {"revoked": "true"}
        ends = [asyncio.create_task(reader.read()) for reader, _ in mine]
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert [end.done() for end in ends] == [True] * len(mine)
        assert not any(end.exception() is None and end.result().endswith(b"0\r\n\r\n") for end in ends)
        assert not any(reader.at_eof() for reader, _ in others)
        assert (await revoked(other)).json == {"revoked": "true"}
        for _, writer in [*mine, *others]:
            writer.close()


def committed(place: Path) -> bool:
    """Wait until the store has a revocation."""
    deadline = time.monotonic() + LIMIT
    with closing(sqlite3.connect(f"file:{place}/var/ostiary.db?mode=ro", uri=True)) as store:
        while time.monotonic() < deadline:
            if store.execute("SELECT 1 FROM tokens WHERE revoked IS NOT NULL").fetchone():
                return True
            time.sleep(0.005)
    return False


async def test_what_was_committed_and_never_told_ends_with_the_next_control(place: Path) -> None:
    """Control dies between the commit and its answer, while it waits for workers that are stopped."""
    async with streaming(place) as node, Crowd(node.gateway, 32) as crowd:
        one = await held(node)
        reader, writer = await opened(node, one.access, "")
        workers, (control,) = node.children("worker"), node.children("control")
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        revoking = asyncio.create_task(revoked(one))
        assert await asyncio.to_thread(committed, place)
        os.kill(control, signal.SIGKILL)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await revoking
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
        ended = asyncio.create_task(reader.read())
        assert (await revoked(one)).json == {"revoked": "false"}
        answers = await crowd.answers([bearer("/closed", one.access)] * 2000)
        assert {(answer.status, answer.body) for answer in answers} == {REFUSED}
        await asyncio.wait({ended}, timeout=LIMIT)
        assert ended.done()
        ended.exception()
        writer.close()


@dataclass
class Life:
    """A token that others use while it ends."""

    token: str
    wanted: int
    used: asyncio.Event = field(default_factory=asyncio.Event)
    """It has passed as often as was wanted."""
    ended: bool = False
    passed: int = 0
    refused: int = 0
    late: int = 0
    """Requests that began after the answer to its revocation, and passed."""


async def use(life: Life, crowd: Crowd, place: int) -> None:
    """Use a token, request after request, until one that began after its end was refused."""
    over = False
    while not over:
        over = life.ended
        answer = await crowd.connections[place].ask(bearer("/closed", life.token))
        assert answer is not None
        assert answer.status in (200, 401)
        passed = answer.status == 200
        life.passed += passed
        life.refused += not passed
        life.late += passed and over
        if life.passed >= life.wanted:
            life.used.set()


async def test_no_request_that_begins_after_a_revocation_passes_whatever_races_with_it(configured: Path) -> None:
    chance, users, lives = random.Random(20), 3, 16
    async with house(configured) as (node, _), Crowd(node.gateway, users * lives) as crowd:

        async def live(place: int) -> list[Life]:
            found = []
            for _ in range(6):
                one = await held(node, f"user{place}")
                life = Life(one.access, chance.randrange(1, 40))
                using = [asyncio.create_task(use(life, crowd, users * place + user)) for user in range(users)]
                await asyncio.wait_for(life.used.wait(), LIMIT)
                end = chance.choice(list(ENDINGS))
                assert (await end(one)).status == ENDINGS[end]
                life.ended = True
                await asyncio.gather(*using)
                found.append(life)
            return found

        done = [life for lives in await asyncio.gather(*map(live, range(lives))) for life in lives]
        assert sum(life.late for life in done) == 0
        assert all(life.refused >= users for life in done)
        assert sum(life.passed for life in done) > 500
