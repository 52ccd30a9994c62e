"""Droplets of a whole node: what is wanted and what is agree, however often control is killed."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.e2e.house import OWNER, Client, Node, configuration, once, serving

SERVER = (
    "import socket, sys\\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\\nwhile True: s.accept()[0].close()"
)
DROPLETS = f"""
droplets:
  templates:
    web:
      default: true
      command: ["{{python}}", "-I", "-S", "-c", "{SERVER}", "{{port}}"]
      ports: [80]
      health: {{tcp: 80, every: 200ms, timeout: 30s}}
      stop: {{drain: 0s}}
    idle: {{command: [/bin/sleep, "100000"]}}
upstreams: {{shop: {{droplets: {{template: web}}}}}}
"""
NAMES = [f"drop-{number:02d}" for number in range(20)]
CLIENTS, OPERATIONS, KILLS = 8, 200, 10
STILL = {"running", "exited", "failed"}


def settings(port: int) -> str:
    """The usual upstream and routes, with droplets besides."""
    text, shop = DROPLETS.rsplit("upstreams: ", 1)
    return configuration(port, OWNER + text).replace("upstreams: {", f"upstreams: {{{shop.strip()[1:-1]}, ")


def alive(place: Path) -> Counter[str]:
    """Names of droplets -> how many processes of this node's say that they are it."""
    found: Counter[str] = Counter()
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environ = (each / "environ").read_bytes().split(b"\0")
            command = (each / "cmdline").read_bytes()
            words = dict(pair.partition(b"=")[::2] for pair in environ)
            if b"DROPLET_NAME" in words and words.get(b"WHERE", b"") == os.fsencode(place) and command:
                found[words[b"DROPLET_NAME"].decode()] += 1
    return found


class Operator:
    """One of those who change droplets at random. What gets no answer may have happened or not."""

    def __init__(self, node: Node, token: str, chance: random.Random) -> None:
        self.client, self.chance = Client(node.admin, token), chance
        self.statuses: Counter[int] = Counter()

    async def change(self, place: Path) -> None:
        """One random operation on one of the droplets."""
        name, what = (
            self.chance.choice(NAMES),
            self.chance.choice(["create", "create", "start", "stop", "restart", "delete"]),
        )
        body: dict[str, Any] = {"droplet": name}
        if what == "create":
            body = {"name": name, "template": self.chance.choice(["web", "idle"]), "env": {"WHERE": str(place)}}
        try:
            answer = await self.client.ask("POST", f"/operations/droplets.{what}", body)
            self.statuses[answer.status] += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            self.client.close()
            self.statuses[0] += 1


def wanted(place: Path) -> dict[str, str]:
    """What is wanted of each droplet."""
    with closing(sqlite3.connect(place / "var" / "ostiary.db")) as store:
        return dict(store.execute("SELECT name, json_extract(life, '$.wanted') FROM droplets"))


async def listed(node: Node, token: str) -> list[dict[str, Any]]:
    """All droplets, once control answers and each is as it is wanted; nothing is on its way any more."""
    deadline, kept, droplets = time.monotonic() + 90, dict[str, str](), list[dict[str, Any]]()
    while time.monotonic() < deadline:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            answer = await once(node.admin, "GET", "/operations/droplets.list", token=token)
            kept, droplets = wanted(node.place), list(answer.json) if answer.status == 200 else []
            shown = {each["name"]: "running" if each["state"] == "running" else "stopped" for each in droplets}
            if answer.status == 200 and shown == kept and {each["state"] for each in droplets} <= STILL:
                return droplets
        await asyncio.sleep(0.1)
    raise AssertionError((kept, droplets))


async def token_of(node: Node) -> str:
    login = {"username": "admin", "password": "change-me-please-1"}
    return str((await once(node.admin, "POST", "/v1/auth/login", login)).json["token"])


async def kill(node: Node) -> None:
    """Kill control, which serves, in the middle of what it does for the others."""
    client = Client(node.admin)
    while True:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await client.until("/api/health", 200)
            break
        client.close()
        await asyncio.sleep(0.02)
    client.close()
    [pid] = node.children("control")
    os.kill(pid, signal.SIGKILL)


async def test_two_hundred_operations_at_once_and_ten_kills_leave_what_was_wanted(place: Path) -> None:
    (place / "ostiary.yaml").write_text(settings(1))
    async with serving(place) as node:
        token, left = await token_of(node), iter(range(OPERATIONS))
        operators = [Operator(node, token, random.Random(number)) for number in range(CLIENTS)]

        async def work(operator: Operator) -> None:
            for number in left:
                if number % (OPERATIONS // KILLS) == CLIENTS:
                    await kill(node)
                await operator.change(place)

        await asyncio.gather(*map(work, operators))
        droplets = await listed(node, token)
        answered = sum((each.statuses for each in operators), Counter[int]())
        for operator in operators:
            operator.client.close()
        assert set(answered) <= {0, 200, 404, 409, 503}
        assert answered[200] > OPERATIONS // 10
        names = Counter(each["name"] for each in droplets)
        assert set(names.values()) <= {1}
        ports = [port["port"] for each in droplets for port in each["ports"].values()]
        assert len(ports) == len(set(ports))
        assert alive(place) == Counter(each["name"] for each in droplets if each["state"] == "running")
        with closing(sqlite3.connect(place / "var" / "ostiary.db")) as store:
            taken = [row[0] for row in store.execute("SELECT port FROM droplet_ports")]
        assert len(taken) == sum(each["template"] == "web" for each in droplets)
    assert alive(place) == Counter()


SERVE = """
import socketserver, sys
class Hello(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline().strip():
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello")
class Server(socketserver.ThreadingTCPServer):
    daemon_threads, request_queue_size = True, 128
Server(("127.0.0.1", int(sys.argv[1])), Hello).serve_forever()
"""


async def test_no_request_fails_while_one_droplet_after_the_other_is_restarted(place: Path) -> None:
    template = {
        "default": True, "ports": [80], "command": ["{python}", "-I", "-c", SERVE.replace("{", "{{"), "{port}"],
        "health": {"http": "/", "every": "200ms", "timeout": "30s"}, "stop": {"drain": "30s"},
    }  # fmt: skip
    more = f"{OWNER}droplets: {{templates: {{web: {json.dumps(template)}}}}}\n"
    text = configuration(1, more).replace("upstreams: {", "upstreams: {shop: {droplets: {template: web}}, ")
    (place / "ostiary.yaml").write_text(text.replace("routes:\n", "routes:\n  - {match: GET /shop, upstream: shop}\n"))
    async with serving(place) as node:
        operator = Client(node.admin, await token_of(node))
        assert (await once(node.gateway, "GET", "/shop")).status == 503
        names = []
        for _ in range(2):
            answer = await operator.ask("POST", "/operations/droplets.create", {})
            assert answer.status == 200, answer.body
            names.append(answer.json["droplet"]["name"])
        statuses: Counter[int] = Counter()
        over = asyncio.Event()

        async def visit() -> None:
            client = Client(node.gateway)
            while not over.is_set():
                statuses[(await client.ask("GET", "/shop")).status] += 1
            client.close()

        visits = [asyncio.create_task(visit()) for _ in range(8)]
        for name in [*names, *names]:
            answer = await operator.ask("POST", "/operations/droplets.restart", {"droplet": name})
            assert answer.status == 200, answer.body
        over.set()
        await asyncio.gather(*visits)
        assert list(statuses) == [200]
        for name in names:
            assert (await operator.ask("POST", "/operations/droplets.stop", {"droplet": name})).status == 200
        assert (await once(node.gateway, "GET", "/shop")).status == 503
        operator.close()
