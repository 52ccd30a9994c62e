"""Droplets over the CIKit surface of a whole node: real processes, real logs."""

import asyncio
import time
from pathlib import Path
from typing import Any

import yaml
from tests.conformance.server import CONFIGURATION
from tests.e2e.house import LIMIT, Answer, Client, Node, configuration, once, serving

from ostiary.control.totp import code_of, step_at

SECRET = "JBSWY3DPEHPK3PXP"
OWNER = f"bootstrap: {{owner: {{name: owner, password: change-me-please-1, totp_secret: {SECRET}}}}}\n"
TEMPLATES = yaml.dump({"droplets": yaml.safe_load(CONFIGURATION.read_text())["droplets"]})
"""Those that the contract's cases assume."""


class Operator:
    """The owner, signed in by a code."""

    def __init__(self, node: Node, token: str) -> None:
        self.node, self.token = node, token

    async def ask(self, method: str, path: str, body: object = None) -> Answer:
        return await once(self.node.admin, method, f"/api/v1/{path}", body, self.token)

    async def listed(self, method: str, path: str, body: object = None) -> list[dict[str, Any]]:
        """The list that answers."""
        answer = await self.ask(method, path, body)
        assert answer.status == 200, answer.body
        found: list[dict[str, Any]] = answer.json
        return found


async def operator(node: Node) -> Operator:
    code = code_of(SECRET, step_at(time.time_ns() // 1000))
    answer = await once(node.admin, "POST", "/api/v1/user/auth", {"username": "owner", "code": code})
    return Operator(node, answer.json["access_token"])


def configure(place: Path) -> None:
    (place / "ostiary.yaml").write_text(configuration(1, OWNER + TEMPLATES))


async def test_droplets_live_as_they_are_told(place: Path) -> None:
    configure(place)
    async with serving(place) as node:
        boss = await operator(node)
        first, second = await asyncio.gather(*(boss.ask("POST", "droplet/add") for _ in range(2)))
        assert (first.status, second.status) == (200, 200)
        found = await boss.listed("GET", "droplet/list")
        assert {each["name"] for each in found} == {"droplet01", "droplet02"}
        ports = [port["from"]["port"] for each in found for port in each["ports"].values()]
        assert len(set(ports)) == 6
        one = next(each for each in found if each["name"] == "droplet01")
        url = f"http://127.0.0.1:{one['ports']['80']['from']['port']}"
        assert (await once(url, "GET", "/")).status == 200
        await boss.listed("DELETE", "droplet/delete/droplet02")

        (stopped,) = await boss.listed("PATCH", "droplet/stop/droplet01")
        assert (stopped["state"], stopped["exit_code"], stopped["ports"]) == ("exited", 143, {})
        assert stopped["status"].startswith("Exited (0) ")
        (started,) = await boss.listed("PATCH", "droplet/start/droplet01")
        assert (started["state"], started["id"], started["ports"]) == ("running", one["id"], one["ports"])
        assert (await once(url, "GET", "/")).status == 200
        (again,) = await boss.listed("PATCH", "droplet/restart/droplet01")
        assert (again["state"], again["ports"]) == ("running", one["ports"])
        assert (await boss.ask("GET", "droplet/stats/droplet01")).json["pids"] == 1
        assert await boss.listed("DELETE", "droplet/delete/droplet01") == []


async def test_one_that_crashes_is_said_and_kept(place: Path) -> None:
    configure(place)
    async with serving(place) as node:
        boss = await operator(node)
        answer = await boss.ask("POST", "droplet/add", {"name": "bad", "template": "crash"})
        assert (answer.status, answer.json) == (400, {"error": "Droplet bad exited with code 3", "errorId": 900})
        (kept,) = await boss.listed("GET", "droplet/list")
        assert (kept["state"], kept["exit_code"], kept["restarts"]) == ("exited", 3, 0)
        assert (await boss.ask("GET", "droplet/logs/bad")).status == 200
        answer = await boss.ask("PATCH", "droplet/start/bad?wait=false")
        assert answer.status == 202
        job = await boss.ask("GET", answer.headers["location"].removeprefix("/api/v1/"))
        async with asyncio.timeout(LIMIT):
            while job.json["state"] != "failed":
                job = await boss.ask("GET", answer.headers["location"].removeprefix("/api/v1/"))
        assert (job.json["error"], job.json["errorId"]) == ("Droplet bad exited with code 3", 900)


async def test_a_log_is_followed_until_the_droplet_is_deleted_and_a_client_that_leaves_cancels_nothing(
    place: Path,
) -> None:
    configure(place)
    async with serving(place) as node:
        boss = await operator(node)
        greeting = "from $HOME; \"and\" 'on' `id` $(id)\nand äöü"
        leaving = Client(node.admin, boss.token)
        wanted = {"name": "said", "template": "hello", "env": {"GREETING": greeting}}
        await leaving.send("POST", "/api/v1/droplet/add", wanted)
        leaving.close()
        async with asyncio.timeout(LIMIT):
            while [each["state"] for each in await boss.listed("GET", "droplet/list")] != ["running"]:
                pass
        text = f"hello {greeting}\n".encode()
        assert (await boss.ask("GET", "droplet/logs/said?tail=5")).body == text

        follower = Client(node.admin, boss.token)
        await follower.send("GET", "/api/v1/droplet/logs/said?follow=true")
        assert follower.streams is not None
        reader = follower.streams[0]
        async with asyncio.timeout(LIMIT):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"\r\nTransfer-Encoding: chunked\r\n" in head
            lines = [b"%x\r\n%b\r\n" % (len(line), line) for line in text.splitlines(keepends=True)]
            assert await reader.readexactly(sum(map(len, lines))) == b"".join(lines)
            assert await boss.listed("DELETE", "droplet/delete/said") == []
            assert await reader.read() == b"0\r\n\r\n"
        follower.close()
