"""A node whose store is PostgreSQL's."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.e2e.house import OWNER, Backend, Client, Node, configuration, once, ostiary, serving
from tests.postgresql import Server, running

READINESS = "/platform/monitor/readiness"


@pytest.fixture
def server() -> Iterator[Server]:
    """A PostgreSQL server that a test may stop."""
    with running() as server:
        yield server


@pytest.fixture
def configured(place: Path, behind: Backend, server: Server) -> Path:
    """A directory with a configuration for that backend and a database of that server."""
    store = f"store: {{url: '{server.create()}'}}\n"
    (place / "ostiary.yaml").write_text(configuration(behind.port, OWNER + store))
    return place


async def issued(node: Node, client: dict[str, str]) -> str:
    """An access token of a client application."""
    form = urlencode({"grant_type": "client_credentials", **client}).encode()
    return str((await once(node.gateway, "POST", "/oauth20/tokens", form)).json["access_token"])


async def test_what_was_answered_holds_when_control_is_killed(configured: Path) -> None:
    async with serving(configured, "--workers", "1") as node:
        client = await node.client()
        kept, revoked = (
            Client(node.gateway, await issued(node, client)),
            Client(node.gateway, await issued(node, client)),
        )
        for each in (kept, revoked):
            assert (await each.ask("GET", "/closed")).status == 200
        assert (await node.revoke(revoked.token)).json == {"revoked": "true"}
        (control,) = node.children("control")
        os.kill(control, signal.SIGKILL)
        assert (await revoked.under_lease("/closed")).status == 401
        assert (await once(node.admin, "GET", READINESS)).json == {"status": "ready"}
        assert (await kept.under_lease("/closed")).status == 200
        assert (await revoked.under_lease("/closed")).status == 401
        assert (await once(node.gateway, "GET", "/closed", token=await issued(node, client))).status == 200
        assert (await node.revoke(kept.token)).json == {"revoked": "true"}
        assert (await kept.ask("GET", "/closed")).status == 401
        for each in (kept, revoked):
            each.close()


async def test_a_second_node_on_the_same_database_does_not_start(configured: Path) -> None:
    async with serving(configured, "--workers", "1"):
        with tempfile.TemporaryDirectory(prefix="ost-") as other:
            shutil.copy(configured / "ostiary.yaml", other)
            status, _, said = await ostiary(Path(other), "serve", "--workers", "1")
    assert status == 1
    assert "The database is in use by another Ostiary node" in said


async def test_traffic_outlives_the_server_and_changes_wait_for_its_return(configured: Path, server: Server) -> None:
    async with serving(configured, "--workers", "1") as node:
        client = Client(node.gateway, await node.token())
        assert (await client.ask("GET", "/closed")).status == 200
        await asyncio.to_thread(server.stop)
        assert (await once(node.admin, "GET", READINESS)).json == {"status": "degraded"}
        assert (await client.ask("GET", "/closed")).status == 200
        assert (await node.revoke(client.token)).status == 503
        await asyncio.to_thread(server.start)
        assert (await once(node.admin, "GET", READINESS)).json == {"status": "ready"}
        assert (await node.revoke(client.token)).json == {"revoked": "true"}
        assert (await client.ask("GET", "/closed")).status == 401
        client.close()
