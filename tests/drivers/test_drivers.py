"""What every driver must show, whoever runs the droplets."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from tests.drivers.houses import SECOND, House, begun, both, ended, lines, listening, mark, sleepers, until

from ostiary.core.refusal import Invalid, NotFound
from ostiary.drivers.port import Driver, Limits, Seen, Spec

HOSTILE = ["x;id", "$(id)", "`id`", "a\nb", "../..", ".*", "'\"\\", "-rf", "*", "ü€", " ", ""]
STEPS = {
    "create": ["create"],
    "start": ["create", "start"],
    "stop": ["create", "start", "stop"],
    "remove": ["create", "start", "remove"],
    "done": ["create", "start"],
}
"""What is done before whoever does it is killed; `done`: after that."""
STUBBORN = "trap '' TERM; echo ready; while :; do sleep {mark}; done"


async def test_a_droplet_is_created_started_stopped_and_removed(house: House, driver: Driver) -> None:
    spec = house.script("trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    await driver.create(spec)
    assert (await driver.look())[spec.droplet] == Seen(spec.droplet, "created")
    await driver.start(spec.droplet)
    running = (await driver.look())[spec.droplet]
    assert (running.state, running.exit_code, running.finished) == ("running", None, None)
    assert running.started is not None
    assert abs(time.time_ns() // 1000 - running.started) < 60 * SECOND
    await lines(driver, spec, b"ready")
    assert await driver.stop(spec.droplet, "TERM", 30 * SECOND) is False
    stopped = (await driver.look())[spec.droplet]
    assert (stopped.state, stopped.exit_code, stopped.started) == ("exited", 0, running.started)
    assert stopped.finished is not None
    assert stopped.finished > running.started
    await driver.remove(spec.droplet)
    assert await driver.look() == {}


async def test_what_is_done_already_is_not_done_again(house: House, driver: Driver) -> None:
    each = mark()
    spec = house.script(f"sleep {each}; exit 1")
    for _ in range(2):
        await driver.create(spec)
    for _ in range(2):
        await driver.create(spec)
        await driver.start(spec.droplet)
    await until(lambda: len(sleepers(each)) > 0)
    started = (await driver.look())[spec.droplet].started
    await driver.start(spec.droplet)
    assert (await driver.look())[spec.droplet].started == started
    assert len(await driver.look()) == 1
    await driver.stop(spec.droplet, "KILL", SECOND)
    assert await driver.stop(spec.droplet, "TERM", SECOND) is False
    for _ in range(2):
        await driver.remove(spec.droplet)


async def test_it_starts_again_after_its_end_with_its_log_kept(house: House, driver: Driver) -> None:
    spec = await begun(driver, house.script("echo $$ life; exit 3"))
    assert await ended(driver, spec) == 3
    first = (await driver.look())[spec.droplet]
    async with asyncio.timeout(60), listening(driver.follow(spec.droplet, 1)) as heard:
        assert (await heard.get()).endswith(b" life")
        await driver.create(spec)
        await driver.start(spec.droplet)
        assert (await heard.get()).endswith(b" life")
        assert await ended(driver, spec) == 3
        assert heard.empty()
    assert ((await driver.look())[spec.droplet].started or 0) > (first.started or 0)
    assert [each.endswith(b" life") for each in await driver.logs(spec.droplet, 10)] == [True, True]


async def test_what_is_not_there_is_not_found(driver: Driver) -> None:
    there_is_none = "0123456789ab"
    for asked in (
        driver.start(there_is_none),
        driver.stop(there_is_none, "TERM", SECOND),
        driver.usage(there_is_none),
        driver.logs(there_is_none, 1),
        anext(driver.follow(there_is_none, 1)),
    ):
        with pytest.raises(NotFound) as refusal:
            await asked
        assert refusal.value.code == "droplet.gone"


async def test_hostile_names_and_arguments_arrive_literally_and_run_nothing(house: House, driver: Driver) -> None:
    spec = house.script('printf "<%s>" "$@"; echo', *HOSTILE, name="x;touch /tmp/never $(id) .* ../..")
    await begun(driver, spec)
    assert await ended(driver, spec) == 0
    said = b"\n".join(await driver.logs(spec.droplet, 100))
    assert said == "".join(f"<{each}>" for each in HOSTILE).encode()
    assert not await asyncio.to_thread(Path("/tmp/never").exists)


async def test_the_environment_arrives_unchanged_and_holds_nothing_of_ours(house: House, driver: Driver) -> None:
    os.environ["OSTIARY_SECRET"] = "never"
    env = {f"KEY_{number}": value for number, value in enumerate(HOSTILE)}
    spec = await begun(driver, house.script("cat /proc/self/environ", env=env))
    assert await ended(driver, spec) == 0
    there = dict(each.split(b"=", 1) for each in b"\n".join(await driver.logs(spec.droplet, 100)).split(b"\0") if each)
    assert {key.encode(): value.encode() for key, value in env.items()}.items() <= there.items()
    more = {key.decode() for key in there} - set(env)
    own = {"PATH", "LANG", "TZ", "DROPLET_ID", "HOSTNAME", "HOME", "PWD", "SHLVL", "OLDPWD", "_", "TERM", "container"}
    assert more <= own


async def test_a_droplet_has_no_open_files_of_ours(house: House, driver: Driver) -> None:
    spec = await begun(driver, house.script("for each in /proc/$$/fd/*; do echo ${each##*/}; done"))
    assert await ended(driver, spec) == 0
    standard = {b"0", b"1", b"2"}
    opened = set(await driver.logs(spec.droplet, 100))
    assert standard <= opened
    assert len(opened - standard) <= 1  # the shell's own, for the directory or its script


async def test_an_unknown_program_is_refused_and_named(house: House, driver: Driver) -> None:
    spec = msgspec.structs.replace(house.script(""), command=("no-such-program", "x"))
    await driver.create(spec)
    with pytest.raises(Invalid) as refusal:
        await driver.start(spec.droplet)
    assert refusal.value.code == "command.unknown"
    assert "no-such-program" in refusal.value.message
    assert (await driver.look())[spec.droplet].state == "created"


@pytest.mark.parametrize("what", ["command", "env"])
async def test_a_nul_is_refused(house: House, driver: Driver, what: str) -> None:
    spec = house.script("true", *(["a\0b"] if what == "command" else []), env={"A": "a\0b"} if what == "env" else {})
    with pytest.raises(Invalid) as refusal:
        await driver.create(spec)
    assert refusal.value.code == "command.invalid"
    assert await driver.look() == {}


async def test_an_unknown_signal_is_refused(house: House, driver: Driver) -> None:
    spec = await begun(driver, house.script(f"sleep {mark()}"))
    with pytest.raises(Invalid) as refusal:
        await driver.stop(spec.droplet, "NONE", SECOND)
    assert refusal.value.code == "signal.unknown"
    assert (await driver.look())[spec.droplet].state == "running"


# Logs


async def test_both_streams_and_an_unfinished_line_come_back(house: House, driver: Driver) -> None:
    spec = await begun(driver, house.script("echo out; echo err >&2; printf 'no end'"))
    assert await ended(driver, spec) == 0
    assert sorted(await driver.logs(spec.droplet, 10)) == [b"err", b"no end", b"out"]


async def test_a_line_of_a_mebibyte_comes_back_in_pieces(house: House, driver: Driver) -> None:
    spec = await begun(driver, house.script("head -c 1048576 /dev/zero | tr '\\0' x; echo; echo end"))
    assert await ended(driver, spec) == 0
    assert await driver.logs(spec.droplet, 100) == [b"x" * 16_384] * 64 + [b"end"]
    assert await lines(driver, spec, b"end") == [b"x" * 16_384] * 64 + [b"end"]


async def test_binary_output_comes_back(house: House, driver: Driver) -> None:
    spec = await begun(driver, house.script(r"printf '\000\377\r\n\200\n'"))
    assert await ended(driver, spec) == 0
    assert await driver.logs(spec.droplet, 10) == [b"\0\xff\r", b"\x80"]


async def test_only_the_last_lines_are_given(house: House, driver: Driver) -> None:
    spec = await begun(driver, house.script("seq 1 20000"))
    assert await ended(driver, spec) == 0
    for tail in (0, 1, 3, 10_000):
        expected = [str(each).encode() for each in range(20_001 - tail, 20_001)]
        assert await driver.logs(spec.droplet, tail) == expected


async def test_a_follower_sees_each_line_until_the_droplet_is_removed(house: House, driver: Driver) -> None:
    text = "trap 'echo told' USR1; trap 'exit 0' TERM; echo 1; echo 2; while :; do sleep 0.05; done"
    spec = await begun(driver, house.script(text))
    await lines(driver, spec, b"2")
    async with asyncio.timeout(60), listening(driver.follow(spec.droplet, 1)) as heard:
        assert await heard.get() == b"2"
        await driver.stop(spec.droplet, "TERM", 30 * SECOND)
        await driver.create(spec)
        await driver.start(spec.droplet)
        found = [await heard.get()]
        while found[-1] != b"2":
            found.append(await heard.get())
        assert found[-2:] == [b"1", b"2"]
        assert set(found) <= {b"Terminated", b"1", b"2"}


async def test_a_follower_is_let_go_when_the_droplet_is_removed(house: House, driver: Driver) -> None:
    spec = await begun(driver, house.script(f"echo 1; printf rest; exec sleep {mark()}"))
    await lines(driver, spec, b"1")

    following = driver.follow(spec.droplet, 10)
    assert await anext(following) == b"1"
    await driver.remove(spec.droplet)
    async with asyncio.timeout(30):
        assert [each async for each in following] in ([], [b"rest"])


# Ends


async def test_an_exit_code_is_told_as_it_is(house: House, driver: Driver) -> None:
    for code in (0, 3, 255):
        spec = await begun(driver, house.script(f"exit {code}"))
        assert await ended(driver, spec) == code


async def test_death_by_a_signal_is_told_as_128_and_its_number(house: House, driver: Driver) -> None:
    spec = await begun(driver, house.script(f"exec sleep {mark()}"))
    await driver.stop(spec.droplet, "KILL", 30 * SECOND)
    assert (await driver.look())[spec.droplet].exit_code == 137


async def test_who_watches_hears_of_every_life(house: House, driver: Driver) -> None:
    spec = house.script("exit 3")
    async with asyncio.timeout(60), listening(driver.watch()) as heard:
        for _ in range(3):
            await driver.create(spec)
            await driver.start(spec.droplet)
            await ended(driver, spec)
        await driver.remove(spec.droplet)
        told: list[Seen] = []
        while not told or told[-1].state != "gone":
            told.append(await heard.get())
    ends = [each for each in told if each.state == "exited"]
    assert [each.exit_code for each in ends] == [3, 3, 3]
    assert {each.droplet for each in told} == {spec.droplet}
    assert [each.finished for each in ends] == sorted(each.finished or 0 for each in ends)


async def test_stop_ends_children_and_who_left_their_parents_before_it_answers(house: House, driver: Driver) -> None:
    each = mark()
    text = f"""
        trap '' TERM; sleep {each} & (setsid sh -c "sleep {each} & exec env -i sleep {each}" &)
        echo ready; while :; do sleep 0.1; done"""
    spec = await begun(driver, house.script(text))
    await lines(driver, spec, b"ready")
    await until(lambda: len(sleepers(each)) == 3)
    assert await driver.stop(spec.droplet, "TERM", SECOND // 5) is True
    assert sleepers(each) == set()
    assert (await driver.look())[spec.droplet].state == "exited"


async def test_when_a_droplet_ends_nobody_of_it_stays(house: House, driver: Driver) -> None:
    each = mark()
    spec = await begun(driver, house.script(f"(setsid sleep {each} &); sleep 2; exit 4"))
    await until(lambda: len(sleepers(each)) == 1)
    assert await ended(driver, spec) == 4
    assert sleepers(each) == set()


async def test_who_ignores_the_signal_is_gone_soon_after_the_timeout_and_keeps_nobody(
    house: House, driver: Driver
) -> None:
    each = mark()
    slow = await begun(driver, house.script(STUBBORN.format(mark=each)))
    quick = await begun(driver, house.script("trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"))
    await both(lines(driver, slow, b"ready"), lines(driver, quick, b"ready"))
    began = time.monotonic()
    stopping = asyncio.create_task(driver.stop(slow.droplet, "TERM", SECOND))
    assert await driver.stop(quick.droplet, "TERM", 30 * SECOND) is False
    assert not stopping.done()
    assert await stopping is True
    assert time.monotonic() - began >= 1
    assert sleepers(each) == set()


async def test_many_at_once_are_as_many(house: House, driver: Driver) -> None:
    each = mark()
    count = 20 if house.kind == "process" else 4  # an engine takes its time
    specs = [house.script(f"exec sleep {each}") for _ in range(count)]
    await both(*(begun(driver, spec) for spec in specs))
    await until(lambda: len(sleepers(each)) == count)
    assert {key: seen.state for key, seen in (await driver.look()).items()} == {
        spec.droplet: "running" for spec in specs
    }
    await both(*(driver.remove(spec.droplet) for spec in specs))
    assert (sleepers(each), await driver.look()) == (set(), {})


# Limits and use


async def test_who_needs_more_memory_than_it_may_ends_and_nobody_else_does(house: House, driver: Driver) -> None:
    if "memory" not in driver.enforced:
        pytest.skip("memory cannot be limited here")
    each = mark()
    other = await begun(driver, house.script(f"exec sleep {each}"))
    text = "exec dd if=/dev/zero of=/dev/null bs=200000000 count=1"
    spec = await begun(driver, house.script(text, limits=Limits(memory=32 * 1024 * 1024)))
    assert await ended(driver, spec, 30) == 137
    told = (await driver.look())[spec.droplet].out_of_memory
    assert told is (house.kind != "podman")  # which does not say so of control groups of version 1
    assert (await driver.look())[other.droplet].state == "running"


async def test_a_fork_bomb_stays_within_its_processes_and_can_be_removed(house: House, driver: Driver) -> None:
    if "pids" not in driver.enforced:
        pytest.skip("processes cannot be limited here")
    each = mark()
    text = f"bomb() {{ bomb & bomb & sleep {each}; }}; bomb & exec sleep {each}"
    spec = await begun(driver, house.script(text, limits=Limits(pids=16)))
    await until(lambda: len(sleepers(each)) > 0)
    assert len(sleepers(each)) <= 16
    assert 2 <= ((await driver.usage(spec.droplet)).pids or 0) <= 16
    await driver.remove(spec.droplet)
    assert sleepers(each) == set()


async def test_the_share_of_a_processor_holds_and_is_seen_in_what_is_used(house: House, driver: Driver) -> None:
    if "cpu" not in driver.enforced:
        pytest.skip("shares of a processor cannot be limited here")
    spec = await begun(driver, house.script("while :; do :; done", limits=Limits(cpu=0.25)))
    idle = await begun(driver, house.script(f"exec sleep {mark()}"))
    quiet, began, before = await seconds(driver, idle), time.monotonic(), await seconds(driver, spec)
    used = 0.0
    while used < 0.4:  # where others are busy it may get less than its share
        used = await seconds(driver, spec) - before
    assert used / (time.monotonic() - began) < 0.3
    assert await seconds(driver, idle) - quiet < 0.05


async def seconds(driver: Driver, spec: Spec) -> float:
    """What a droplet has used of processors."""
    return (await driver.usage(spec.droplet)).cpu_seconds or 0.0


async def test_memory_in_use_is_told(house: House, driver: Driver) -> None:
    small = await begun(driver, house.script(f"exec sleep {mark()}"))
    large = await begun(
        driver, house.script(f"x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo ready; sleep {mark()}; exit 1")
    )
    await lines(driver, large, b"ready", 30)
    little, much = await driver.usage(small.droplet), await driver.usage(large.droplet)
    assert (much.memory_bytes or 0) - (little.memory_bytes or 0) > 15_000_000
    assert (little.pids, much.pids) == (1, 2)


# Whoever uses the driver is killed


@pytest.mark.parametrize("delay", [0.0, 0.03])
@pytest.mark.parametrize("step", STEPS)
async def test_who_opens_next_finds_all_as_it_is_wherever_the_former_was_killed(
    house: House, driver: Driver, step: str, delay: float
) -> None:
    each = mark()
    spec = house.script(STUBBORN.format(mark=each))
    await driver.close(stop=False)
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.drivers.victim", house.kind, house.place, house.node,
        msgspec.json.encode(spec).decode(), *STEPS[step], stdout=subprocess.PIPE,
    )  # fmt: skip
    assert victim.stdout is not None
    async with asyncio.timeout(60):
        while (await victim.stdout.readline()).decode().strip() != step:
            assert victim.returncode is None
        await asyncio.sleep(delay)
    victim.send_signal(signal.SIGKILL)
    await victim.wait()
    after = house.driver()
    await after.open()
    seen = (await after.look()).get(spec.droplet)
    await after.create(spec)
    await after.start(spec.droplet)
    await until(lambda: len(sleepers(each)) == 1)
    if step == "done":
        assert seen is not None
        assert (await after.look())[spec.droplet].started == seen.started
    await after.remove(spec.droplet)
    assert (await after.look(), sleepers(each)) == ({}, set())
    await after.close(stop=False)


async def test_droplets_live_on_after_a_close_unless_it_says_stop(house: House, driver: Driver) -> None:
    each = mark()
    spec = await begun(driver, house.script(f"exec sleep {each}"))
    before = await driver.look()
    await driver.close(stop=False)
    after = house.driver()
    await after.open()
    assert await after.look() == before
    await until(lambda: len(sleepers(each)) == 1)
    ending = asyncio.create_task(after.close(stop=True))
    os.kill(next(iter(sleepers(each))), signal.SIGKILL)
    await ending
    assert sleepers(each) == set()
    last = house.driver()
    await last.open()
    assert (await last.look())[spec.droplet].state == "exited"
    await last.close(stop=False)
