"""PostgreSQL as the store of a node: it ends, it comes back, and it belongs to one node."""

import asyncio
import sys
from collections.abc import Iterator

import pytest
from tests.postgresql import Server, running
from tests.store.values import NOW, RECORD, furnish, request

from ostiary.core.digest import digest
from ostiary.core.refusal import Invalid, Unavailable
from ostiary.store.store import Store, open_store


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that a test may stop."""
    with running() as server:
        yield server


class Caller:
    """Issues tokens until the store ends it; `warm` is set when there were enough of them."""

    def __init__(self, store: Store) -> None:
        self.store, self.acknowledged, self.warm = store, list[bytes](), asyncio.Event()

    async def issue(self, name: int) -> None:
        for number in range(1_000_000):
            await self.store.tokens.issue(request(f"{name}/{number}"), RECORD)
            self.acknowledged.append(digest(f"{name}/{number}"))
            if len(self.acknowledged) == 1000:
                self.warm.set()


async def test_a_server_that_crashes_and_comes_back_has_all_that_was_acknowledged(server: Server) -> None:
    store = await open_store(server.create())
    await furnish(store)
    caller = Caller(store)
    async with asyncio.timeout(30):
        callers = [asyncio.create_task(caller.issue(name)) for name in range(32)]
        await caller.warm.wait()
        await asyncio.to_thread(server.stop)
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [(type(each), getattr(each, "code", "")) for each in outcomes] == [(Unavailable, "store.unavailable")] * 32
    for asking in (store.changes.newest(), store.tokens.revoke_user("alice", NOW, RECORD), store.revisions.page(1)):
        with pytest.raises(Unavailable):
            await asking
    await asyncio.to_thread(server.start)
    assert set(caller.acknowledged) <= set(await store.tokens.live(caller.acknowledged, NOW))
    await store.tokens.issue(request("after"), RECORD)
    await store.close()


async def test_a_server_that_restarts_while_nothing_is_asked_is_not_noticed(server: Server) -> None:
    store = await open_store(server.create())
    await furnish(store)
    assert await store.changes.newest() == 3
    assert await store.revisions.page(1) == []
    for mode in ("fast", "immediate"):
        await asyncio.to_thread(server.stop, mode)
        await asyncio.to_thread(server.start)
        await store.tokens.issue(request(mode), RECORD)
        assert set(await store.tokens.live([digest(mode)], NOW)) == {digest(mode)}
        assert await store.revisions.page(1) == []
    await store.close()


async def test_a_store_closes_without_its_server(server: Server) -> None:
    store = await open_store(server.create())
    await asyncio.to_thread(server.stop)
    await store.close()
    await asyncio.to_thread(server.start)


async def test_a_second_node_is_refused_until_the_first_has_closed(postgresql_url: str) -> None:
    first = await open_store(postgresql_url)
    with pytest.raises(Unavailable) as refused:
        await open_store(postgresql_url)
    assert refused.value.code == "store.in_use"
    assert refused.value.message.startswith("The database is in use by another Ostiary node")
    tool = await open_store(postgresql_url, alone=False)
    assert await tool.users.empty()
    await tool.close()
    await first.close()
    await (await open_store(postgresql_url)).close()


async def test_a_node_that_lost_its_connection_and_then_its_database_writes_nothing_more(postgresql_url: str) -> None:
    first = await open_store(postgresql_url)
    tool = await open_store(postgresql_url, alone=False)
    await tool.writer.each(
        lambda sql: sql.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid() "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    )
    second = await open_store(postgresql_url)
    with pytest.raises(Unavailable) as refused:
        await furnish(first)
    assert refused.value.code == "store.in_use"
    await furnish(second)
    for store in (first, second, tool):
        await store.close()


HOLDER = """
import asyncio, sys
from tests.store.values import furnish
from ostiary.store.store import open_store

async def main():
    store = await open_store(sys.argv[1])
    await furnish(store)
    print("open", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_the_successor_of_a_killed_node_has_the_database_at_once(postgresql_url: str) -> None:
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, postgresql_url, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"open\n"
    holder.kill()
    store = await open_store(postgresql_url)
    await holder.communicate()
    assert await store.changes.newest() == 3
    await store.close()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nobody@/{database}?host={place}", 'role "nobody" does not exist'),
        ("ostiary@/none?host={place}", 'database "none" does not exist'),
        ("ostiary@/{database}?host={place}/gone", "No such file or directory"),
        ("ostiary:secret@127.0.0.1:1/x?sslmode=disable", "Connection refused"),
        ("ostiary:secret@127.0.0.1:1/x", "The store postgresql://127.0.0.1:1/x cannot be opened: "),
        ("127.0.0.1:1/x?user=ostiary&password=secret", "The store postgresql://127.0.0.1:1/x cannot be opened: "),
    ],
)
async def test_a_database_that_cannot_be_reached_is_named(postgresql: Server, place: str, said: str) -> None:
    with pytest.raises(Unavailable) as refused:
        await open_store(f"postgresql://{place.format(database='postgres', place=postgresql.place)}")
    assert refused.value.code == "store.unavailable"
    assert said in refused.value.message
    assert "secret" not in refused.value.message


async def test_a_database_where_nothing_may_be_made_is_named(postgresql: Server) -> None:
    url = postgresql.create()
    postgresql.execute("DROP ROLE IF EXISTS reader")
    postgresql.execute("CREATE ROLE reader LOGIN")
    postgresql.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", url)
    with pytest.raises(Unavailable) as refused:
        await open_store(url.replace("ostiary@", "reader@"))
    assert "permission denied for schema public" in refused.value.message


async def test_a_database_of_another_encoding_is_refused(postgresql: Server) -> None:
    postgresql.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(Invalid) as refused:
        await open_store(postgresql.url("latin"))
    assert refused.value.code == "store.encoding"
    postgresql.drop(postgresql.url("latin"))
