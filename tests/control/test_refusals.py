"""What the audit has of refusals: each by itself, but those of whoever is barred by the second."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.control.house import House, opened

from ostiary.control.call import Call
from ostiary.control.refusals import Refusals
from ostiary.core.refusal import Limited, NotFound, Refusal, Unavailable
from ostiary.store.changes import SqlAudit
from ostiary.store.ports import Record
from ostiary.store.sql import Line

HERE, THERE = "192.0.2.1", "192.0.2.2"
LIMIT = 60.0
BARRED = Limited("login.throttled", "Too many", 30)


class Away(SqlAudit):
    """An audit that takes nothing."""

    async def append(self, *records: Record) -> None:
        raise Unavailable("store.unavailable", "The store cannot be reached")


class Noting(SqlAudit):
    """An audit that notes how many records come at once."""

    def __init__(self, writer: Line, lister: Line) -> None:
        super().__init__(writer, lister)
        self.at_once: list[int] = []

    async def append(self, *records: Record) -> None:
        self.at_once.append(len(records))
        await super().append(*records)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path / "ostiary.db") as built:
        yield built


async def keep(
    house: House, refusals: Refusals, address: str, refusal: Refusal, times: int = 1, name: str = ""
) -> None:
    for _ in range(times):
        call = Call(surface="doorman", address=address, operation=name or "login.password", target="ann")
        await refusals.keep(house.control, call, refusal)


async def told(house: House) -> list[tuple[str, str, str]]:
    """Address, outcome and target of the records, oldest first."""
    return [(each.address, each.outcome, each.target) for each in reversed(await house.records())]


async def test_the_first_stands_there_at_once_and_the_others_as_a_number(house: House) -> None:
    refusals = Refusals()
    await keep(house, refusals, HERE, BARRED, 213)
    assert await told(house) == [(HERE, "login.throttled", "ann")]
    await refusals.settled()
    assert await told(house) == [(HERE, "login.throttled", "ann"), (HERE, "login.throttled", "212 more")]


async def test_addresses_and_operations_are_counted_apart(house: House) -> None:
    refusals = Refusals()
    for address in (HERE, THERE):
        await keep(house, refusals, address, BARRED, 2)
    await keep(house, refusals, HERE, BARRED, 3, "login.totp")
    await refusals.settled()
    first = [(HERE, "login.throttled", "ann"), (THERE, "login.throttled", "ann"), (HERE, "login.throttled", "ann")]
    more = [(HERE, "1 more"), (THERE, "1 more"), (HERE, "2 more")]
    assert await told(house) == [*first, *((address, "login.throttled", target) for address, target in more)]


async def test_who_is_not_barred_is_named_each_time(house: House) -> None:
    refusals = Refusals()
    await keep(house, refusals, HERE, NotFound("user.unknown", "There is no such user"), 3)
    assert await told(house) == [(HERE, "user.unknown", "ann")] * 3


async def test_a_period_ends_by_itself(house: House) -> None:
    refusals = Refusals(period=0.001)
    await asyncio.gather(*(keep(house, refusals, HERE, BARRED) for _ in range(3)))
    async with asyncio.timeout(LIMIT):
        while (HERE, "login.throttled", "2 more") not in await told(house):
            pass
    async with asyncio.timeout(LIMIT):
        while len(await told(house)) < 3:  # once a period has passed in which none came, one is a first one again
            await keep(house, refusals, HERE, BARRED)
    assert {target for _, _, target in await told(house)} <= {"ann", "1 more", "2 more"}


async def test_what_the_store_does_not_take_is_told_to_the_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals()
    await keep(house, refusals, HERE, BARRED, 3)
    house.control.audit = Away(house.store.writer, house.store.writer)
    await refusals.settled()
    assert [each.getMessage() for each in caplog.records] == [
        "2 refusals are missing in the audit: The store cannot be reached"
    ]


async def test_those_of_all_addresses_are_written_together(house: House) -> None:
    refusals = Refusals()
    for address in (HERE, THERE):
        await keep(house, refusals, address, BARRED, 3)
    house.control.audit = audit = Noting(house.store.writer, house.store.writer)
    await refusals.settled()
    assert audit.at_once == [2]
    assert await told(house) == [*((each, "login.throttled", "ann") for each in (HERE, THERE)),
                                 *((each, "login.throttled", "2 more") for each in (HERE, THERE))]  # fmt: skip


async def test_one_more_is_counted_only_where_the_audit_has_a_first(house: House) -> None:
    refusals = Refusals()
    who = (HERE, "doorman", "login.password", "")
    assert not refusals.one_more(who)
    await keep(house, refusals, HERE, BARRED)
    assert refusals.one_more(who)
    assert not refusals.one_more((THERE, *who[1:]))
    await refusals.settled()
    assert await told(house) == [(HERE, "login.throttled", "ann"), (HERE, "login.throttled", "1 more")]
