"""The process that hashes strangers' passwords: how it gives way, how it ends, and what it lets be seen."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ostiary.control.argon2id import OWASP, Cost
from ostiary.control.passwords import Passwords, Thread
from ostiary.core.refusal import Unavailable
from ostiary.node.hashing import HashingProcess, Hastened

QUICK = Cost(1, 8)
SALT = bytes(16)
LIMIT = 60.0
PATIENT = 100.0
"""Seconds that a hash may take where other tests want all of the time."""
PARENT = """
import asyncio, os, signal
from ostiary.control.argon2id import Cost
from ostiary.node.hashing import HashingProcess

async def main():
    hashing = HashingProcess()
    await hashing.make(b"right", bytes(16), Cost(1, 8))
    print(hashing.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.fixture
async def hashing() -> AsyncIterator[HashingProcess]:
    made = HashingProcess(patience=PATIENT)
    yield made
    await made.end()


def has_ended(pid: int) -> bool:
    """Whether a process ends, or has ended."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], LIMIT)[0])
    finally:
        os.close(watched)


def seen(pid: int, *names: str) -> bytes:
    """Files of a process in /proc, one after the other."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in names)


def policies(pid: int) -> set[int]:
    """Of all threads of a process."""
    return {os.sched_getscheduler(int(each.name)) for each in Path(f"/proc/{pid}/task").iterdir()}


def sacrificed() -> int:
    """The pid of a hashing process whose control has killed itself."""
    parent = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, timeout=LIMIT, check=False)
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    return int(parent.stdout)


async def test_what_it_makes_is_verified(hashing: HashingProcess) -> None:
    kept = await hashing.make(b"right", SALT, QUICK)
    assert kept.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert [await hashing.verify(kept, presented) for presented in (b"right", b"wrong", b"")] == [True, False, False]
    assert await hashing.verify("no argon2id text", b"right") is False


async def test_it_is_started_at_the_first_hash_and_works_only_when_nobody_else_does(hashing: HashingProcess) -> None:
    assert hashing.pid == 0
    await hashing.make(b"right", SALT, QUICK)
    assert policies(hashing.pid) == {os.SCHED_IDLE}


async def test_signals_to_the_whole_node_do_not_end_it(hashing: HashingProcess) -> None:
    kept = await hashing.make(b"right", SALT, QUICK)
    pid = hashing.pid
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        os.kill(pid, number)
    assert await hashing.verify(kept, b"right")
    assert hashing.pid == pid


async def test_one_that_was_killed_is_replaced(hashing: HashingProcess) -> None:
    kept = await hashing.make(b"right", SALT, QUICK)
    before = hashing.pid
    os.kill(before, signal.SIGKILL)
    assert await hashing.verify(kept, b"right")
    assert hashing.pid != before
    assert has_ended(before)


async def test_one_that_is_killed_over_a_hash_is_replaced_and_the_hash_is_made(hashing: HashingProcess) -> None:
    await hashing.make(b"right", SALT, QUICK)
    before = hashing.pid
    os.kill(before, signal.SIGSTOP)  # so that it is surely under way
    verifying = asyncio.create_task(hashing.make(b"right", SALT, QUICK))
    await asyncio.sleep(0)
    os.kill(before, signal.SIGKILL)
    assert (await verifying).startswith("$argon2id$")
    assert hashing.pid != before


async def test_one_that_does_not_answer_is_replaced() -> None:
    hashing = HashingProcess(patience=LIMIT / 6)
    kept = await hashing.make(b"right", SALT, QUICK)
    before = hashing.pid
    os.kill(before, signal.SIGSTOP)
    assert await hashing.verify(kept, b"right")
    assert has_ended(before)
    await hashing.end()


class Counting(Thread):
    """Says how often it was asked."""

    asked = 0

    async def verify(self, kept: str, presented: bytes) -> bool:
        self.asked += 1
        return await super().verify(kept, presented)


async def is_late(hastened: Hastened, late: Counting, kept: str) -> bool:
    """Whether the process still has no time."""
    before = late.asked
    assert await hastened.verify(kept, b"right")
    return late.asked > before


async def test_who_waits_too_long_for_the_process_is_answered_without_it(hashing: HashingProcess) -> None:
    kept = await hashing.make(b"right", SALT, QUICK)
    late = Counting("late")
    hastened = Hastened(hashing, late, hurry=0.2)
    os.kill(hashing.pid, signal.SIGSTOP)
    assert await hastened.verify(kept, b"right")
    assert not await hastened.verify(kept, b"wrong")  # the process is still at the first
    assert late.asked == 2
    os.kill(hashing.pid, signal.SIGCONT)
    async with asyncio.timeout(LIMIT):
        while await is_late(hastened, late, kept):
            pass
    hastened.close()


async def test_what_the_process_refuses_is_refused() -> None:
    hastened = Hastened(HashingProcess(["/nowhere/python"]), Thread("late"), hurry=PATIENT)
    with pytest.raises(Unavailable):
        await hastened.make(b"right", SALT, QUICK)
    hastened.close()


@pytest.mark.parametrize("command", [["/nowhere/python"], [sys.executable, "-c", "raise SystemExit(3)"]])
async def test_where_it_cannot_be_started_nobody_is_let_in(command: list[str]) -> None:
    hashing = HashingProcess(command)
    with pytest.raises(Unavailable) as caught:
        await hashing.make(b"right", SALT, QUICK)
    assert (caught.value.code, hashing.pid) == ("passwords.busy", 0)


def test_it_ends_with_control() -> None:
    assert has_ended(sacrificed())


async def test_nothing_secret_is_in_its_command_line_or_environment(
    hashing: HashingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTIARY_BOOTSTRAP_PASSWORD", "kept in the environment")
    monkeypatch.setenv("DB_PASSWORD", "kept there too")
    await hashing.make(b"a password of a stranger", SALT, QUICK)
    found = seen(hashing.pid, "cmdline", "environ")
    assert b"hasher" in found
    assert [secret for secret in (b"stranger", b"kept in", b"kept there") if secret in found] == []


async def test_it_leaves_no_image_of_itself(hashing: HashingProcess) -> None:
    await hashing.make(b"right", SALT, QUICK)
    [line] = [each for each in seen(hashing.pid, "limits").splitlines() if each.startswith(b"Max core")]
    assert line.split()[4:6] == [b"0", b"0"]


async def test_a_stranger_who_knows_the_password_gets_in_beside_guessers(hashing: HashingProcess) -> None:
    passwords = Passwords(os.urandom, OWASP, hashing)
    kept = await passwords.make("right", known=False)
    guesses = [asyncio.create_task(passwords.verify(kept, f"guess {each}", doubt=9)) for each in range(32)]
    await asyncio.sleep(0)
    assert await passwords.verify(kept, "right", doubt=0)
    assert sum(guess.done() for guess in guesses) <= 2  # the one under way, and the one that was sent away
    passwords.close()
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert True not in outcomes


def test_it_imports_little() -> None:
    code = "import ostiary.node.__main__, ostiary.node.hasher, argon2, sys; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    ours = sorted(name for name in found if name.startswith("ostiary."))
    assert ours == [
        "ostiary.control",
        "ostiary.control.argon2id",
        "ostiary.node",
        "ostiary.node.__main__",
        "ostiary.node.hasher",
    ]
    assert {"asyncio", "logging", "ssl", "uvloop"} & set(found) == set()
