"""Droplets as hosts of a director, under load: nobody is at two of them at once, no request fails while one serves.

A droplet says with each answer when it began and ended it, by the clock that all processes of a machine share.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e.crowd import Crowd, request
from tests.e2e.house import LIMIT, OWNER, Client, Node, once, serving

USERS = [f"user{number}" for number in range(24)]
VISITORS = 8
LONG = 3 * LIMIT
LEASE = 4_000_000_000
"""Nanoseconds that workers go on without control, at least."""
SERVE = """
import asyncio, os, random, sys, time
async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            began = time.monotonic_ns()
            until = head.partition(b"x-until: ")[2].split(b"\\r\\n")[0]
            if until:
                open(until + b".arrived", "w").close()
            while until and not os.path.exists(until):
                await asyncio.sleep(0.02)
            await asyncio.sleep(random.uniform(0.005, 0.03))
            body = b"%s %d %d" % (sys.argv[1].encode(), began, time.monotonic_ns())
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""
TEMPLATE = {
    "default": True, "ports": [143], "command": ["{python}", "-I", "-c", SERVE, "{port}"],
    "health": {"http": "/", "every": "200ms", "timeout": "10s"}, "stop": {"drain": "30s"},
    "restart": {"policy": "always", "first_wait": "100ms"},
}  # fmt: skip
CONFIGURATION = f"""
gateway: {{listen: "127.0.0.1:0", workers: 2}}
admin: {{listen: "127.0.0.1:0"}}
log: {{access: ""}}
droplets: {{templates: {{imap: {json.dumps(TEMPLATE)}}}}}
upstreams: {{mail: {{balance: director, droplets: {{template: imap, port: 143}}, user_from: header X-User}}}}
routes: [{{match: "GET /m", upstream: mail}}]
{OWNER}"""


class Visit(NamedTuple):
    """An answer of a droplet, in nanoseconds of the machine's clock."""

    began: int
    ended: int
    port: int


class Failure(NamedTuple):
    """A request that a droplet did not answer: the status that came instead, None for nothing."""

    user: str
    status: int | None
    asked: int
    answered: int


class Load:
    """Visitors who ask for all users, all the time: several at once for some."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.visits: defaultdict[str, list[Visit]] = defaultdict(list)
        self.failures: list[Failure] = []
        self.over = False
        self._moved = asyncio.Event()

    async def visit(self, chance: random.Random) -> None:
        async with Crowd(self.url, 1) as crowd:
            while not self.over:
                await self.ask(crowd, chance.choice(USERS))
                await asyncio.sleep(chance.uniform(0, 0.02))

    async def ask(self, crowd: Crowd, user: str, **headers: str) -> None:
        """One request for a user."""
        asked = time.monotonic_ns()
        [answer] = await crowd.ask([request("GET", "/m", X_User=user, **headers)])
        if answer is not None and answer.status == 200:
            port, began, ended = map(int, answer.body.split())
            self.visits[user].append(Visit(began, ended, port))
        else:
            status = None if answer is None else answer.status
            self.failures.append(Failure(user, status, asked, time.monotonic_ns()))
        self._moved.set()

    async def until(self, user: str, file: Path) -> None:
        """One request for a user that is answered when there is this file, over a connection of its own."""
        async with Crowd(self.url, 1) as crowd:
            await self.ask(crowd, user, X_Until=str(file))

    async def everybody(self) -> dict[str, int]:
        """Where each user is served from now on, once all have been."""
        now = time.monotonic_ns()
        async with asyncio.timeout(LIMIT):
            while not all(self.visits[user] and self.visits[user][-1].began > now for user in USERS):
                self._moved.clear()
                await self._moved.wait()
        return {user: self.visits[user][-1].port for user in USERS}

    @property
    def split(self) -> list[str]:
        """Users who were at two droplets at once."""
        found = []
        for user, visits in self.visits.items():
            last = 0
            for one, other in pairwise(sorted(visits)):
                last = max(last, one.ended)
                if other.port != one.port and other.began < last:
                    found.append(f"{user}: {one} and {other}")
        return found

    def served_since(self, moment: int) -> set[int]:
        """Ports of those that have begun an answer since then."""
        return {visit.port for visits in self.visits.values() for visit in visits if visit.began > moment}


@asynccontextmanager
async def loaded(node: Node) -> AsyncIterator[Load]:
    load = Load(node.gateway)
    tasks = [asyncio.create_task(load.visit(random.Random(number))) for number in range(VISITORS)]
    try:
        yield load
    finally:
        load.over = True
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*tasks)


class Operator:
    """Changes droplets and hosts, and looks at them."""

    def __init__(self, node: Node, token: str) -> None:
        self.node, self.token = node, token

    async def run(self, name: str, **params: object) -> Any:
        client = Client(self.node.admin, self.token)
        try:
            async with asyncio.timeout(LONG):
                await client.send("POST", f"/operations/{name}", params)
                answer = await client.answer()
        finally:
            client.close()
        assert answer.status == 200, answer.body
        return answer.json

    async def create(self) -> str:
        return str((await self.run("droplets.create"))["droplet"]["name"])

    async def ports(self) -> dict[str, int]:
        """Of the droplets that run."""
        droplets = await self.run("droplets.list")
        return {each["name"]: each["ports"]["143"]["port"] for each in droplets if each["state"] == "running"}

    async def hosts(self) -> dict[str, int]:
        """Hosts, and how many users each has."""
        return {each["host"]: each["users"] for each in (await self.run("director.status"))["hosts"]}

    async def until(self, condition: Callable[[set[str]], bool]) -> None:
        """Return when the hosts are so."""
        async with asyncio.timeout(LONG):
            while True:
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    if condition(set(await self.hosts())):
                        return
                await asyncio.sleep(0.02)


async def operator(node: Node) -> Operator:
    login = {"username": "admin", "password": "change-me-please-1"}
    return Operator(node, str((await once(node.admin, "POST", "/v1/auth/login", login)).json["token"]))


def host(port: int) -> str:
    return f"127.0.0.1:{port}"


def there(file: Path) -> bool:
    return file.exists()


async def appeared(file: Path) -> None:
    """Return when there is this file."""
    async with asyncio.timeout(LIMIT):
        while True:
            if there(file):
                return
            await asyncio.sleep(0.02)


def process_of(name: str, port: int) -> int:
    """The process of a droplet."""
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environ = (each / "environ").read_bytes().split(b"\0")
            if {f"DROPLET_NAME={name}".encode(), f"PORT={port}".encode()} <= set(environ):
                return int(each.name)
    raise AssertionError(f"no process of {name}")


async def test_droplets_of_a_director_come_and_go_and_nobody_notices(place: Path) -> None:
    (place / "ostiary.yaml").write_text(CONFIGURATION)
    async with serving(place) as node:
        does = await operator(node)
        one, two, three = [await does.create() for _ in range(3)]
        ports = await does.ports()
        async with loaded(node) as load:
            before = await load.everybody()
            assert await does.hosts() == {host(port): list(before.values()).count(port) for port in ports.values()}
            await does.run("droplets.restart", droplet=one)
            await does.run("droplets.stop", droplet=two)
            stopped = time.monotonic_ns()
            after = await load.everybody()
            # Whose droplet went on serving has stayed.
            assert {user for user in USERS if before[user] == ports[three] != after[user]} == set()
            four = await does.create()
            await does.run("droplets.delete", droplet=three)
            deleted = time.monotonic_ns()
            assert set(await does.ports()) == {one, four}
            await load.everybody()
            assert load.served_since(stopped) & {ports[two]} == load.served_since(deleted) & {ports[three]} == set()
            await does.run("droplets.start", droplet=two)
            await does.run("director.remove", host=host(ports[one]))
            removed = time.monotonic_ns()
            await load.everybody()
            assert ports[one] not in load.served_since(removed)
            await does.run("director.add", host=host(ports[one]))
            await does.run("director.flush", host="all")
            assert set((await load.everybody()).values()) == set((await does.ports()).values())
        assert (load.failures, load.split) == ([], [])


class Kill:
    """A kill of control; on a busy machine it may be away for longer than workers go on without it."""

    def __init__(self, node: Node) -> None:
        [control] = node.children("control")
        os.kill(control, signal.SIGKILL)
        self.at, self.back = time.monotonic_ns(), 0

    def over(self) -> None:
        """Control serves again."""
        self.back = time.monotonic_ns()

    def explains(self, failure: Failure) -> bool:
        return failure.status == 503 and failure.answered > self.at + LEASE and failure.asked < self.back


async def test_a_kill_of_control_moves_only_users_of_droplets_that_end(place: Path) -> None:
    (place / "ostiary.yaml").write_text(CONFIGURATION)
    async with serving(place) as node:
        does = await operator(node)
        names = [await does.create() for _ in range(3)]
        ports = await does.ports()
        async with loaded(node) as load:
            before = await load.everybody()
            first = Kill(node)
            await does.until(lambda hosts: hosts == set(map(host, ports.values())))
            assert await load.everybody() == before
            first.over()
            user, go = next(user for user in USERS if before[user] == ports[names[0]]), place / "go"
            slow = asyncio.create_task(load.until(user, go))
            await appeared(place / "go.arrived")
            restart = asyncio.create_task(does.run("droplets.restart", droplet=names[0]))
            await does.until(lambda hosts: host(ports[names[0]]) not in hosts)
            second = Kill(node)  # a control that waits for that request
            await asyncio.gather(restart, return_exceptions=True)
            await does.until(lambda hosts: host(ports[names[1]]) in hosts)
            assert not slow.done()
            go.touch()
            await slow
            await does.until(lambda hosts: hosts == set(map(host, ports.values())))
            after = await load.everybody()
            second.over()
            assert await does.ports() == ports
            assert {user for user in USERS if after[user] != before[user]} <= {
                user for user in USERS if before[user] == ports[names[0]]
            }
        failures = [each for each in load.failures if not (first.explains(each) or second.explains(each))]
        assert (failures, load.split) == ([], [])


async def test_a_droplet_that_is_killed_loses_what_was_on_its_way_to_it_and_nothing_else(place: Path) -> None:
    (place / "ostiary.yaml").write_text(CONFIGURATION)
    async with serving(place) as node:
        does = await operator(node)
        names = [await does.create() for _ in range(3)]
        ports = await does.ports()
        async with loaded(node) as load:
            before = await load.everybody()
            victim = names[0]
            os.kill(process_of(victim, ports[victim]), signal.SIGKILL)
            killed = time.monotonic_ns()
            await does.until(lambda hosts: host(ports[victim]) not in hosts)
            after = await load.everybody()
            moved = {user for user in USERS if after[user] != before[user]}
            assert moved <= {user for user in USERS if before[user] == ports[victim]}
            await does.until(lambda hosts: hosts == set(map(host, ports.values())))
            await load.everybody()
        assert load.split == []
        assert {each.status for each in load.failures} <= {502}
        assert {before[each.user] for each in load.failures} <= {ports[victim]}
        # Only what was on its way, or was sent before control had heard of the end: nobody fails who was served anew.
        for failure in load.failures:
            anew = min(visit.began for visit in load.visits[failure.user] if visit.began > killed)
            assert failure.asked < anew and failure.answered > killed
