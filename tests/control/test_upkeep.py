"""The rounds of upkeep: how much at once, how long at rest, and what a store that is away does to them."""

import asyncio
from collections import deque
from pathlib import Path

import pytest
from tests.control.house import NOW, opened
from tests.store.values import RECORD, furnish, request

from ostiary.control.upkeep import EVERY, REST, Upkeep
from ostiary.core.refusal import Unavailable
from ostiary.store.purge import MOST, STALE, SqlPurge, Stale
from ostiary.store.tokens import KEPT

TOOK = 5_000
"""Microseconds that each transaction takes here."""


class Purge:
    """Has some rows in one table, and may be away."""

    def __init__(self, *outcomes: int | Unavailable) -> None:
        self.outcomes = deque(outcomes)
        self.ticks = 0
        self.moments: set[int] = set()

    async def purge(self, stale: Stale, now: int) -> int:
        self.ticks += TOOK
        self.moments.add(now)
        outcome = self.outcomes.popleft() if stale.table == "tokens" and self.outcomes else 0
        if isinstance(outcome, Unavailable):
            raise outcome
        return outcome


class Pauses:
    """Remembers pauses; the one at which `enough` rounds are over never ends."""

    def __init__(self, rounds: int) -> None:
        self.seconds: list[float] = []
        self.rounds = rounds
        self.enough = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if self.seconds.count(EVERY) == self.rounds:
            self.enough.set()
            await asyncio.Event().wait()


async def paused(purge: Purge, rounds: int = 1) -> list[float]:
    """The pauses of so many rounds."""
    pauses = Pauses(rounds)
    running = asyncio.create_task(Upkeep(purge, lambda: NOW, lambda: purge.ticks, pauses).run())
    await pauses.enough.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    return pauses.seconds


async def test_each_transaction_is_followed_by_a_longer_rest() -> None:
    purge = Purge(MOST, MOST, 7)
    rest = REST * TOOK / 1e6
    assert await paused(purge) == [rest, rest, rest, EVERY]
    assert purge.moments == {NOW}


async def test_a_store_that_is_away_is_tried_again_in_the_next_round(caplog: pytest.LogCaptureFixture) -> None:
    away = Unavailable("store.unavailable", "The store cannot be reached")
    purge = Purge(MOST, away, MOST)
    rest = REST * TOOK / 1e6
    assert await paused(purge, 2) == [rest, EVERY, rest, EVERY]
    assert [record.getMessage() for record in caplog.records] == [
        "Expired rows stay for now: The store cannot be reached"
    ]


async def test_a_round_leaves_nothing_that_is_over(tmp_path: Path) -> None:
    async with opened(tmp_path / "ostiary.db") as house:
        await furnish(house.store)
        await asyncio.gather(*(house.store.tokens.issue(request(str(each)), RECORD) for each in range(2 * MOST + 1)))
        house.now += 1800 * 10**6 + KEPT + 1
        upkeep = Upkeep(SqlPurge(house.store.writer), house.clock, lambda: 0, lambda seconds: asyncio.sleep(0))
        gone = await upkeep.round()
        assert gone["tokens"] == 2 * MOST + 1
        assert gone["changes"] == await house.store.changes.newest() - 1
        assert await upkeep.round() == {stale.table: 0 for stale in STALE}
