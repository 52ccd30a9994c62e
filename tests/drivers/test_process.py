"""Droplets as local processes: what depends on who keeps them."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.drivers.houses import SECOND, House, begun, ended, lines, listening, mark, sleepers, until

from ostiary.core.refusal import Invalid, NotFound, Unavailable
from ostiary.drivers.process import proc, record
from ostiary.drivers.process.driver import ProcessDriver

ROOT = os.geteuid() == 0
C_LIBRARYS_OWN = 0b11 << 31
"""The two signals that no program may set."""


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House("process", str(tmp_path / "droplets"), "")


@pytest.fixture
async def driver(house: House) -> AsyncIterator[ProcessDriver]:
    opened = ProcessDriver(Path(house.place), os.environ)
    await opened.open()
    yield opened
    await opened.open()
    for each in await opened.look():
        await opened.remove(each)
    await opened.close(stop=True)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        yield process
        process.kill()


def kept(place: Path) -> bytes:
    """All that is on disk of a node."""
    return b"".join(each.read_bytes() for each in place.rglob("*") if each.is_file())


def names(place: Path) -> set[str]:
    return {each.name for each in place.iterdir()}


def there(paths: list[str]) -> list[str]:
    return [each for each in paths if Path(each).exists()]


KEEPERS = {"keeper", "keeper.lock", "keeper.log"}
"""What is in a node's directory while it has no droplets."""


def keeper(driver: ProcessDriver) -> int:
    return driver.linked().pid


async def bereave(driver: ProcessDriver) -> None:
    """Kill the keeper, and wait until the driver knows."""
    link = driver.linked()
    os.kill(link.pid, signal.SIGKILL)
    await link.reading


async def test_without_its_keeper_a_driver_says_so_and_droplets_run_on(house: House, driver: ProcessDriver) -> None:
    each = mark()
    spec = await begun(driver, house.script(f"exec sleep {each}"))
    await until(lambda: len(sleepers(each)) == 1)
    news = anext(aiter(driver.watch()))
    await bereave(driver)
    for asked in (news, driver.look(), driver.usage(spec.droplet), driver.stop(spec.droplet, "TERM", SECOND)):
        with pytest.raises(Unavailable) as refusal:
            await asked
        assert refusal.value.code == "driver.unavailable"
    assert len(sleepers(each)) == 1


async def test_another_keeper_adopts_what_runs_with_its_start_its_output_and_its_end(
    house: House, driver: ProcessDriver
) -> None:
    text = "trap 'echo end; exit 0' TERM; echo ready; n=0; while :; do n=$((n+1)); echo $n; sleep 0.02; done"
    spec = await begun(driver, house.script(text))
    await lines(driver, spec, b"3")
    before = (await driver.look())[spec.droplet]
    await bereave(driver)
    await driver.open()
    assert (await driver.look())[spec.droplet] == before
    said = (await lines(driver, spec, b"20"))[1:]
    assert said == [str(each).encode() for each in range(1, 21)]
    async with listening(driver.watch()) as heard:
        assert await driver.stop(spec.droplet, "TERM", 5 * SECOND) is False
        told = await heard.get()
    assert (told.state, told.exit_code, told.started) == ("exited", None, before.started)
    assert (await driver.logs(spec.droplet, 1)) == [b"end"]


async def test_what_ended_while_nobody_kept_it_has_an_unknown_end_and_leaves_nobody(
    house: House, driver: ProcessDriver
) -> None:
    each, other = mark(), mark()
    spec = await begun(driver, house.script(f"(setsid sleep {other} &); sleep {each}; exit 3"))
    await until(lambda: len(sleepers(each) | sleepers(other)) == 2)
    await bereave(driver)
    leader = json.loads((Path(house.place) / spec.droplet / "record").read_text())["pid"]
    os.kill(leader, signal.SIGKILL)
    os.kill(sleepers(each).pop(), signal.SIGKILL)
    await driver.open()
    await until(lambda: sleepers(other) == set())
    assert await ended(driver, spec) is None


async def test_a_pid_that_a_stranger_has_now_is_never_signalled(
    house: House, driver: ProcessDriver, stranger: subprocess.Popen[bytes]
) -> None:
    spec = house.script("true")
    await driver.create(spec)
    await bereave(driver)
    lives = proc.stat(stranger.pid)
    assert lives is not None
    file = Path(house.place) / spec.droplet / "record"
    for began, boot in ((lives.start - 1, proc.boot()), (lives.start, "another boot")):
        kept = record.Record("running", started=1, pid=stranger.pid, began=began, boot=boot)
        record.write(file, kept)
        await driver.open()
        assert await ended(driver, spec) is None
        await driver.stop(spec.droplet, "KILL", 0)
        await bereave(driver)
    assert proc.hold(stranger.pid, lives.start - 1) is None
    assert stranger.poll() is None


async def test_what_to_run_is_on_no_disk_and_is_asked_for_again(house: House, driver: ProcessDriver) -> None:
    spec = house.script("echo $KEY", env={"KEY": "very-secret"})
    await driver.create(spec)
    await bereave(driver)
    assert b"very-secret" not in kept(Path(house.place))
    await driver.open()
    with pytest.raises(NotFound) as refusal:
        await driver.start(spec.droplet)
    assert refusal.value.code == "droplet.gone"
    await begun(driver, spec)
    assert await ended(driver, spec) == 0
    assert await driver.logs(spec.droplet, 1) == [b"very-secret"]


async def test_what_a_killed_keeper_was_making_is_cleared_away(house: House, driver: ProcessDriver) -> None:
    await bereave(driver)
    place = Path(house.place)
    (place / ".00000000000a.new" / "work").mkdir(parents=True)
    (place / ".00000000000b.1f.old").mkdir()
    (place / "00000000000c").mkdir()
    (place / "00000000000c" / "record").write_bytes(b"{")
    await driver.open()
    assert await driver.look() == {}
    assert names(place) == KEEPERS


async def test_many_who_open_at_once_have_one_keeper(house: House, driver: ProcessDriver) -> None:
    await bereave(driver)
    drivers = [ProcessDriver(Path(house.place), {}) for _ in range(5)]
    await asyncio.gather(*(each.open() for each in drivers))
    assert len({keeper(each) for each in drivers}) == 1
    for each in drivers:
        await each.close(stop=False)


async def test_a_keeper_with_nothing_to_keep_ends(house: House, driver: ProcessDriver) -> None:
    pid = keeper(driver)
    await driver.close(stop=False)
    await until(lambda: (found := proc.stat(pid)) is None or not found.lives)


async def test_an_end_is_told_to_the_last_byte_though_nobody_was_there(house: House, driver: ProcessDriver) -> None:
    each = mark()
    spec = await begun(driver, house.script(f"sleep 0.3; seq 1 5000; exit 7 # {each}"))
    await driver.close(stop=False)
    place = Path(house.place) / spec.droplet
    await until(lambda: json.loads((place / "record").read_text())["state"] == "exited")
    await driver.open()
    assert (await driver.look())[spec.droplet].exit_code == 7
    assert await driver.logs(spec.droplet, 10_000) == [str(each).encode() for each in range(1, 5001)]


async def test_orders_that_are_none_end_the_connection_and_nothing_else(
    house: House, driver: ProcessDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = mark()
    monkeypatch.chdir(house.place)
    await begun(driver, house.script(f"exec sleep {each}"))
    for order in (
        b"{\n",
        b"[]\n",
        b'{"n":1}\n',
        b'{"n":1,"do":"start"}\n',
        b"\xff\n",
        b'{"n":1,"do":"create","droplet":7}\n',
    ):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect("keeper")
            link.sendall(order)
            await asyncio.to_thread(drained, link)
    assert len(await driver.look()) == 1
    assert len(sleepers(each)) == 1


def drained(link: socket.socket) -> None:
    while link.recv(65536):
        pass


async def test_an_id_is_no_path(house: House, driver: ProcessDriver) -> None:
    for each in ("../../../etc", "0123456789AB", "0123456789ab\n", "", "."):
        spec = msgspec.structs.replace(house.script("true"), droplet=each)
        with pytest.raises(Invalid) as refusal:
            await driver.create(spec)
        assert refusal.value.code == "droplet.invalid"
        with pytest.raises(NotFound):
            await driver.logs(each, 1)
        await driver.remove(each)


async def test_its_directory_taken_away_costs_a_droplet_nothing_but_its_log(
    house: House, driver: ProcessDriver
) -> None:
    each = mark()
    spec = await begun(driver, house.script(f"sleep {each}; exit 1"))
    shutil.rmtree(Path(house.place) / spec.droplet)
    await driver.stop(spec.droplet, "TERM", 5 * SECOND)
    assert (await driver.look())[spec.droplet].state == "exited"
    await driver.remove(spec.droplet)
    assert await driver.look() == {}


async def test_two_files_of_five_megabytes_are_kept_and_read_as_one(house: House, driver: ProcessDriver) -> None:
    spec = await begun(driver, house.script("seq -f '%0999.0f' 1 13000"))
    assert await ended(driver, spec) == 0
    place = Path(house.place) / spec.droplet
    assert (place / "log.1").stat().st_size == pytest.approx(5_000_000, abs=70_000)
    assert (place / "log").stat().st_size < 5_000_000
    expected = [f"{each:0999}".encode() for each in range(13_001 - 5000, 13_001)]
    assert await driver.logs(spec.droplet, 5000) == expected


async def test_a_follower_misses_no_line_where_the_log_begins_anew(house: House, driver: ProcessDriver) -> None:
    spec = await begun(
        driver, house.script("sleep 0.2; for n in 1 2 3 4; do seq -f '%0999.0f' 1 2000; sleep 0.4; done; echo end")
    )
    found = await lines(driver, spec, b"end", 20)
    assert len(found) == 8001


async def test_a_full_disk_for_logs_stops_no_droplet_and_is_told_in_the_log(
    house: House, driver: ProcessDriver
) -> None:
    spec = house.script("echo lost; touch said; while [ ! -e go ]; do sleep 0.02; done; echo kept")
    await driver.create(spec)
    log = Path(house.place) / spec.droplet / "log"
    log.symlink_to("/dev/full")
    await driver.start(spec.droplet)
    await until((log.parent / "work" / "said").exists)
    for _ in range(2):
        await driver.look()  # answered after what came before it
    log.unlink()
    (log.parent / "work" / "go").touch()
    assert await ended(driver, spec) == 0
    notice = b"[ostiary: 5 bytes of output are lost: the disk was full]"
    assert await driver.logs(spec.droplet, 10) == [notice, b"kept"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk that has room for a keeper, and for hardly anything else."""
    if not ROOT:
        pytest.skip("only root can mount a small disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=8", "none", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


async def test_a_full_disk_at_create_is_refused_and_leaves_nothing(small: Path, house: House) -> None:
    driver = ProcessDriver(small / "droplets", {})
    await driver.open()
    with pytest.raises(Unavailable) as refusal:
        await driver.create(house.script("true"))
    assert refusal.value.code == "disk.full"
    assert names(small / "droplets") == KEEPERS
    assert await driver.look() == {}
    await driver.close(stop=True)


def test_a_family_is_found_by_its_mark_and_its_pipe_and_never_by_a_pid_alone(tmp_path: Path) -> None:
    pipe, each = tmp_path / "output", mark()
    os.mkfifo(pipe)
    text = f"(setsid env -i sleep {each} &); (setsid sleep {each} > /dev/null 2>&1 &); exec sleep {each}"
    held = os.open(pipe, os.O_RDWR)
    with subprocess.Popen(
        ["sh", "-c", text],
        env={"PATH": os.environ["PATH"], "M": each},
        stdout=held,
        stderr=held,
        start_new_session=True,
    ) as leader:
        os.close(held)
        deadline = time.monotonic() + 30
        while len(sleepers(each)) < 3:
            assert time.monotonic() < deadline
        began = proc.stat(leader.pid)
        assert began is not None
        mine = f"M={each}".encode()
        assert {one.pid for one in proc.family(leader.pid, began.start, (), mine, pipe)} == sleepers(each)
        assert proc.family(leader.pid, began.start - 1, (), b"M=no", tmp_path / "no") == []
        proc.send(signal.SIGKILL, proc.family(0, 0, (), mine, pipe))
        assert leader.wait() == -signal.SIGKILL


@pytest.mark.skipif(not ROOT, reason="only root can run a droplet as somebody else")
async def test_a_droplet_runs_as_its_user_and_gets_no_more_rights(house: House, driver: ProcessDriver) -> None:
    text = "id -u; id -g; id -G; grep NoNewPrivs /proc/self/status; touch here && echo mine; echo x > /dev/stdout"
    spec = msgspec.structs.replace(house.script(text), user="nobody")
    nobody = pwd.getpwnam("nobody")
    await begun(driver, spec)
    assert await ended(driver, spec) == 0
    said = await driver.logs(spec.droplet, 10)
    ids = [str(each).encode() for each in (nobody.pw_uid, nobody.pw_gid, nobody.pw_gid)]
    assert said == [*ids, b"NoNewPrivs:\t1", b"mine", b"x"]


async def test_an_unknown_user_is_refused(house: House, driver: ProcessDriver) -> None:
    with pytest.raises(Invalid) as refusal:
        await driver.create(msgspec.structs.replace(house.script("true"), user="no-such-user"))
    assert (refusal.value.code, refusal.value.message) == ("user.unknown", "No such user: no-such-user")


async def test_a_program_that_cannot_be_run_is_refused_with_the_reason(house: House, driver: ProcessDriver) -> None:
    spec = msgspec.structs.replace(house.script(""), command=("/etc/passwd",))
    await driver.create(spec)
    with pytest.raises(Invalid) as refusal:
        await driver.start(spec.droplet)
    assert refusal.value.message == "Cannot run /etc/passwd: Permission denied"
    spec = msgspec.structs.replace(house.script("x" * 200_000))
    await driver.create(spec)
    with pytest.raises(Invalid) as refusal:
        await driver.start(spec.droplet)
    assert refusal.value.message == "Cannot run /bin/sh: Argument list too long"


async def test_a_start_that_fails_before_the_program_says_at_what(house: House, driver: ProcessDriver) -> None:
    spec = house.script("true")
    await driver.create(spec)
    (Path(house.place) / spec.droplet / "work").rmdir()
    with pytest.raises(Unavailable) as refusal:
        await driver.start(spec.droplet)
    assert refusal.value.message == "Cannot start /bin/sh: enter its directory: No such file or directory"
    assert (await driver.look())[spec.droplet].state == "created"


async def test_a_failed_start_keeps_the_end_of_the_life_before(house: House, driver: ProcessDriver) -> None:
    spec = await begun(driver, house.script("exit 3"))
    assert await ended(driver, spec) == 3
    before = await driver.look()
    await driver.create(msgspec.structs.replace(spec, command=("no-such-program",)))
    with pytest.raises(Invalid):
        await driver.start(spec.droplet)
    assert await driver.look() == before


async def test_signals_are_at_their_defaults_in_a_droplet(house: House, driver: ProcessDriver) -> None:
    spec = await begun(driver, house.script("grep -E 'Sig(Blk|Ign)' /proc/self/status; umask"))
    assert await ended(driver, spec) == 0
    blocked, ignored, umask = await driver.logs(spec.droplet, 3)
    assert (blocked, umask) == (b"SigBlk:\t0000000000000000", b"0022")
    assert int(ignored.removeprefix(b"SigIgn:\t"), 16) & ~C_LIBRARYS_OWN == 0


async def test_delete_leaves_no_file_and_no_group(house: House, driver: ProcessDriver) -> None:
    spec = await begun(driver, house.script(f"mkdir -p a/b; touch a/b/c; sleep {mark()}"))
    groups = json.loads((Path(house.place) / spec.droplet / "record").read_text())["groups"]
    assert there(groups) == groups
    await driver.remove(spec.droplet)
    assert there(groups) == []
    assert names(Path(house.place)) == KEEPERS


async def test_a_keeper_without_droplets_that_do_anything_costs_no_time(house: House, driver: ProcessDriver) -> None:
    specs = [house.script(f"exec sleep {mark()}") for _ in range(30)]
    await asyncio.gather(*(begun(driver, spec) for spec in specs))
    for _ in range(10):  # it may be busy with their beginnings, on a busy machine for a while
        spent = ticks(keeper(driver))
        await asyncio.sleep(1)
        if (used := ticks(keeper(driver)) - spent) <= 1:
            break
    assert used <= 1


def ticks(pid: int) -> int:
    """What a process has used of a processor, in hundredths of a second."""
    found = proc.stat(pid)
    assert found is not None
    return found.ticks
