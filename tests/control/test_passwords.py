"""Whose password is checked first, and who is sent away, when there are more than can be checked."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from ostiary.control.argon2id import Cost
from ostiary.control.passwords import WAITING, Passwords
from ostiary.core.refusal import Unavailable

QUICK = Cost(1, 8)


class Desk:
    """Passwords, and in which order their hashes ended. `salts`: how many were made."""

    def __init__(self) -> None:
        self.salts = 0
        self.passwords = Passwords(self.entropy, QUICK)
        self.checked: list[str] = []
        self.refused: list[str] = []

    def entropy(self, count: int) -> bytes:
        self.salts += 1
        return bytes(count)

    async def check(self, kept: str, name: str, doubt: int) -> None:
        try:
            await self.passwords.verify(kept, name, doubt=doubt)
        except Unavailable as refusal:
            assert refusal.code == "passwords.busy"
            self.refused.append(name)
        else:
            self.checked.append(name)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    desk.passwords.close()


async def test_who_has_failed_less_goes_first(desk: Desk) -> None:
    kept = await desk.passwords.make("right")
    asking = [("first", 9), ("c", 3), ("a", 1), ("b", 2), ("late a", 1), ("new", 0)]
    await asyncio.gather(*(desk.check(kept, name, doubt) for name, doubt in asking))
    assert desk.checked == ["first", "new", "a", "late a", "b", "c"]


async def test_one_who_has_not_failed_takes_the_place_of_who_failed_most_and_came_last(desk: Desk) -> None:
    kept = await desk.passwords.make("right")
    guesses = [desk.check(kept, f"guess {each}", 5 if each != 7 else 6) for each in range(WAITING)]
    await asyncio.gather(*guesses, desk.check(kept, "right", 0), desk.check(kept, "wrong", 4))
    assert desk.refused == ["guess 7", f"guess {WAITING - 1}"]
    assert desk.checked[:3] == ["guess 0", "right", "wrong"]
    assert len(desk.checked) == WAITING


async def test_nobody_takes_the_place_of_an_equal(desk: Desk) -> None:
    kept = await desk.passwords.make("right")
    await asyncio.gather(*(desk.check(kept, f"guess {each}", 5) for each in range(WAITING + 2)))
    assert desk.refused == [f"guess {WAITING}", f"guess {WAITING + 1}"]


async def test_who_is_known_waits_for_no_stranger(desk: Desk) -> None:
    kept = await desk.passwords.make("right")
    strangers = [asyncio.create_task(desk.check(kept, f"guess {each}", 0)) for each in range(WAITING)]
    assert await desk.passwords.verify(kept, "right", known=True)
    await asyncio.gather(*strangers)
    assert len(desk.checked) == WAITING


async def test_what_nobody_waits_for_any_more_is_not_hashed(desk: Desk) -> None:
    first, *gone = [asyncio.create_task(desk.passwords.make(f"{each}")) for each in range(10)]
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    await first
    await desk.passwords.make("last")
    assert desk.salts == 3  # the key under which passwords are remembered, the first and the last


async def test_a_failure_of_a_hash_reaches_who_asked_and_the_next_is_served() -> None:
    salts = itertools.chain([bytes(32), bytes(1)], itertools.repeat(bytes(16)))  # a salt of one byte is refused
    passwords = Passwords(lambda count: next(salts), QUICK)
    made = await asyncio.gather(passwords.make("first"), passwords.make("second"), return_exceptions=True)
    passwords.close()
    assert [type(each).__name__ for each in made] == ["HashingError", "str"]


async def test_an_end_leaves_nobody_waiting(desk: Desk) -> None:
    made = [asyncio.create_task(desk.passwords.make(f"{each}")) for each in range(5)]
    await asyncio.sleep(0)
    desk.passwords.close()
    outcomes = await asyncio.gather(*made, return_exceptions=True)
    assert [type(each) for each in outcomes[1:]] == [asyncio.CancelledError] * 4
