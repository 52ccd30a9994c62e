import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import children
from tests.e2e.house import LIMIT

from ostiary import supervisor

CHILD = [sys.executable, "-I", "-S", children.__file__]


class Running:
    """A supervisor, and the lines that it and its children write."""

    def __init__(self, process: asyncio.subprocess.Process, place: Path) -> None:
        self.process, self.place = process, place
        self.lines: list[str] = []

    async def line(self, start: str) -> str:
        """The first line that begins with `start` and was not given yet."""
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT):
            while not (found := [line for line in self.lines if line.startswith(start)]):
                line = (await self.process.stdout.readline()).decode()
                assert line, f"no {start!r} in {self.lines}"
                self.lines.append(line.rstrip())
        self.lines.remove(found[0])
        return found[0]

    async def pid(self, start: str) -> int:
        return int((await self.line(start)).rpartition(" ")[2])

    async def rest(self) -> list[str]:
        """All that is still said, until nobody is there who could say more."""
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT):
            return (await self.process.stdout.read()).decode().splitlines()

    async def status(self) -> int:
        return await asyncio.wait_for(self.process.wait(), LIMIT)

    @property
    def addresses(self) -> dict[str, Any]:
        text = (self.place / "run" / "addresses.json").read_text()
        return dict(json.loads(text))


@asynccontextmanager
async def started(place: Path, **changes: Any) -> AsyncIterator[Running]:
    """A supervisor with one stand-in worker on free ports, unless `changes` say otherwise."""
    plan = {
        "gateway": "127.0.0.1:0", "admin": "127.0.0.1:0", "scheme": "http", "workers": 1, "run": str(place / "run"),
        "pid_file": str(place / "ostiary.pid"), "control": [*CHILD, "control"], "worker": [*CHILD, "worker"],
        "drain": 30.0,
    }  # fmt: skip
    (place / "plan.json").write_text(json.dumps(plan | changes))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", supervisor.__file__, str(place / "plan.json"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield Running(process, place)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def answered(running: Running) -> int:
    """The pid of the worker that answers at the gateway's address."""
    host, _, port = running.addresses["gateway"].rpartition("/")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    pid = int(await asyncio.wait_for(reader.read(), LIMIT))
    writer.close()
    return pid


async def test_a_node_says_where_it_listens_and_ends_in_order(place: Path) -> None:
    async with started(place, workers=2) as node:
        gateway, admin = await node.line("gateway http://127.0.0.1:"), await node.line("admin http://127.0.0.1:")
        assert node.addresses == {"gateway": gateway[8:], "admin": admin[6:], "pid": node.process.pid}
        assert (place / "ostiary.pid").read_text() == f"{node.process.pid}\n"
        await node.line("worker")
        await node.line("worker")
        await node.line("control")
        node.process.terminate()
        last = [line.rpartition(" ")[0] for line in await node.rest()]
        assert sorted(last[:2]) == ["worker SIGTERM", "worker SIGTERM"]
        assert last[2:] == ["control SIGTERM"]
        assert await node.status() == 0
    assert names(place) == ["plan.json", "run"]
    assert names(place / "run") == []


async def test_a_pid_file_that_cannot_be_written_is_refused(place: Path) -> None:
    (place / "folder").mkdir()
    async with started(place, pid_file=str(place / "folder")) as node:
        assert await node.rest() == [f"ostiary: cannot write {place / 'folder'}: Is a directory"]
        assert await node.status() == 1
    assert names(place) == ["folder", "plan.json", "run"]


async def test_a_socket_whose_path_is_too_long_says_what_to_do(place: Path) -> None:
    async with started(place, run=str(place / ("x" * 120))) as node:
        (said,) = await node.rest()
        assert said.endswith(".sock: AF_UNIX path too long; choose a shorter state_dir")
        assert await node.status() == 1


async def test_what_waits_for_a_dead_worker_is_served_by_its_successor(place: Path) -> None:
    async with started(place) as node:
        first = await node.pid("worker 1")
        await node.line("admin")
        assert await answered(node) == first
        os.kill(first, signal.SIGSTOP)
        waiting = asyncio.create_task(answered(node))
        os.kill(first, signal.SIGKILL)
        second = await node.pid("worker 1")
        assert await waiting == second != first


async def test_a_dead_control_is_back_and_told_to_resume(place: Path) -> None:
    async with started(place) as node:
        words = await node.line("control")
        await node.line("admin")
        os.kill(int(words.rpartition(" ")[2]), signal.SIGKILL)
        again = await node.line("control")
        addresses = [node.addresses["gateway"], node.addresses["admin"]]
        assert words.split()[1:-1] == addresses
        assert again.split()[1:-1] == [*addresses, "resume"]


async def test_a_control_that_has_been_ready_is_back_at_once_however_often(place: Path) -> None:
    async with started(place, control=[*CHILD, "fleeting"]) as node:
        for _ in range(4):
            line = json.loads(await node.line("{"))
            assert (line["process"], line["status"], line["restart_in"]) == ("control", 7, 0.0)


async def test_who_keeps_dying_is_started_ever_more_slowly(place: Path) -> None:
    async with started(place, worker=[*CHILD, "dying"]) as node:
        delays: list[float] = []
        while len(delays) < 4:
            line = json.loads(await node.line("{"))
            assert (line["event"], line["process"], line["status"]) == ("process ended", "worker 1", 5)
            delays.append(line["restart_in"])
        assert delays == [0.0, 0.1, 0.2, 0.4]


async def test_a_control_that_refuses_to_start_ends_the_node(place: Path) -> None:
    async with started(place, control=[*CHILD, "refusing"]) as node:
        await node.line("ostiary: the store is broken")
        assert await node.status() == 1
    assert not (place / "ostiary.pid").exists()


async def test_a_hangup_reaches_control_even_before_it_listens(place: Path) -> None:
    async with started(place, control=[*CHILD, "late"]) as node:
        await node.line("late")
        assert (place / "ostiary.pid").read_text() == f"{node.process.pid}\n"
        node.process.send_signal(signal.SIGHUP)
        await node.line("late SIGHUP")
        await node.line("control")
        node.process.send_signal(signal.SIGHUP)
        await node.line("late SIGHUP")


async def test_a_hangup_while_control_is_away_reaches_its_successor(place: Path) -> None:
    async with started(place) as node:
        control = await node.pid("control")
        await node.line("admin")
        os.kill(control, signal.SIGSTOP)
        node.process.send_signal(signal.SIGHUP)
        os.kill(control, signal.SIGKILL)
        await node.line("control SIGHUP")
        await node.line("control http")


async def test_without_the_supervisor_the_others_end(place: Path) -> None:
    async with started(place) as node:
        await node.line("admin")
        await node.line("worker 1")
        await node.line("control")
        node.process.kill()
        assert sorted(line.rpartition(" ")[0] for line in await node.rest()) == ["control alone", "worker alone"]


async def test_a_successor_of_a_killed_supervisor_takes_over(place: Path) -> None:
    async with started(place, worker=[*CHILD, "deaf"]) as node:
        await node.line("admin")
        node.process.kill()
        await node.rest()
        async with started(place) as successor:
            await successor.line("admin")
            assert (place / "ostiary.pid").read_text() == f"{successor.process.pid}\n"


async def test_one_state_directory_has_one_node(place: Path) -> None:
    async with started(place) as node:
        await node.line("admin")
        async with started(place) as second:
            await second.line(f"ostiary: already running, pid {node.process.pid} ")
            assert await second.status() == 1
        async with started(place, run=str(place / "other")) as third:
            await third.line(f"ostiary: already running, pid {node.process.pid} ")
            assert await third.status() == 1
        assert (place / "ostiary.pid").read_text() == f"{node.process.pid}\n"
        assert node.addresses["pid"] == node.process.pid


@pytest.mark.parametrize("text", ["1\n", "999999999\n", "-1\n", "0\n", "", "nonsense"])
async def test_a_pid_file_that_names_no_ostiary_is_replaced(place: Path, text: str) -> None:
    (place / "ostiary.pid").write_text(text)
    async with started(place) as node:
        await node.line("admin")
        assert (place / "ostiary.pid").read_text() == f"{node.process.pid}\n"


async def test_a_pid_file_that_is_no_longer_ours_stays(place: Path) -> None:
    async with started(place) as node:
        await node.line("admin")
        (place / "ostiary.pid").write_text("1\n")
        node.process.terminate()
        assert await node.status() == 0
    assert (place / "ostiary.pid").read_text() == "1\n"


@pytest.mark.parametrize("what", ["gateway", "admin"])
@pytest.mark.parametrize("shared", [False, True])
async def test_an_address_in_use_is_refused(place: Path, what: str, shared: bool) -> None:
    with socket.socket() as taken:
        if shared:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with started(place, **{what: address}) as node:
            await node.line(f"ostiary: cannot listen at {address} ({what}.listen): Address already in use")
            assert await node.status() == 1
    assert not (place / "ostiary.pid").exists()


async def test_the_same_signal_again_ends_all_at_once(place: Path) -> None:
    async with started(place, worker=[*CHILD, "stubborn"]) as node:
        await node.line("stubborn")
        await node.line("control")
        node.process.send_signal(signal.SIGINT)
        await node.line("stubborn")
        node.process.send_signal(signal.SIGTERM)
        node.process.send_signal(signal.SIGINT)
        assert await node.status() == 0
        assert [line for line in await node.rest() if not line.startswith(("gateway", "admin"))] == []


async def test_a_worker_that_does_not_end_is_killed(place: Path) -> None:
    async with started(place, worker=[*CHILD, "deaf"], drain=-4.8) as node:
        await node.line("deaf")
        node.process.terminate()
        line = json.loads(await node.line("{"))
        assert (line["event"], line["process"]) == ("process does not end and is killed", "worker 1")
        assert await node.status() == 0


async def test_who_started_it_in_the_background_is_told_instead_of_the_log(place: Path) -> None:
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    async with started(place) as node:
        await node.line("admin")
        node.process.terminate()
        await node.status()
        told = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", supervisor.__file__, str(place / "plan.json"), str(theirs),
            pass_fds=[theirs], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        os.close(theirs)
        with os.fdopen(ours) as pipe:
            said = [json.loads(line) for line in await asyncio.to_thread(pipe.readlines)]
        assert said[0] == {"owner": "ann 1234"}
        assert said[1]["ready"].startswith("gateway http://127.0.0.1:")
        told.terminate()
        output, _ = await told.communicate()
        assert b"1234" not in output
