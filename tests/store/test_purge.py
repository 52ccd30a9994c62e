"""What goes when its time is over, and what stays."""

import asyncio
import signal
import subprocess
import sys

from msgspec.structs import replace
from tests.store.values import NOW, RECORD, furnish, request

from ostiary.core.digest import digest
from ostiary.core.people import KNOWN_FOR, Kind
from ostiary.core.refusal import Refusal
from ostiary.store.changes import append
from ostiary.store.people import NewCredential, NewUser, Proof
from ostiary.store.ports import RecordFilter
from ostiary.store.purge import DAY, MOST, STALE, SqlPurge
from ostiary.store.sql import Sql
from ostiary.store.store import Store, open_store
from ostiary.store.tokens import KEPT

LIFE = 1800 * 10**6
TOKENS, CHANGES = STALE[:2]


async def count(store: Store, table: str) -> int:
    rows = await store.lister.each(lambda sql: sql.rows(f"SELECT COUNT(*) FROM {table}"))
    return int(rows[0][0])


async def purged(store: Store, now: int) -> list[int]:
    """Everything that is over: how many rows each transaction deleted, the last that found none included."""
    purge, steps = SqlPurge(store.writer), []
    for stale in STALE:
        steps.append(await purge.purge(stale, now))
        while steps[-1]:
            steps.append(await purge.purge(stale, now))
    return steps


async def test_a_token_stays_a_day_after_its_end_and_then_goes(store: Store) -> None:
    await furnish(store)
    await store.tokens.issue(request("early"), RECORD)
    await store.tokens.issue(replace(request("late"), now=NOW + 1), RECORD)
    over = NOW + LIFE + KEPT
    assert await SqlPurge(store.writer).purge(TOKENS, over) == 0
    assert await SqlPurge(store.writer).purge(TOKENS, over + 1) == 1
    assert await store.tokens.get(digest("early")) is None
    assert await store.tokens.get(digest("late")) is not None


async def test_no_transaction_deletes_more_than_its_share(store: Store) -> None:
    await furnish(store)
    await asyncio.gather(*(store.tokens.issue(request(str(each)), RECORD) for each in range(2 * MOST + 5)))
    purge = SqlPurge(store.writer)
    assert [await purge.purge(TOKENS, NOW + LIFE + 2 * KEPT) for _ in range(4)] == [MOST, MOST, 5, 0]


async def logged(store: Store, *moments: int) -> None:
    def unit(sql: Sql) -> None:
        for at in moments:
            append(sql, at, "x", "y")

    await store.writer.each(unit)


async def kept_changes(store: Store) -> list[int]:
    return [change.seq for change in await store.changes.after(0, 10_000)]


async def test_changes_go_from_the_oldest_on_and_leave_no_gap_whatever_their_clocks_said(store: Store) -> None:
    await logged(store, NOW, NOW + 1, NOW + DAY, NOW + 2, NOW + 3)
    await purged(store, NOW + DAY + 10)
    assert await kept_changes(store) == [3, 4, 5]


async def test_the_newest_change_stays_for_ever_and_numbers_go_on_after_it(store: Store) -> None:
    await logged(store, *[NOW] * (2 * MOST + 1))
    await purged(store, NOW + 2 * DAY)
    assert await kept_changes(store) == [2 * MOST + 1]
    await logged(store, NOW)
    assert await kept_changes(store) == [2 * MOST + 1, 2 * MOST + 2]
    assert await SqlPurge(store.writer).purge(CHANGES, NOW + 2 * DAY) == 1
    assert await store.changes.newest() == 2 * MOST + 2


async def test_the_audit_never_goes(store: Store) -> None:
    await furnish(store)
    before = await count(store, "audit")
    await purged(store, NOW + 10_000 * DAY)
    assert await count(store, "audit") == before
    assert len(await store.audit.page(RecordFilter())) == before


async def test_an_empty_store_has_nothing_to_purge(store: Store) -> None:
    assert await purged(store, NOW) == [0] * len(STALE)


async def test_a_purge_among_issues_takes_none_of_theirs(store: Store) -> None:
    await furnish(store)
    await asyncio.gather(*(store.tokens.issue(request(f"old/{each}"), RECORD) for each in range(500)))
    now = NOW + LIFE + 2 * KEPT
    fresh = [replace(request(f"new/{each}"), now=now) for each in range(500)]
    steps, *outcomes = await asyncio.gather(
        purged(store, now), *(store.tokens.issue(each, RECORD) for each in fresh), return_exceptions=True
    )
    assert not [each for each in outcomes if isinstance(each, Refusal)]
    assert isinstance(steps, list)
    assert len(await store.tokens.live([each.digest for each in fresh], now)) == 500
    assert await count(store, "tokens") == 500


async def test_credentials_stay_a_day_after_their_end_and_used_refresh_tokens_too(store: Store) -> None:
    user = await store.users.create(NewUser("ann", "viewer", NOW), RECORD)

    def made(name: str, kind: Kind, expires: int) -> NewCredential:
        return NewCredential(digest(name), kind, b"family", NOW, expires, NOW)

    pair = [made("access", Kind.ACCESS, NOW + 1), made("refresh", Kind.REFRESH, NOW + 2)]
    await store.credentials.open(Proof(user.number), pair, RECORD, "192.0.2.1")
    await store.credentials.replace(digest("refresh"), [made("next", Kind.REFRESH, NOW + 9)], RECORD)
    for name in ("lasting", "ended"):
        await store.credentials.create(user.number, made(name, Kind.PERSONAL, 0), RECORD)
    await store.credentials.end_all(user.number, [Kind.PERSONAL], RECORD)
    await store.credentials.create(user.number, made("live", Kind.PERSONAL, 0), RECORD)

    async def kept(now: int) -> set[str]:
        await purged(store, now)
        names = ("access", "refresh", "next", "lasting", "ended", "live")
        return {name for name in names if await store.credentials.find(digest(name)) is not None}

    assert await kept(NOW + DAY) == {"access", "refresh", "next", "lasting", "ended", "live"}
    assert await kept(NOW + DAY + 2) == {"refresh", "next", "live"}
    assert await kept(NOW + DAY + 9) == {"next", "live"}
    assert await kept(NOW + 9000 * DAY) == {"live"}


async def test_addresses_are_known_for_thirty_days(store: Store) -> None:
    user = await store.users.create(NewUser("ann", "viewer", NOW), RECORD)
    await store.credentials.open(Proof(user.number), [], RECORD, "192.0.2.1")
    await purged(store, RECORD.at + KNOWN_FOR)
    assert await count(store, "known_addresses") == 1
    await purged(store, RECORD.at + KNOWN_FOR + 1)
    assert await count(store, "known_addresses") == 0


PURGER = """
import asyncio, sys
from tests.store.test_purge import LIFE, TOKENS
from tests.store.values import NOW
from ostiary.store.purge import SqlPurge
from ostiary.store.store import open_store
from ostiary.store.tokens import KEPT

async def main():
    store = await open_store(sys.argv[1])
    while await SqlPurge(store.writer).purge(TOKENS, NOW + LIFE + 2 * KEPT):
        print("gone", flush=True)

asyncio.run(main())
"""


def said_until_killed(url: str) -> int:
    """How many transactions a purging process had told of when it was killed."""
    purger = subprocess.Popen([sys.executable, "-c", PURGER, url], stdout=subprocess.PIPE, text=True)
    assert purger.stdout is not None
    assert purger.stdout.readline() == "gone\n"
    purger.send_signal(signal.SIGKILL)
    said = 1 + len(purger.stdout.read().splitlines())
    purger.stdout.close()
    purger.wait()
    return said


async def test_a_purge_that_is_killed_has_deleted_whole_transactions(url: str, store: Store) -> None:
    await furnish(store)
    await asyncio.gather(*(store.tokens.issue(request(str(each)), RECORD) for each in range(10 * MOST)))
    said = said_until_killed(url)
    left = await count(store, "tokens")
    assert left % MOST == 0
    assert left <= 10 * MOST - said * MOST
    again = await open_store(url)
    await purged(again, NOW + LIFE + 2 * KEPT)
    assert await count(again, "tokens") == 0
    await again.close()
