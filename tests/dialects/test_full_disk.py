"""A full disk: changes are refused with 503, reading goes on, and with room again all is as before."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.dialects.house import House
from tests.dialects.test_apifest import SCOPE, read

from ostiary.store.sql import Sql
from ostiary.store.store import Store


async def created(house: House, number: int) -> tuple[int, Any]:
    answer = await house.ask("POST", "/operations/scopes.create", SCOPE | {"scope": f"s{number}"})
    return answer.status, read(answer)


async def acknowledged(house: House, first: int) -> tuple[int, Any]:
    """How many scopes could be created, from that number on, and the first other answer."""
    for number in range(first, first + 2000):
        status, body = await created(house, number)
        if status != 200:
            return number, (status, body["error"])
    return first + 2000, None


@contextmanager
def most_file(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def kept(house: House) -> list[str]:
    scopes = read(await house.ask("POST", "/operations/scopes.list", {"limit": 1000}))
    return sorted(scope["scope"] for scope in scopes)


@pytest.mark.parametrize("bytes_more", [100_000, 100_007])
async def test_a_disk_that_is_full_refuses_changes_with_503_until_there_is_room(
    house: House, bytes_more: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ostiary.store")
    size = (house.path / "ostiary.db-wal").stat().st_size
    with most_file(size + bytes_more):
        last, refused = await acknowledged(house, 0)
        assert refused == (503, "store.unavailable")
        assert (await created(house, 5000))[0] == 503
        assert len(await kept(house)) == last
        assert "The store cannot be used: " in caplog.text
    assert await kept(house) == sorted(f"s{number}" for number in range(last))
    assert (await created(house, 5000))[0] == 200
    assert len(await kept(house)) == last + 1
    assert caplog.messages.count("The store can be used again") == 1
    check = read(await house.ask("POST", "/operations/store.check"))
    assert check["wrong"] == []


async def pages(store: Store, most: int) -> None:
    """Let the database have so many pages at most."""

    def unit(sql: Sql) -> None:
        sql.rows(f"PRAGMA max_page_count = {most}")

    await store.writer.each(unit)


async def test_a_database_that_is_full_does_the_same(house: House) -> None:
    [(count,)] = await house.store.writer.each(lambda sql: sql.rows("PRAGMA page_count"))
    await pages(house.store, count + 2)
    last, refused = await acknowledged(house, 0)
    assert refused == (503, "store.unavailable")
    await pages(house.store, 1 << 30)
    assert (await created(house, last))[0] == 200
    assert len(await kept(house)) == last + 1
