"""The director under load: no user is ever served by two backends at once, and nothing reaches what was removed."""

import asyncio
import itertools
import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.e2e.crowd import Crowd, basic, each, request
from tests.e2e.house import LIMIT, OWNER, Answer, Node, serving
from tests.listening import Listener, listening

ADMIN = basic("admin", "change-me-please-1")
HOSTS = [f"127.0.0.{number}" for number in range(11, 21)]
USERS = 3_000
STEADY = 64
"""Connections that ask all the time."""


class Backends:
    """Ten hosts of one port. Who is being served, and where; and whatever should not have come."""

    def __init__(self) -> None:
        self.serving: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.removed: set[str] = set()
        self.dead: set[str] = set()
        self.wrong: list[str] = []
        self.slow: dict[str, float] = {}
        """Seconds that a host takes for an answer, at most."""
        self.last: dict[str, str] = {}
        self.random = random.Random(7)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = writer.get_extra_info("sockname")[0]
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            user = head.split(b"x-user: ", 1)[1].split(b"\r\n", 1)[0].decode()
            await self.answer(host, user)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(host), host.encode()))

    async def answer(self, host: str, user: str) -> None:
        """Take a few milliseconds, and notice who is served elsewhere meanwhile."""
        here = self.serving[user]
        if host in self.removed:
            self.wrong.append(f"{user} reached {host}, which is removed")
        if any(count and other != host for other, count in here.items()):
            self.wrong.append(f"{user} is at {host} and at {sorted(+here)}")
        here[host] += 1
        slow = self.slow.get(host, 0.0)
        try:
            await asyncio.sleep(self.random.uniform(slow / 3, slow) or self.random.choice((0.0, 0.001, 0.003)))
            if host in self.removed:
                self.wrong.append(f"{user} is still at {host}, which is removed")
        finally:
            here[host] -= 1
        self.last[user] = host


@asynccontextmanager
async def backends() -> AsyncIterator[tuple[Backends, dict[str, Listener], int]]:
    found = Backends()
    async with AsyncExitStack() as stack:
        servers = {HOSTS[0]: await stack.enter_async_context(listening(found.serve, HOSTS[0]))}
        port = servers[HOSTS[0]].port
        for host in HOSTS[1:]:
            servers[host] = await stack.enter_async_context(listening(found.serve, host, port))
        yield found, servers, port


def configuration(port: int, hosts: list[str], more: str = "") -> str:
    servers = ", ".join(f'"{host}:{port}"' for host in hosts)
    return f"""
gateway: {{listen: "127.0.0.1:0", workers: 3, kick_grace: 30s}}
admin: {{listen: "127.0.0.1:0"}}
log: {{access: ""}}
upstreams:
  mail: {{servers: [{servers}], balance: director, director_port: {port}, user_from: header X-User{more}}}
routes: [{{match: "GET /m", upstream: mail}}]
{OWNER}"""


def ask(user: str) -> bytes:
    return request("GET", "/m", X_User=user)


class Director:
    """Its operations, by the owner."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def run(self, name: str, **params: object) -> Answer:
        (answer,) = await each(self.node.admin, [self.asks(name, **params)])
        assert answer.status == 200, answer.body
        return answer

    def asks(self, name: str, **params: object) -> bytes:
        return request("POST", f"/operations/director.{name}", params, Authorization=ADMIN)

    async def move(self, hosts: dict[str, str]) -> None:
        """Users to hosts, some at once."""
        moves = [self.asks("move", user=user, host=host) for user, host in hosts.items()]
        answers = await each(self.node.admin, moves, size=16)
        assert {answer.status for answer in answers} == {200}

    async def hosts(self) -> dict[str, tuple[str, int]]:
        status = (await self.run("status")).json
        return {host["host"]: (host["state"], host["users"]) for host in status["hosts"]}

    async def where(self, user: str) -> str:
        return str((await self.run("status", user=user)).json["user"]["status"])


class Load:
    """Users who ask all the time."""

    def __init__(self, node: Node, users: list[str]) -> None:
        self.node, self.users = node, users
        self.statuses: Counter[int | None] = Counter()
        self.ending = False

    async def run(self) -> None:
        async with Crowd(self.node.gateway, STEADY) as crowd:
            asked = itertools.cycle(ask(user) for user in self.users)
            while not self.ending:
                turn = list(itertools.islice(asked, 4 * STEADY))
                for answer in await crowd.ask(turn):
                    self.statuses[answer.status if answer is not None else None] += 1


@asynccontextmanager
async def loaded(node: Node, users: list[str]) -> AsyncIterator[Load]:
    load = Load(node, users)
    task = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.ending = True
        async with asyncio.timeout(LIMIT):
            await task


async def test_no_user_is_ever_at_two_backends_and_nothing_reaches_what_was_removed(tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(USERS)]
    async with backends() as (found, _, port):
        (tmp_path / "ostiary.yaml").write_text(configuration(port, HOSTS[:9]))
        async with serving(tmp_path) as node:
            director = Director(node)
            await each(node.gateway, [ask(name) for name in names])
            before = dict(found.last)
            async with loaded(node, names) as load:
                await director.run("add", host=HOSTS[9])
                await director.run("down", host=HOSTS[0])
                assert found.last == before  # nobody who is active moves when hosts come and go
                await director.move({name: HOSTS[number % 3 + 3] for number, name in enumerate(names[:90])})
                await director.run("flush", host=HOSTS[0])
                assert (await director.hosts())[HOSTS[0]] == ("down", 0)
                await director.run("up", host=HOSTS[0])
                await director.run("flush", host="all")
                await director.run("update", host=HOSTS[5], vhosts=0)
                await director.run("flush", host=HOSTS[5])
                await director.run("remove", host=HOSTS[1])
                found.removed.add(HOSTS[1])
                await director.run("kick", user=names[0])
                await director.move(dict.fromkeys(names[:30], HOSTS[2]))
                await each(node.gateway, [ask(name) for name in names])
            assert found.wrong == []
            # Connections that a removal or a kick ends while they are idle look lost to whoever was about to ask.
            assert set(load.statuses) <= {200, None}
            assert load.statuses[None] <= 3 * STEADY
            hosts = await director.hosts()
            assert HOSTS[1] not in hosts and hosts[HOSTS[5]] == ("up", 0)
            assert sum(users for _, users in hosts.values()) == USERS
            assert {await director.where(name) for name in names[:30]} == {HOSTS[2]}


@pytest.mark.parametrize("leave", ["remove", "flush"])
async def test_users_of_a_slow_host_reach_another_only_when_nothing_flows_to_it(tmp_path: Path, leave: str) -> None:
    """They ask all the time, over connections that do not wait for each other."""
    names = [f"user{number}" for number in range(40)]
    async with backends() as (found, _, port):
        (tmp_path / "ostiary.yaml").write_text(configuration(port, HOSTS[:3]))
        async with serving(tmp_path) as node:
            director = Director(node)
            await each(node.gateway, [ask(name) for name in names])
            slow = [name for name in names if found.last[name] == HOSTS[0]]
            found.slow[HOSTS[0]] = 0.3
            async with loaded(node, slow) as load:
                await each(node.gateway, [ask(name) for name in slow])
                if leave == "flush":
                    await director.run("down", host=HOSTS[0])
                await director.run(leave, host=HOSTS[0])
                if leave == "remove":
                    found.removed.add(HOSTS[0])
                await each(node.gateway, [ask(name) for name in slow])
            assert found.wrong == []
            assert set(load.statuses) <= {200, None}
            assert HOSTS[0] not in {found.last[name] for name in slow}


async def test_hosts_marks_and_assignments_survive_a_kill_of_control_and_a_restart(tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(300)]
    async with backends() as (found, _, port):
        (tmp_path / "ostiary.yaml").write_text(configuration(port, HOSTS[:4]))
        async with serving(tmp_path) as node:
            director = Director(node)
            await director.run("add", host=HOSTS[4], vhosts=50)
            await director.run("down", host=HOSTS[0])
            await each(node.gateway, [ask(name) for name in names])
            before, hosts = dict(found.last), await director.hosts()
            (control,) = node.children("control")
            os.kill(control, signal.SIGKILL)
            assert [answer.status for answer in await each(node.gateway, [ask(name) for name in names])] == [200] * 300
            assert found.last == before
        async with serving(tmp_path) as node:
            director = Director(node)
            assert await director.hosts() == hosts
            await each(node.gateway, [ask(name) for name in names])
            assert found.last == before


async def test_a_dead_backend_goes_down_by_itself_and_its_users_elsewhere(tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(200)]
    health = ", health: {every: 100ms, timeout: 20s, fall: 2, rise: 1}"
    async with backends() as (found, servers, port):
        (tmp_path / "ostiary.yaml").write_text(configuration(port, HOSTS[:3], health))
        async with serving(tmp_path) as node:
            director = Director(node)
            await each(node.gateway, [ask(name) for name in names])
            async with loaded(node, names) as load:
                await each(node.gateway, [ask(name) for name in names])
                await servers[HOSTS[0]].close()
                async with asyncio.timeout(LIMIT):
                    while (await director.hosts())[HOSTS[0]] != ("down", 0):
                        pass
                await each(node.gateway, [ask(name) for name in names])
            assert found.wrong == []
            assert {200, 502} <= set(load.statuses) <= {200, 502, 503}
            answers = await each(node.gateway, [ask(name) for name in names])
            assert {(answer.status, answer.body) for answer in answers} == {
                (200, HOSTS[1].encode()), (200, HOSTS[2].encode()),
            }  # fmt: skip
            kept = {name: host for name, host in found.last.items() if host != HOSTS[0]}
            async with listening(found.serve, HOSTS[0], port):
                async with asyncio.timeout(LIMIT):
                    while (await director.hosts())[HOSTS[0]][0] != "up":
                        pass
                await each(node.gateway, [ask(name) for name in names])
            assert found.last == kept


async def test_two_workers_that_first_see_a_user_at_once_agree(tmp_path: Path) -> None:
    async with backends() as (found, _, port):
        (tmp_path / "ostiary.yaml").write_text(configuration(port, HOSTS))
        async with serving(tmp_path) as node:
            for number in range(40):
                answers = await each(node.gateway, [ask(f"new{number}")] * 12, size=12)
                assert len({answer.body for answer in answers}) == 1
            assert found.wrong == []


async def test_a_stopped_worker_does_not_use_what_was_flushed_meanwhile(tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(60)]
    async with backends() as (found, _, port):
        (tmp_path / "ostiary.yaml").write_text(configuration(port, HOSTS[:3]))
        async with serving(tmp_path) as node:
            director = Director(node)
            async with Crowd(node.gateway, 24) as crowd:
                await crowd.answers([ask(name) for name in names] * 2)
                stopped = node.children("worker")[0]
                os.kill(stopped, signal.SIGSTOP)
                await director.run("down", host=HOSTS[0])
                await director.run("flush", host=HOSTS[0])
                found.removed.add(HOSTS[0])
                os.kill(stopped, signal.SIGCONT)
                answers = await crowd.answers([ask(name) for name in names] * 2)
                assert {answer.status for answer in answers} == {200}
                assert HOSTS[0].encode() not in {answer.body for answer in answers}
            assert found.wrong == []
