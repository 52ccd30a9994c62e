"""Two processes on one database: of two that race for one thing, one wins, and the change log has no gap."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tests.store.test_families import asked, code
from tests.store.values import BASIC, NOW, RECORD, SECRET, application, furnish

from ostiary.core.digest import digest
from ostiary.core.refusal import Conflict
from ostiary.store.ports import Ended, Issued
from ostiary.store.sql import Sql
from ostiary.store.store import Store, open_store

EACH = 16


@pytest.fixture
async def stores(url: str, store: Store) -> AsyncIterator[list[Store]]:
    """Two on the same database; neither knows of the other."""
    other = await open_store(url, alone=False)
    yield [store, other]
    await other.close()


async def race(stores: list[Store], work: Callable[[Store, int], Awaitable[object]]) -> list[object]:
    """What becomes of EACH tries of each store, all at once; each try has a number."""
    tries = (work(store, EACH * which + each) for each in range(EACH) for which, store in enumerate(stores))
    return await asyncio.gather(*tries, return_exceptions=True)


async def test_one_registration_of_an_id_wins(stores: list[Store]) -> None:
    await stores[0].scopes.create(BASIC, RECORD)
    outcomes = await race(
        stores, lambda store, each: store.applications.create(application(name=str(each)), SECRET, RECORD)
    )
    assert [type(each) for each in outcomes].count(int) == 1
    assert [each.code for each in outcomes if isinstance(each, Conflict)] == ["application.exists"] * (2 * EACH - 1)


async def test_one_use_of_a_code_wins_and_the_next_ends_its_family(stores: list[Store]) -> None:
    await furnish(stores[0])
    await code(stores[0], "c")
    outcomes = await race(
        stores, lambda store, each: store.tokens.issue(asked(f"t{each}", "authorization_code", "c"), RECORD)
    )
    await one_wins_and_the_next_ends_the_family(stores, outcomes)


async def test_one_use_of_a_rotating_refresh_token_wins_and_the_next_ends_its_family(stores: list[Store]) -> None:
    await furnish(stores[0])
    await stores[0].tokens.issue(asked("t", "password", user="alice"), RECORD)
    outcomes = await race(
        stores, lambda store, each: store.tokens.issue(asked(f"t{each}", "refresh_token", "r-t", strict=True), RECORD)
    )
    await one_wins_and_the_next_ends_the_family(stores, outcomes)


async def one_wins_and_the_next_ends_the_family(stores: list[Store], outcomes: list[object]) -> None:
    assert [type(each) for each in outcomes].count(Issued) == 1
    assert [bool(each.seq) for each in outcomes if isinstance(each, Ended)].count(True) == 1
    tokens = [digest(f"t{each}") for each in range(2 * EACH)]
    assert [await store.tokens.live(tokens, NOW) for store in stores] == [{}, {}]


async def test_of_many_refreshes_of_one_family_one_access_token_stays(stores: list[Store]) -> None:
    await furnish(stores[0])
    await stores[0].tokens.issue(asked("t", "password", user="alice"), RECORD)
    outcomes = await race(
        stores, lambda store, each: store.tokens.issue(asked(f"t{each}", "refresh_token", "r-t"), RECORD)
    )
    assert [type(each) for each in outcomes] == [Issued] * 2 * EACH
    replaced = {gone for each in outcomes if isinstance(each, Issued) for gone in each.replaced}
    tokens = {digest("t"), *(digest(f"t{each}") for each in range(2 * EACH))}
    assert tokens - replaced == set(await stores[1].tokens.live(sorted(tokens), NOW))
    assert len(tokens - replaced) == 1


async def test_a_revocation_and_issues_at_once_are_in_one_order(stores: list[Store]) -> None:
    await furnish(stores[0])

    async def work(store: Store, each: int) -> object:
        if each % 4:
            return await store.tokens.issue(asked(f"t{each}", "password", user="alice"), RECORD)
        return await store.tokens.revoke_user("alice", NOW, RECORD)

    await race(stores, work)
    last = await stores[1].tokens.revoke_user("alice", NOW, RECORD)
    for each in range(2 * EACH):
        token = await stores[0].tokens.get(digest(f"t{each}")) if each % 4 else None
        assert token is None or token.revoked
    assert last.seq == await stores[0].changes.newest()


async def test_the_change_log_has_no_gap_although_some_fail(stores: list[Store]) -> None:
    def failing(sql: Sql) -> None:
        sql.change("INSERT INTO changes (seq, at, kind, subject) SELECT MAX(seq) + 1, 0, 'x', 'x' FROM changes")
        raise ZeroDivisionError

    async def work(store: Store, each: int) -> object:
        if each % 3:
            return await store.applications.create(application(f"{each % 7:04x}"), SECRET, RECORD)
        return await store.writer.each(failing)

    await stores[0].scopes.create(BASIC, RECORD)
    await race(stores, work)
    changes = await stores[0].changes.after(0, 1000)
    assert [change.seq for change in changes] == list(range(1, 9))
    assert await stores[1].changes.newest() == 8
