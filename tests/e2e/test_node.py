"""What a node promises while its processes are stopped and killed."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from tests.e2e.house import LIMIT, OWNER, Backend, Client, configuration, once, ostiary, serving

from ostiary import supervisor

LEASE = 5.0
"""Seconds that a worker may act on what control said."""


async def test_a_dead_worker_is_replaced_and_only_its_own_connections_are_lost(configured: Path) -> None:
    async with serving(configured, "--workers", "2") as node:
        victim, survivor = node.children("worker")
        clients = [Client(node.gateway) for _ in range(16)]
        for client in clients:
            assert (await client.ask("GET", "/open")).status == 200
        os.kill(victim, signal.SIGKILL)
        await node.event("process ended")
        survived = 0
        for client in clients:
            try:
                assert (await client.ask("GET", "/open")).status == 200
                survived += 1
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            client.close()
        assert 0 < survived < 16
        for _ in range(16):
            assert (await once(node.gateway, "GET", "/open")).status == 200
        successors = node.children("worker")
        assert survivor in successors
        assert victim not in successors
        assert len(successors) == 2


async def test_a_dead_control_is_back_before_anybody_notices(configured: Path) -> None:
    async with serving(configured, "--workers", "1") as node:
        client = Client(node.gateway, await node.token())
        assert (await client.ask("GET", "/closed")).status == 200
        (control,) = node.children("control")
        os.kill(control, signal.SIGKILL)
        killed = time.monotonic()
        asking = asyncio.create_task(once(node.admin, "GET", "/platform/monitor/readiness"))
        while not asking.done():
            answer = await client.ask("GET", "/closed")
            assert (answer.status, time.monotonic() - killed > LEASE / 2) in ((200, False), (200, True), (503, True))
            await asyncio.wait({asking}, timeout=0.01)
        assert (await asking).status == 200
        assert (await client.under_lease("/closed")).status == 200
        assert (await node.revoke(client.token)).json == {"revoked": "true"}
        assert (await client.ask("GET", "/closed")).status == 401
        client.close()


async def test_a_new_control_serves_the_revision_of_the_old_one_not_the_files(configured: Path) -> None:
    async with serving(configured, "--workers", "1") as node:
        node.configure("routes: nonsense")
        (control,) = node.children("control")
        os.kill(control, signal.SIGKILL)
        current = await once(node.admin, "GET", "/platform/monitor/readiness")
        assert current.status == 200
        assert (await once(node.gateway, "GET", "/open")).status == 200
        assert (await node.reload())["event"] == "Configuration reload failed: 1 mistake, revision 1 keeps serving"
        assert (await once(node.gateway, "GET", "/open")).status == 200


async def test_without_control_known_tokens_pass_until_the_lease_ends_and_public_routes_go_on(configured: Path) -> None:
    async with serving(configured, "--workers", "1") as node:
        client = Client(node.gateway, await node.token())
        assert (await client.ask("GET", "/closed")).status == 200
        (control,) = node.children("control")
        os.kill(control, signal.SIGSTOP)
        stopped = time.monotonic()
        answer = await client.until("/closed", 503)
        assert time.monotonic() - stopped > LEASE / 2
        assert answer.headers["retry-after"] == "1"
        assert (await client.ask("GET", "/open")).status == 200
        os.kill(control, signal.SIGCONT)
        await client.until("/closed", 200)
        client.close()


async def test_a_stopped_worker_delays_a_revocation_and_never_admits_the_token_afterwards(configured: Path) -> None:
    async with serving(configured, "--workers", "1") as node:
        token = await node.token()
        client = Client(node.gateway, token)
        assert (await client.ask("GET", "/closed")).status == 200
        (worker,) = node.children("worker")
        os.kill(worker, signal.SIGSTOP)
        await client.send("GET", "/closed")
        began = time.monotonic()
        revoked = await node.revoke(token)
        assert revoked.json == {"revoked": "true"}
        assert time.monotonic() - began > LEASE / 2
        os.kill(worker, signal.SIGCONT)
        assert (await client.answer()).status == 401
        client.close()


async def test_a_reload_reaches_every_worker_and_a_broken_one_changes_nothing(
    configured: Path, behind: Backend
) -> None:
    async with serving(configured, "--workers", "2") as node:
        clients = [Client(node.gateway) for _ in range(8)]
        for client in clients:
            assert (await client.ask("GET", "/new")).status == 404
        node.configure(configuration(behind.port, OWNER).replace("/open", "/new"))
        assert (await node.reload())["event"] == "Configuration reload complete"
        for client in clients:
            assert (await client.ask("GET", "/new")).status == 200
            assert (await client.ask("GET", "/open")).status == 404
        node.configure("upstreams: {}\nroutes: [{match: GET /, upstream: nobody}]")
        assert (await node.reload())["event"] == "Configuration reload failed: 1 mistake, revision 2 keeps serving"
        for client in clients:
            assert (await client.ask("GET", "/new")).status == 200
            client.close()


def appeared(path: Path) -> bool:
    """Wait until there is a file."""
    deadline = time.monotonic() + LIMIT
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    return path.exists()


async def test_a_hangup_from_the_first_instant_is_a_reload(configured: Path) -> None:
    starting = asyncio.create_task(asyncio.to_thread(appeared, configured / "var" / "ostiary.pid"))
    node = serving(configured, "--workers", "1")
    entering = asyncio.create_task(node.__aenter__())
    assert await starting
    os.kill(supervisor.living(configured / "var" / "ostiary.pid"), signal.SIGHUP)
    running = await entering
    await running.event("SIGHUP received: reloading configuration...")
    await running.event("Configuration reload complete")
    await node.__aexit__(None, None, None)


async def test_a_stop_lets_end_what_is_under_way(configured: Path, behind: Backend) -> None:
    async with serving(configured, "--workers", "1") as node:
        idle, busy = Client(node.gateway), Client(node.gateway)
        assert (await idle.ask("GET", "/open")).status == 200
        await busy.send("GET", "/slow")
        await asyncio.wait_for(behind.arrived.wait(), LIMIT)
        node.process.terminate()
        assert idle.streams is not None
        assert await asyncio.wait_for(idle.streams[0].read(), LIMIT) == b""
        with pytest.raises(ConnectionError):
            await once(node.gateway, "GET", "/open")
        behind.go.set()
        assert (await asyncio.wait_for(busy.answer(), LIMIT)).body == b"hello"
        assert await asyncio.wait_for(node.process.wait(), LIMIT) == 0
        idle.close()
        busy.close()
    assert not (configured / "var" / "ostiary.pid").exists()


async def test_without_the_supervisor_all_drain_and_another_node_takes_over(configured: Path, behind: Backend) -> None:
    async with serving(configured, "--workers", "1") as node:
        busy = Client(node.gateway)
        await busy.send("GET", "/slow")
        await asyncio.wait_for(behind.arrived.wait(), LIMIT)
        node.process.kill()
        async with serving(configured, "--workers", "1") as successor:
            assert (await once(successor.gateway, "GET", "/open")).status == 200
            assert supervisor.living(configured / "var" / "ostiary.pid") == successor.process.pid
            behind.go.set()
            assert (await asyncio.wait_for(busy.answer(), LIMIT)).body == b"hello"
            await node.said()  # up to its end: no process of the former node is left
            assert (await once(successor.gateway, "GET", "/open")).status == 200
        busy.close()


async def test_the_data_plane_can_run_inside_control(configured: Path) -> None:
    async with serving(configured, "--workers", "0") as node:
        assert node.children("worker") == []
        token = await node.token()
        client = Client(node.gateway, token)
        assert (await client.ask("GET", "/closed")).status == 200
        receipt = (await node.revoke(token)).headers["x-ostiary-applied"]
        assert "workers 1/1" in receipt
        assert (await client.ask("GET", "/closed")).status == 401
        client.close()
        node.process.terminate()
        assert await asyncio.wait_for(node.process.wait(), LIMIT) == 0


async def test_the_first_start_prints_a_password_once_and_nowhere_else(place: Path, behind: Backend) -> None:
    (place / "ostiary.yaml").write_text(configuration(behind.port, ""))
    async with serving(place, "--workers", "1") as node:
        node.process.terminate()
        said = [line for line in (await node.said()).splitlines() if not line.startswith("{")]
    assert len(said) == 2
    assert said[0].endswith(TRUSTED)
    assert said[1].startswith("owner admin, one-time password ")
    password = said[1].split()[4]
    async with serving(place, "--workers", "1") as node:
        node.process.terminate()
        again = [line for line in (await node.said()).splitlines() if not line.startswith("{")]
    assert again == said[:1]
    kept = b"".join(path.read_bytes() for path in (place / "var").rglob("*") if path.is_file())
    assert password.encode() not in kept


TRUSTED = "peers of the admin listener in 127.0.0.0/8 need no credentials on ApiFest's paths"
"""What every start warns of, because the configuration of these tests says so."""


def text(path: str) -> str:
    return Path(path).read_text()


async def test_in_the_background_it_starts_tells_and_stops(place: Path, behind: Backend) -> None:
    (place / "ostiary.yaml").write_text(configuration(behind.port, ""))
    status, out, _ = await ostiary(place, "status")
    assert (status, out) == (3, "ostiary is not running\n")
    status, out, err = await ostiary(place, "start", "--workers", "1")
    lines = dict(line.split(" ", 1) for line in out.splitlines())
    assert (status, list(lines)) == (0, ["gateway", "admin", "pid", "log"])
    warning, password = err.splitlines()
    assert warning.endswith(TRUSTED)
    assert password.startswith("owner admin, one-time password ")
    assert (await once(lines["gateway"], "GET", "/open")).status == 200
    assert password.split()[4] not in text(lines["log"])
    status, out, err = await ostiary(place, "start")
    assert status == 1
    assert err.splitlines()[-1] == f"ostiary: already running, pid {lines['pid']} ({place}/var/ostiary.pid)"
    status, out, _ = await ostiary(place, "status")
    first, *shown = [line.partition(" pid ") for line in out.splitlines()]
    assert (status, "".join(first)) == (0, f"ostiary is running, pid {lines['pid']}")
    places = [f"gateway {lines['gateway']}", f"admin {lines['admin']}"]
    assert [line[0] for line in shown] == [*places, "control", "worker 1"]
    status, out, _ = await ostiary(place, "stop")
    assert (status, out) == (0, "ostiary has ended\n")
    status, out, err = await ostiary(place, "stop")
    assert (status, err) == (1, "ostiary: ostiary is not running\n")


@pytest.mark.parametrize("command", ["serve", "start", "validate"])
async def test_every_mistake_is_told_with_its_place(place: Path, command: str) -> None:
    (place / "ostiary.yaml").write_text('log: {level: LOUD}\nroutes:\n  - {match: "GET /", upstream: nobody}\n')
    status, out, err = await ostiary(place, command)
    assert (status, out) == (1, "")
    assert [line.split(" ")[:2] for line in err.splitlines()] == [
        ["ostiary.yaml:1:", "log.level:"],
        ["ostiary.yaml:3:", "routes[0].upstream:"],
    ]
    assert not (place / "var").exists()


async def test_a_good_configuration_is_said_to_be_valid(configured: Path) -> None:
    status, out, err = await ostiary(configured, "validate")
    assert (status, out) == (0, "ostiary.yaml: 3 routes, 1 upstreams: valid\n")
    assert err == f"ostiary.yaml:5: dialects.apifest.trusted_networks: {TRUSTED}\n"
