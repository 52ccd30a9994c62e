"""A whole node whose droplets are containers: by the command line, as an app, without control, without its engine."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.drivers.engine import IMAGE, Engine, running
from tests.e2e.house import LIMIT, OWNER, Client, Node, once, serving
from tests.e2e.test_apps import PACE, Shop, meanwhile
from tests.e2e.test_droplets import token_of

PORT = 80
SERVE = """
trap 'exit 0' TERM
mkdir /tmp/w
echo "$DROPLET_NAME $WORD $$-$RANDOM$RANDOM" > /tmp/w/index.html
echo "up with $WORD"
httpd -f -p "$1" -h /tmp/w &
wait
"""
SAY = 'printf "<%s>" "$@" "$ONE" "$TWO" "$THREE"; echo; exec sleep 100000'
HOSTILE = ["x;id", "$(id)", "`id`", "a\nb", "../..", "'\"\\"]
LONG = 60.0
"""Seconds for what an engine does on a busy machine."""


@pytest.fixture(scope="module")
def dockerd() -> Iterator[Engine]:
    with running() as engine:
        yield engine


def template(*command: str, **more: object) -> dict[str, object]:
    return {"image": IMAGE, "command": list(command), **more}


def settings(dockerd: Engine, port: int = 1) -> str:
    """Templates of containers that serve, that say what they are given, and that cannot be."""
    health = {"http": "/", "port": PORT, "every": "200ms"}
    templates = {
        "web": template(
            "/bin/sh", "-c", SERVE, "sh", "{port}", default=True, ports=[PORT], health=health, stop={"drain": "2s"}
        ),
        "say": template("/bin/sh", "-c", SAY, "sh", *HOSTILE, stop={"timeout": "100ms"}),
        "absent": {"image": "no-such-image:1"},
        "unable": template("no-such-program", "x"),
        "sleep": template("/bin/sleep", "100000", stop={"signal": "KILL", "drain": "0s"}),
    }
    upstreams = {
        "here": {"servers": [f"127.0.0.1:{port}"]},
        "web": {"droplets": {"template": "web"}},
        "shop": {"droplets": {"app": "shop", "type": "web"}},
    }
    routes = [{"match": f"GET /{each}", "to": "/", "upstream": each} for each in upstreams]
    engine = {"socket": str(dockerd.socket), "pull": "never"}
    return f"""
gateway: {{listen: "127.0.0.1:0", workers: 2}}
admin: {{listen: "127.0.0.1:0"}}
log: {{access: ""}}
{OWNER}
droplets: {{driver: docker, docker: {json.dumps(engine)}, templates: {json.dumps(templates)}}}
upstreams: {json.dumps(upstreams)}
routes: {json.dumps(routes)}
"""


class Operator:
    """Whoever uses the command line, and somebody who looks at the engine itself."""

    def __init__(self, node: Node, dockerd: Engine, token: str) -> None:
        self.node, self.token = node, token
        transport = httpx2.AsyncHTTPTransport(uds=str(dockerd.socket))
        self.engine = httpx2.AsyncClient(transport=transport, base_url="http://engine/v1.41", timeout=LONG)
        self.environment = {
            **os.environ, "OSTIARY_URL": node.admin, "OSTIARY_PASSWORD": "change-me-please-1", "COLUMNS": "200",
        }  # fmt: skip

    async def begun(self, *words: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ostiary", *words,
            stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=self.environment,
        )  # fmt: skip

    async def says(self, *words: str) -> tuple[int, str, str]:
        """Run `ostiary WORDS` to its end."""
        process = await self.begun(*words)
        out, err = await asyncio.wait_for(process.communicate(), LONG)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def droplets(self, *words: str) -> list[dict[str, Any]]:
        """What `ostiary droplets WORDS --json` shows."""
        status, out, err = await self.says("droplets", *words, "--json")
        assert status == 0, err
        found: list[dict[str, Any]] = json.loads(out)
        return found

    async def ask(self, operation: str, **params: object) -> Any:
        """An operation's status and answer."""
        client = Client(self.node.admin, self.token)
        try:
            async with asyncio.timeout(LONG):
                await client.send("POST", f"/operations/{operation}", params)
                answer = await client.answer()
        finally:
            client.close()
        return answer.status, answer.json

    async def states(self) -> dict[str, str]:
        answer = await once(self.node.admin, "GET", "/operations/droplets.list", token=self.token)
        return {each["name"]: each["state"] for each in answer.json}

    async def until(self, **states: str) -> None:
        """Wait until these are the states of all droplets."""
        async with asyncio.timeout(LONG):
            while True:
                if await self.states() == states:
                    return
                await asyncio.sleep(PACE)

    async def served(self, path: str) -> list[str]:
        """What the gateway has of a container: its name, the word it was given, which life it is in."""
        answer = await once(self.node.gateway, "GET", path)
        assert answer.status == 200, answer.body
        return answer.body.decode().strip("\n").split(" ")

    async def containers(self) -> list[str]:
        """Names of the containers that the engine has."""
        found = (await self.engine.get("/containers/json", params={"all": "true"})).json()
        return [each["Names"][0][1:] for each in found]


@asynccontextmanager
async def operating(place: Path, dockerd: Engine, port: int = 1) -> AsyncIterator[Operator]:
    """A node. Of its containers nothing stays."""
    (place / "ostiary.yaml").write_text(settings(dockerd, port))
    try:
        async with serving(place) as node:
            operator = Operator(node, dockerd, await token_of(node))
            async with operator.engine:
                yield operator
    finally:
        await asyncio.to_thread(dockerd.empty)


async def test_containers_live_as_the_command_line_says_and_no_others_are_touched(place: Path, dockerd: Engine) -> None:
    async with operating(place, dockerd) as operator:
        foreign = {}
        for name, labels in (("theirs", {}), ("other", {"ostiary.node": "another", "ostiary.droplet": "0123456789ab"})):
            body = {"Image": IMAGE, "Cmd": ["sleep", "1000"], "Labels": labels}
            made = (await operator.engine.post("/containers/create", params={"name": name}, json=body)).json()
            assert (await operator.engine.post(f"/containers/{made['Id']}/start")).status_code == 204
            foreign[name] = made["Id"]

        (made,) = await operator.droplets("add", "one", "--env", "WORD=first")
        assert (made["name"], made["state"], made["driver"], list(made["ports"])) == (
            "one",
            "running",
            "docker",
            ["80"],
        )
        assert [(each["id"], each["state"]) for each in await operator.droplets("ls")] == [(made["id"], "running")]
        name, word, life = await operator.served("/web")
        assert (name, word) == ("one", "first")
        assert (await operator.says("droplets", "logs", "one"))[:2] == (0, "up with first\n")
        (stats,) = json.loads(f"[{(await operator.says('droplets', 'stats', 'one', '--json'))[1]}]")
        assert (stats["pids"], stats["restarts"]) == (2, 0)
        assert stats["memory_bytes"] > 0

        follower = await operator.begun("droplets", "logs", "one", "-f", "--tail", "1")
        assert follower.stdout is not None
        async with asyncio.timeout(LONG):
            assert await follower.stdout.readline() == b"up with first\n"
            ((again,), _) = await asyncio.gather(operator.droplets("restart", "one"), follower.stdout.readline())
        assert (again["id"], again["ports"], again["state"]) == (made["id"], made["ports"], "running")
        assert (await operator.served("/web"))[2] != life
        (stopped,) = await operator.droplets("stop", "one")
        assert (stopped["state"], stopped["exit_code"], stopped["ports"]) == ("exited", 0, {})
        assert (await once(operator.node.gateway, "GET", "/web")).status == 503
        (started,) = await operator.droplets("start", "one")
        assert (started["state"], started["ports"]) == ("running", made["ports"])
        assert (await operator.served("/web"))[:2] == ["one", "first"]
        assert await operator.says("droplets", "rm", "one") == (0, "", "")
        async with asyncio.timeout(LONG):
            assert await follower.wait() == 0

        assert await operator.containers() == ["other", "theirs"]
        for each in foreign.values():
            assert (await operator.engine.get(f"/containers/{each}/json")).json()["State"]["Running"] is True
            await operator.engine.delete(f"/containers/{each}", params={"force": "true"})


async def test_what_cannot_run_is_said_and_what_is_hostile_stays_a_word(place: Path, dockerd: Engine) -> None:
    async with operating(place, dockerd) as operator:
        status, _, err = await operator.says("droplets", "add", "none", "--template", "absent")
        assert (status, err.partition(" (")[0]) == (1, "No such image: no-such-image:1")
        status, _, err = await operator.says("droplets", "add", "unable", "--template", "unable")
        assert (status, "no-such-program" in err) == (1, True), err
        assert await operator.states() == {"unable": "failed"}
        for name in HOSTILE:
            status, answer = await operator.ask("droplets.create", name=name, template="say")
            assert (status, answer["error"]) == (400, "droplet.name")
        for key in ("x;id", "$(id)", "A\nB", "../..", "A=B"):
            status, answer = await operator.ask("droplets.create", name="say", template="say", env={key: "x"})
            assert (status, answer["error"]) == (400, "env.invalid")
        env = {"ONE": "x;id", "TWO": "$(id)\n`id`", "THREE": "../.."}
        status, answer = await operator.ask("droplets.create", name="say", template="say", env=env)
        assert status == 200, answer
        text = "".join(f"<{each}>" for each in (*HOSTILE, *env.values())) + "\n"
        assert (await operator.says("droplets", "logs", "say"))[:2] == (0, text)


async def test_an_app_of_containers_is_made_configured_scaled_and_gone(place: Path, dockerd: Engine) -> None:
    async with operating(place, dockerd) as operator:
        shop = Shop(operator.node)
        shop.token = operator.token
        assert (await shop.ask("POST", "/apps", {"id": "shop"})).status == 201
        assert (await shop.ask("POST", "/apps/shop/scale", {"web": 2})).status == 204
        answer, seen = await meanwhile(shop, shop.ask("POST", "/apps/shop/config", {"values": {"WORD": "new; $(id)"}}))
        assert (answer.status, answer.headers["x-deis-release"], set(seen.statuses)) == (201, "2", {200})
        assert await shop.containers() == [(1, "up", "v2"), (2, "up", "v2")]
        answer = await once(operator.node.gateway, "GET", "/shop")
        assert b" new; $(id) " in answer.body
        assert len(await operator.containers()) == 2
        assert b"up with new; $(id)" in (await shop.ask("GET", "/apps/shop/logs")).body
        answer, seen = await meanwhile(shop, shop.ask("POST", "/apps/shop/scale", {"web": 1}))
        assert (answer.status, set(seen.statuses)) == (204, {200})
        assert (await shop.ask("DELETE", "/apps/shop")).status == 204
        assert (await operator.states(), await operator.containers()) == ({}, [])


async def test_no_request_fails_in_a_restart_one_by_one_nor_when_control_is_killed_in_it(
    place: Path, dockerd: Engine
) -> None:
    async with operating(place, dockerd) as operator:
        shop, names = Shop(operator.node), ["shop.web.1", "shop.web.2", "shop.web.3"]
        shop.token = operator.token
        assert (await shop.ask("POST", "/apps", {"id": "shop"})).status == 201
        assert (await shop.ask("POST", "/apps/shop/scale", {"web": 3})).status == 204
        answer, seen = await meanwhile(shop, shop.ask("POST", "/apps/shop/containers/restart"))
        assert ([each["num"] for each in answer.json], set(seen.statuses)) == ([1, 2, 3], {200})
        assert len(seen.pids) == 6

        async def killed() -> Any:
            work = asyncio.ensure_future(shop.ask("POST", "/apps/shop/config", {"values": {"WORD": "new"}}))
            async with asyncio.timeout(LONG):
                while True:
                    if any(release == "v2" for _, _, release in await shop.containers()):
                        break
                    await asyncio.sleep(PACE)
            [pid] = operator.node.children("control")
            os.kill(pid, signal.SIGKILL)
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await work
            async with asyncio.timeout(LONG):
                while True:
                    with suppress(ConnectionError, asyncio.IncompleteReadError):
                        if await shop.containers() == [(number, "up", "v1") for number in (1, 2, 3)]:
                            return await shop.ask("GET", "/apps/shop/config")
                    await asyncio.sleep(PACE)

        answer, seen = await meanwhile(shop, killed())
        assert (answer.json["values"], set(seen.statuses)) == ({}, {200})
        assert await operator.states() == dict.fromkeys(reversed(names), "running")
        assert len(await operator.containers()) == 3
        assert (await shop.ask("DELETE", "/apps/shop")).status == 204
        assert await operator.containers() == []


async def away(operator: Operator) -> None:
    """What a node says while its engine is away, and that the rest of it serves."""
    await operator.until(one="unknown")
    for operation, params in (("create", {}), ("stop", {"droplet": "one"}), ("logs", {"droplet": "one"})):
        status, answer = await operator.ask(f"droplets.{operation}", **params)
        assert (status, answer["error"]) == (503, "driver.unavailable")
    assert (await once(operator.node.gateway, "GET", "/here")).status == 200


async def test_an_engine_that_dies_or_hangs_is_said_and_all_is_right_when_it_is_back(
    place: Path, dockerd: Engine, behind: Any
) -> None:
    async with operating(place, dockerd, behind.port) as operator:
        status, answer = await operator.ask("droplets.create", name="one", env={"WORD": "x"})
        assert status == 200, answer
        before = await operator.served("/web")
        assert dockerd.process is not None
        dockerd.process.send_signal(signal.SIGSTOP)
        try:
            hung = asyncio.create_task(operator.ask("droplets.create", name="two", template="sleep"))
            await away(operator)
            assert await operator.served("/web") == before
            status, answer = await hung
            assert (status, answer["error"]) == (503, "driver.unavailable")
        finally:
            dockerd.process.send_signal(signal.SIGCONT)
        await operator.until(one="running")
        assert await operator.served("/web") == before

        await asyncio.to_thread(dockerd.end, signal.SIGKILL)
        try:
            await away(operator)
        finally:
            await asyncio.to_thread(dockerd.start)
        await operator.until(one="running")
        assert (await operator.ask("droplets.restart", droplet="one"))[0] == 200
        assert (await operator.served("/web"))[:2] == before[:2]
        async with asyncio.timeout(LIMIT):
            while True:
                if len(await operator.containers()) == 1:
                    break
                await asyncio.sleep(PACE)
