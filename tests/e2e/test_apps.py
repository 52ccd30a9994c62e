"""An app of a whole node behind an upstream: its droplets change one by one and no request fails, whoever is killed."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.crowd import Crowd, request
from tests.e2e.house import OWNER, Answer, Client, Node, serving

SERVER = """
import asyncio, os, sys, time

time.sleep(float(os.environ.get("PAUSE", "0")))

class Answers(asyncio.Protocol):
    def connection_made(self, transport): self.transport, self.rest = transport, b""
    def data_received(self, data):
        *whole, self.rest = (self.rest + data).split(b"\\r\\n\\r\\n")
        for _ in whole:
            body = f"{os.environ['DROPLET_NAME']} {os.environ.get('WORD', '')} {os.getpid()}".encode()
            self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%b" % (len(body), body))

async def main():
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""
CONFIGURATION = f"""
gateway: {{listen: "127.0.0.1:0", workers: 2}}
admin: {{listen: "127.0.0.1:0"}}
log: {{access: ""}}
{OWNER}
droplets:
  templates:
    web:
      default: true
      command: ["{{python}}", "-I", "server.py", "{{port}}"]
      ports: [80]
      health: {{http: "/", port: 80, every: 200ms, timeout: 30s}}
      stop: {{drain: 30s}}
    crash:
      command: ["{{python}}", "-I", "-c", "raise SystemExit(3)"]
      ports: [80]
      restart: {{policy: never}}
upstreams: {{shop: {{droplets: {{app: shop, type: web}}}}}}
routes: [{{match: "GET /shop", upstream: shop}}]
"""
PACE = 0.02
"""Seconds between two handfuls of requests: a few hundred a second."""
HANDFUL = 8


class Shop:
    """The app, and somebody who may do everything with it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.token = ""

    async def ask(self, method: str, path: str, body: object = None) -> Answer:
        client = Client(self.node.admin, self.token)
        try:
            async with asyncio.timeout(60):
                await client.send(method, f"/v1{path}", body)
                return await client.answer()
        finally:
            client.close()

    async def open(self) -> None:
        login = {"username": "admin", "password": "change-me-please-1"}
        self.token = (await self.ask("POST", "/auth/login", login)).json["token"]
        assert (await self.ask("POST", "/apps", {"id": "shop"})).status == 201
        assert (await self.ask("POST", "/apps/shop/scale", {"web": 4})).status == 204

    async def containers(self) -> list[tuple[int, str, str]]:
        found: list[dict[str, Any]] = (await self.ask("GET", "/apps/shop/containers")).json["results"]
        return [(each["num"], each["state"], each["release"]) for each in found]


def up(release: str) -> list[tuple[int, str, str]]:
    return [(number, "up", release) for number in (1, 2, 3, 4)]


@asynccontextmanager
async def shopping(place: Path) -> AsyncIterator[Shop]:
    """A node with an app of four droplets."""
    (place / "server.py").write_text(SERVER)
    text = CONFIGURATION.replace('"server.py"', json.dumps(str(place / "server.py")))
    (place / "ostiary.yaml").write_text(text)
    async with serving(place) as node:
        shop = Shop(node)
        await shop.open()
        yield shop


class Seen:
    """What customers have seen."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.pids: set[str] = set()

    def told(self, answer: Answer | None) -> None:
        self.statuses[answer.status if answer else 0] += 1
        if answer is not None and answer.status == 200:
            self.pids.add(answer.body.decode().split(" ")[2])


async def meanwhile(shop: Shop, work: Awaitable[Answer]) -> tuple[Answer, Seen]:
    """The answer to some work, and what customers saw just before it, all the while and just after it."""
    seen = Seen()
    async with Crowd(shop.node.gateway, HANDFUL) as crowd:
        await crowd.ask([request("GET", "/shop")] * HANDFUL, seen.told)
        task = asyncio.ensure_future(work)
        while not task.done():
            await crowd.ask([request("GET", "/shop")] * HANDFUL, seen.told)
            await asyncio.wait([task], timeout=PACE)
        await crowd.ask([request("GET", "/shop")] * HANDFUL, seen.told)
    return task.result(), seen


async def test_a_restart_one_by_one_fails_no_request(place: Path) -> None:
    async with shopping(place) as shop:
        answer, seen = await meanwhile(shop, shop.ask("POST", "/apps/shop/containers/restart"))
        assert [each["num"] for each in answer.json] == [1, 2, 3, 4]
        assert (set(seen.statuses), len(seen.pids) > 4) == ({200}, True)


async def test_a_release_fails_no_request_whether_it_comes_into_force_or_not(place: Path) -> None:
    async with shopping(place) as shop:
        answer, seen = await meanwhile(shop, shop.ask("POST", "/apps/shop/config", {"values": {"WORD": "new"}}))
        assert (answer.status, answer.headers["x-deis-release"], set(seen.statuses)) == (201, "2", {200})
        assert await shop.containers() == up("v2")
        answer, seen = await meanwhile(shop, shop.ask("POST", "/apps/shop/builds", {"image": "crash"}))
        said = "web.1 did not become healthy: Droplet shop.web.1 exited with code 3"
        assert (answer.status, answer.json["detail"], set(seen.statuses)) == (503, said, {200})
        assert await shop.containers() == up("v2")
        answer, seen = await meanwhile(shop, shop.ask("POST", "/apps/shop/scale", {"web": 1}))
        assert (answer.status, set(seen.statuses)) == (204, {200})


@pytest.mark.parametrize("followed", [1, 3])
async def test_a_release_that_a_kill_of_control_cut_off_is_taken_back(place: Path, followed: int) -> None:
    async with shopping(place) as shop:
        work = asyncio.ensure_future(shop.ask("POST", "/apps/shop/config", {"values": {"WORD": "new"}}))
        async with asyncio.timeout(60):
            while True:
                if sum(release == "v2" for _, _, release in await shop.containers()) >= followed:
                    break
                await asyncio.sleep(PACE)
        [pid] = shop.node.children("control")

        async def killed() -> Answer:
            os.kill(pid, signal.SIGKILL)
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await work
            while True:
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    if await shop.containers() == up("v1"):
                        return await shop.ask("GET", "/apps/shop/config")
                await asyncio.sleep(PACE)

        answer, seen = await meanwhile(shop, asyncio.wait_for(killed(), 60))
        assert (answer.json["values"], set(seen.statuses)) == ({}, {200})
        answer = await shop.ask("POST", "/apps/shop/config", {"values": {"WORD": "again"}})
        assert (answer.status, answer.headers["x-deis-release"]) == (201, "2")


async def test_a_release_that_the_end_of_the_node_cut_off_is_taken_back_at_its_next_start(place: Path) -> None:
    async with shopping(place) as shop:
        work = asyncio.ensure_future(shop.ask("POST", "/apps/shop/config", {"values": {"PAUSE": "600"}}))
        async with asyncio.timeout(60):
            while True:
                if sum(release == "v2" for _, _, release in await shop.containers()) >= 1:
                    break
                await asyncio.sleep(PACE)
        shop.node.process.terminate()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await work
        await shop.node.process.wait()
    async with serving(place) as node:
        again = Shop(node)
        again.token = shop.token
        async with asyncio.timeout(60):
            while True:
                if await again.containers() == up("v1"):
                    break
                await asyncio.sleep(PACE)
        assert (await again.ask("GET", "/apps/shop/config")).json["values"] == {}
        assert (await again.ask("DELETE", "/apps/shop")).status == 204
        assert (await again.ask("GET", "/apps/shop")).status == 404
