"""Doorman's runbook as people type it: curl and a cookie jar, against a whole node."""

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.e2e.house import LIMIT, Node, backend, configuration, once, serving

OWNER = "bootstrap: {owner: {name: admin, email: admin@example.com, password: change-me-please-1}}\n"
LOG_IN = json.dumps({"email": "admin@example.com", "password": "change-me-please-1"})
JSON = ("-H", "Content-Type: application/json")
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with backend() as behind:
        (tmp_path / "ostiary.yaml").write_text(configuration(behind.port, OWNER))
        async with serving(tmp_path) as running:
            yield running


class Shell:
    """A shell with a cookie jar of its own; `curl` gives the status and the body."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        self.jar = node.place / f"{name}.txt"

    async def curl(self, *words: str, path: str) -> tuple[int, str]:
        command = ("curl", "-sS", "-w", "\n%{http_code}", *words, f"{self.node.admin}{path}")
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, cwd=self.node.place)
        out, err = await asyncio.wait_for(process.communicate(), LIMIT)
        assert process.returncode == 0, err.decode()
        body, _, status = out.decode().rpartition("\n")
        return int(status), body

    async def log_in(self, body: str) -> tuple[int, str]:
        return await self.curl(
            "-X", "POST", "-c", str(self.jar), *JSON, "-d", body, path="/platform/authorization"
        )  # fmt: skip

    async def ask(self, method: str, path: str, *words: str) -> tuple[int, str]:
        return await self.curl("-X", method, "-b", str(self.jar), *words, path=path)


async def test_every_command_of_the_runbook_works_as_written(node: Node) -> None:
    shell = Shell(node, "cookies")
    status, body = await shell.log_in(LOG_IN)
    token = json.loads(body)["access_token"]
    assert (status, body) == (200, f'{{"access_token":"{token}"}}')
    assert await shell.ask("DELETE", "/api/caches", *JSON) == (200, '{"message":"All caches cleared"}')
    alice = {"username": "alice", "email": "alice@example.com", "password": "Strong!Passw0rd1234", "role": "viewer"}
    made = await shell.ask("POST", "/platform/user", *JSON, "-d", json.dumps(alice))
    assert made == (201, '{"message":"User created successfully"}')
    hers = Shell(node, "hers")
    assert (await hers.log_in(json.dumps({"email": "alice", "password": "Strong!Passw0rd1234"})))[0] == 200
    valid = (200, '{"message":"Token is valid"}')
    assert await hers.ask("GET", "/platform/authorization/status") == valid
    revoked = await shell.ask("POST", "/platform/authorization/admin/revoke/alice", *JSON)
    assert revoked == (200, '{"message":"All tokens revoked for alice"}')
    unauthorized = (401, '{"error_code":"AUTH005","error_message":"Unauthorized"}')
    assert await hers.ask("GET", "/platform/authorization/status") == unauthorized
    cleared = await shell.ask("POST", "/platform/authorization/admin/unrevoke/alice", *JSON)
    assert cleared == (200, '{"message":"Token revocation cleared for alice"}')
    assert await hers.ask("GET", "/platform/authorization/status") == valid
    status, body = await shell.ask("POST", "/platform/config/reload", *JSON)
    assert (status, json.loads(body)["data"]["message"]) == (200, "Configuration reloaded successfully")
    status, body = await shell.ask("GET", "/platform/config/current")
    command = json.loads(body)["reload_command"]
    assert (status, json.loads(body)["data"]["reload_command"]) == (200, command)
    assert re.fullmatch(r"kill -HUP \$\(cat /\S+/ostiary\.pid\)", command)
    process = await asyncio.create_subprocess_shell(command)
    assert await asyncio.wait_for(process.wait(), LIMIT) == 0
    assert (await node.event("Configuration reload "))["event"] == "Configuration reload complete"
    bearer = ("-H", f"Authorization: Bearer {token}")
    assert await shell.curl(*bearer, path="/platform/authorization/status") == valid


async def test_who_logs_out_is_out(node: Node) -> None:
    shell = Shell(node, "cookies")
    await shell.log_in(LOG_IN)
    ended = await shell.ask("POST", "/platform/authorization/invalidate", "-c", str(shell.jar))
    assert ended == (200, '{"message":"Your token has been invalidated"}')
    assert (await shell.ask("GET", "/platform/authorization/status"))[0] == 401


async def test_a_body_declared_too_large_is_refused_before_it_is_sent(node: Node) -> None:
    big = node.place / "big"
    big.write_bytes(b" " * 1_048_577)
    refused = await Shell(node, "cookies").curl(
        "-X", "POST", *JSON, "-H", "Expect: 100-continue", "--data-binary", f"@{big}", path="/platform/authorization"
    )  # fmt: skip
    message = "Request entity too large (max: 1048576 bytes)"
    assert refused == (413, f'{{"error_code":"REQ001","error_message":"{message}"}}')


async def test_a_session_outlives_control(node: Node) -> None:
    shell = Shell(node, "cookies")
    await shell.log_in(LOG_IN)
    (control,) = node.children("control")
    os.kill(control, signal.SIGKILL)
    async with asyncio.timeout(LIMIT):
        while not await succeeded(node, control):
            pass
    assert (await shell.ask("GET", "/platform/authorization/status"))[0] == 200


async def succeeded(node: Node, control: int) -> bool:
    """Whether another control answers."""
    await asyncio.sleep(0)
    try:
        ready = await once(node.admin, "GET", "/platform/monitor/readiness")
    except (OSError, asyncio.IncompleteReadError):
        return False
    return node.children("control") not in ([], [control]) and ready.status == 200
