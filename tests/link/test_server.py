import asyncio
import os
import signal
import socket
import sys
import time

import pytest
from tests.link.fakes import Authority, Door, Link, listener, serving, snapshot
from tests.undisturbed import undisturbed

from ostiary.core.admission import Admission
from ostiary.core.limit import Limit
from ostiary.core.refusal import Invalid, Unavailable
from ostiary.link.client import Client
from ostiary.link.frames import frame
from ostiary.link.messages import (
    Applied,
    Change,
    Collect,
    Grant,
    Hello,
    Lease,
    Prepared,
    Report,
    ToWorker,
    Want,
    decode_to_worker,
)
from ostiary.link.reading import stale
from ostiary.link.receipt import WorkerStatus
from ostiary.link.server import LEASE, Server

SHORT = 300_000_000
LONG = 60_000_000_000
LIMIT = 30.0
"""Seconds that anything may take, less than a long lease."""
ANN = Admission("client-1", "ann", ("basic",), 0)
BOB = Admission("client-2", "", ("basic",), 0)
FLUSH: tuple[object, ...] = ("change", [], True, False)
MUTE = """
import socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect(sys.argv[1])
link.sendall(bytes.fromhex(sys.argv[2]))
while True:
    print(link.recv(1), flush=True)
    sys.stdin.read()
"""


class Mute:
    """A process that says `first` to control, and then nothing; nor does it read."""

    @staticmethod
    async def start(path: str, first: bytes) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        mute = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MUTE, path, first.hex(), stdin=pipe, stdout=pipe
        )
        assert mute.stdout is not None
        assert await asyncio.wait_for(mute.stdout.readline(), LIMIT) != b""
        return mute


async def test_a_worker_drops_all_admissions_when_it_connects_and_gets_a_lease(link: Link) -> None:
    door = Door()
    before = time.monotonic_ns()
    async with link.worker(1, door):
        await door.until(*FLUSH)
        await door.leased(1)
    assert door.told[:2] == [("connected", True), FLUSH]
    assert before + LEASE <= door.leases[0] <= time.monotonic_ns() + LEASE


async def test_leases_are_renewed(link: Link) -> None:
    door = Door()
    async with link.worker(1, door):
        await door.leased(2)
    assert door.leases[0] < door.leases[1]


async def test_a_change_is_in_every_worker_when_it_returns(link: Link) -> None:
    one, two = Door(), Door()
    async with link.worker(1, one), link.worker(2, two):
        await one.until(*FLUSH)
        await two.until(*FLUSH)
        receipt = await asyncio.wait_for(link.server.apply(Change(77, clients=["c"])), LIMIT)
        assert one.told[-1] == two.told[-1] == ("change", ["c"], False, True)
    assert (receipt.epoch, receipt.applied, receipt.workers, receipt.dropped) == (77, 2, 2, {"admissions": 2})


@undisturbed
async def test_a_worker_that_does_not_confirm_delays_a_change_until_its_lease_has_run_out(place: str) -> None:
    server = Server(Authority(), 1, lease=SHORT)
    async with serving(server, listener(place)):
        reader, writer = await asyncio.open_unix_connection(place)
        writer.write(frame(Hello(1, 0, 0)))
        assert isinstance(await heard(reader), Change)
        lease = await heard(reader)
        receipt = await asyncio.wait_for(server.apply(Change(0, clients=["c"])), LIMIT)
        assert (receipt.applied, receipt.workers) == (0, 1)
        assert isinstance(lease, Lease)
        assert time.monotonic_ns() >= lease.until
        writer.close()


async def test_a_dead_worker_delays_nothing(place: str) -> None:
    server = Server(Authority(), 1, lease=LONG)
    async with serving(server, listener(place)):
        mute = await Mute.start(place, frame(Hello(1, 0, 0)))
        change = asyncio.create_task(server.apply(Change(0, clients=["c"])))
        done, _ = await asyncio.wait({change}, timeout=0.05)
        assert done == set()
        mute.kill()
        receipt = await asyncio.wait_for(change, LIMIT)
        assert (receipt.applied, receipt.workers) == (1, 1)
        assert server.status() == [WorkerStatus(1, 0, False, 0, 0)]
        assert (await asyncio.wait_for(server.apply(Change(0, clients=["d"])), LIMIT)).applied == 1
        await mute.wait()


@undisturbed
async def test_a_worker_of_a_former_control_counts_until_its_lease_has_run_out(place: str) -> None:
    began = time.monotonic_ns()
    server = Server(Authority(), 1, lease=SHORT)
    async with serving(server, listener(place)):
        first = await asyncio.wait_for(server.apply(Change(0, clients=["c"])), LIMIT)
        assert time.monotonic_ns() - began >= SHORT
        second = await asyncio.wait_for(server.apply(Change(0, clients=["c"])), LIMIT)
    assert (first.applied, second.applied) == (0, 1)
    assert second.microseconds < 100_000


async def test_a_worker_that_comes_late_is_told_what_it_missed(place: str) -> None:
    server = Server(Authority(), 1, lease=LONG)
    async with serving(server, listener(place)):
        change = asyncio.create_task(server.apply(Change(0, users=["ann"])))
        done, _ = await asyncio.wait({change}, timeout=0.05)
        assert done == set()
        door = Door()
        async with Link(Authority(), server, place).worker(1, door):
            assert (await asyncio.wait_for(change, LIMIT)).applied == 1
            await door.until(*FLUSH)
        assert door.told[1:3] == [("change", [], False, True), FLUSH]


@undisturbed
async def test_a_worker_that_confirms_nothing_is_lent_nothing_more(place: str) -> None:
    server = Server(Authority(), 1, lease=1_500_000_000)
    async with serving(server, listener(place)):
        mute = await Mute.start(place, frame(Hello(1, 0, 0)))
        await asyncio.wait_for(server.apply(Change(0, clients=["c"])), LIMIT)
        await asyncio.wait_for(server.apply(Change(0, clients=["d"])), LIMIT)
        third = await asyncio.wait_for(server.apply(Change(0, clients=["e"])), LIMIT)
        assert third.microseconds < 100_000
        mute.kill()
        await mute.wait()


@undisturbed
async def test_a_worker_that_comes_to_again_is_lent_at_once_when_it_has_confirmed_everything(place: str) -> None:
    server = Server(Authority(), 1, lease=SHORT)
    async with serving(server, listener(place)):
        reader, writer = await asyncio.open_unix_connection(place)
        writer.write(frame(Hello(1, 0, 0)))
        missed = await heard(reader)
        assert isinstance(missed, Change)
        assert isinstance(await heard(reader), Lease)
        await asyncio.wait_for(server.apply(Change(0, clients=["c"])), LIMIT)
        writer.write(frame(Applied(missed.seq + 1, {})))
        said = time.monotonic_ns()
        async with asyncio.timeout(0.5):
            while not (isinstance(message := await heard(reader), Lease) and message.until > said):
                pass
        writer.close()


async def test_an_answer_does_not_overtake_a_change(link: Link) -> None:
    door = Door()
    async with link.worker(1, door) as client:
        await door.until(*FLUSH)
        link.authority.known = {b"a": ANN, b"b": BOB}
        link.authority.gate.clear()
        client.ask([b"a", b"b", b"c"])
        await asyncio.wait_for(link.authority.read.wait(), LIMIT)
        link.authority.known[b"a"] = None
        change = asyncio.create_task(link.server.apply(Change(0, users=["ann"])))
        await door.until("change", [], False, True)
        link.authority.gate.set()
        await door.until("answers", {b"b": BOB})
        await door.until("answers", {b"a": None, b"c": None})
        change.cancel()
    assert [sorted(read) for read in link.authority.reads] == [[b"a", b"b", b"c"], [b"a", b"c"]]


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (Change(1), set()),
        (Change(1, digests=[b"a"]), {b"a"}),
        (Change(1, clients=["client-2"]), {b"b", b"n"}),
        (Change(1, users=["ann"]), {b"a", b"n"}),
        (Change(1, users=[""]), {b"n"}),
        (Change(1, everything=True), {b"a", b"b", b"n"}),
    ],
)
def test_what_a_change_touches_is_read_again(change: Change, again: set[bytes]) -> None:
    assert stale({b"a": ANN, b"b": BOB, b"n": None}, [Change(0, digests=[b"z"]), change]) == again


async def test_a_store_that_fails_does_not_end_the_link(link: Link) -> None:
    door = Door()
    link.authority.broken = True
    async with link.worker(1, door) as client:
        await door.until(*FLUSH)
        client.ask([b"a"])
        client.draw([Want(b"k", Limit(1, 1), 3)])
        await door.until("granted", [Grant(b"k", 3, 0)])
        link.authority.broken = False
        client.ask([b"b"])
        await door.until("answers", {b"b": None})


async def test_no_worker_swaps_before_all_have_built(link: Link) -> None:
    door = Door()
    async with link.worker(1, door):
        await door.until(*FLUSH)
        install = asyncio.create_task(link.server.install(*snapshot(8)))
        await door.until("prepared")
        done, _ = await asyncio.wait({install}, timeout=0.05)
        assert done == set()
        assert ("swap", 8) not in door.told
        late = Door()
        async with link.worker(2, late):
            receipt = await asyncio.wait_for(install, LIMIT)
            assert door.told[-1] == late.told[-1] == ("swap", 8)
    assert (receipt.epoch, receipt.applied, receipt.workers) == (8, 2, 2)
    assert door.told.count(("routes", 1, 1)) == 3


async def test_a_snapshot_without_routes_is_installed_too(link: Link) -> None:
    one, two = Door(), Door()
    async with link.worker(1, one), link.worker(2, two):
        await asyncio.wait_for(link.server.install(*snapshot(8, routes=0)), LIMIT)
    assert [one.told.count(words) for words in (("prepare", 8), ("prepared",), ("swap", 8))] == [1, 1, 1]


async def test_a_worker_that_cannot_build_keeps_all_on_the_old_snapshot(link: Link) -> None:
    one, two = Door(), Door()
    async with link.worker(1, one), link.worker(2, two):
        await asyncio.wait_for(link.server.install(*snapshot(8)), LIMIT)
        two.problem = "no such plug-in"
        with pytest.raises(Invalid, match="no such plug-in"):
            await asyncio.wait_for(link.server.install(*snapshot(9)), LIMIT)
        two.problem, two.defect = "", ZeroDivisionError("oops")
        with pytest.raises(Invalid, match="ZeroDivisionError: oops"):
            await asyncio.wait_for(link.server.install(*snapshot(9)), LIMIT)
        assert [status.revision for status in link.server.status()] == [8, 8]
        two.defect = None
        await asyncio.wait_for(link.server.install(*snapshot(9)), LIMIT)
        assert [status.revision for status in link.server.status()] == [9, 9]
    assert [one.told.count(("swap", 8)), one.told.count(("swap", 9))] == [1, 1]


async def test_installations_do_not_mix(link: Link) -> None:
    first = asyncio.create_task(link.server.install(*snapshot(8)))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="another configuration"):
        await link.server.install(*snapshot(9))
    first.cancel()


async def test_a_replacement_is_given_what_the_others_serve(link: Link) -> None:
    one, two, other = Door(), Door(), Door()
    async with link.worker(1, one):
        async with link.worker(2, two):
            await asyncio.wait_for(link.server.install(*snapshot(8)), LIMIT)
        async with link.worker(2, other) as client:
            await asyncio.wait_for(client.serving.wait(), LIMIT)
            await other.until("swap", 8)
    assert other.told.count(("routes", 1, 1)) == 3


async def test_a_worker_that_takes_nothing_in_is_replaced(place: str) -> None:
    server = Server(Authority(), 1, patience=0.3)
    async with serving(server, listener(place)):
        mute = await Mute.start(place, frame(Hello(1, 0, 0)))
        receipt = await asyncio.wait_for(server.install(*snapshot(8)), LIMIT)
        assert await asyncio.wait_for(mute.wait(), LIMIT) == -signal.SIGKILL
        assert (receipt.applied, receipt.workers) == (0, 1)
        door = Door()
        async with Link(Authority(), server, place).worker(1, door):
            await door.until("swap", 8)


@undisturbed
async def test_a_worker_with_nothing_to_do_for_longer_than_the_patience_takes_the_next_snapshot(place: str) -> None:
    server, door = Server(Authority(), 1, patience=0.2), Door()
    async with serving(server, listener(place)), Link(Authority(), server, place).worker(1, door):
        await asyncio.wait_for(server.install(*snapshot(8)), LIMIT)
        await asyncio.sleep(0.25)
        receipt = await asyncio.wait_for(server.install(*snapshot(9)), LIMIT)
        assert (receipt.applied, receipt.workers) == (1, 1)
        assert door.told[-1] == ("swap", 9)


async def test_a_new_control_finds_its_workers_and_leaves_their_snapshot(place: str) -> None:
    door, held = Door(), listener(place)
    link = Link(Authority(), Server(Authority(), 1), place)
    async with link.worker(1, door) as client:
        async with serving(link.server, held.dup()):
            await asyncio.wait_for(link.server.install(*snapshot(8)), LIMIT)
        await door.until("connected", False)
        client.ask([b"forgotten"])
        successor = Server(Authority(), 1)
        door.told.clear()
        async with serving(successor, held):
            await asyncio.wait_for(successor.install(*snapshot(8)), LIMIT)
            assert successor.status() == [WorkerStatus(1, os.getpid(), True, 8, 0)]
            await asyncio.wait_for(successor.install(*snapshot(9)), LIMIT)
    assert [words for words in door.told if words[0] in ("connected", "prepare", "swap")] == [
        ("connected", True),
        ("prepare", 9),
        ("swap", 9),
        ("connected", False),
    ]


async def test_a_worker_that_serves_something_else_is_brought_back(place: str) -> None:
    door, held = Door(), listener(place)
    link = Link(Authority(), Server(Authority(), 1), place)
    async with link.worker(1, door):
        async with serving(link.server, held.dup()):
            await asyncio.wait_for(link.server.install(*snapshot(8)), LIMIT)
        successor = Server(Authority(), 1)
        async with serving(successor, held):
            await asyncio.wait_for(successor.install(*snapshot(7)), LIMIT)
            assert successor.status()[0].revision == 7


async def heard(reader: asyncio.StreamReader) -> ToWorker:
    """The next message in a worker's stream."""
    size = int.from_bytes(await asyncio.wait_for(reader.readexactly(4), LIMIT), "big")
    message: ToWorker = decode_to_worker(await reader.readexactly(size))
    return message


async def collected(reader: asyncio.StreamReader) -> int:
    """The number of the next Collect in a worker's stream."""
    while not isinstance(message := await heard(reader), Collect):
        pass
    return message.seq


async def test_reports_come_from_all_and_a_late_one_is_not_lost(link: Link) -> None:
    door = Door()
    async with link.worker(1, door):
        await door.until(*FLUSH)
        reader, writer = await asyncio.open_unix_connection(link.path)
        writer.write(frame(Hello(2, 0, 0)))
        assert isinstance(await heard(reader), Change)
        without = await asyncio.wait_for(link.server.collect(), LIMIT)
        late = await collected(reader)
        writer.write(frame(Report(late, [], {"late": 1}, {})))
        gathering = asyncio.create_task(link.server.collect())
        writer.write(frame(Report(await collected(reader), [], {"prompt": 1}, {})))
        gathered = await asyncio.wait_for(gathering, LIMIT)
    assert [report.counters for report in without] == [{"reports": 1}]
    assert sorted(str(report.counters) for report in gathered) == ["{'late': 1}", "{'prompt': 1}", "{'reports': 2}"]
    writer.close()


@pytest.mark.parametrize("first", [Hello(3, 1, 0), Hello(0, 1, 0), Applied(1, {}), Prepared(1)])
async def test_who_is_not_expected_is_turned_away(link: Link, first: Hello | Applied | Prepared) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    reader, writer = await asyncio.open_unix_connection(link.path)
    writer.write(frame(first))
    assert await asyncio.wait_for(reader.read(), LIMIT) == b""
    writer.close()
    assert [status.connected for status in link.server.status()] == [False, False]


async def test_the_data_plane_can_run_inside_control() -> None:
    ours, theirs = socket.socketpair()
    server, door = Server(Authority(), 1), Door()
    client = Client(1, os.getpid())
    async with asyncio.TaskGroup() as tasks:
        control = tasks.create_task(server.serve(linked=ours))
        tasks.create_task(client.run_over(theirs, door))
        await asyncio.wait_for(server.install(*snapshot(1)), LIMIT)
        receipt = await asyncio.wait_for(server.apply(Change(0, everything=True)), LIMIT)
        assert (receipt.applied, receipt.workers) == (1, 1)
        control.cancel()
    assert door.told[-1] == ("connected", False)
