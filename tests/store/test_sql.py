"""Lines: batches, group commit, and what a failure touches."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import asyncpg
import pytest

from ostiary.core.refusal import Conflict, Invalid, Unavailable
from ostiary.store.postgresql import SERIAL, Postgresql
from ostiary.store.sql import Line, Sql
from ostiary.store.sqlite import Sqlite
from ostiary.store.store import engine

Connect = Callable[[], Sql]


@pytest.fixture
def connect(url: str) -> Connect:
    """How a line gets its connection for writing."""
    return engine(url, alone=False).writer


@pytest.fixture
async def line(connect: Connect) -> AsyncIterator[Line]:
    """A line that writes to a database with one small table."""
    opened = Line(connect, "test")
    await opened.each(lambda sql: sql.do("CREATE TABLE t (n BIGINT UNIQUE, x TEXT)"))
    yield opened
    await opened.close()


class Put:
    """Writes a number, and then refuses or fails if it is told to."""

    def __init__(self, number: int, refuse: bool = False, fail: bool = False) -> None:
        self.number, self.refuse, self.fail = number, refuse, fail

    def __call__(self, sql: Sql) -> int:
        sql.change("INSERT INTO t (n) VALUES (:n)", n=self.number)
        if self.refuse:
            raise Conflict("t.refused", "no")
        if self.fail:
            raise ZeroDivisionError
        return self.number


async def kept(line: Line) -> list[int]:
    return [row[0] for row in await line.each(lambda sql: sql.rows("SELECT n FROM t ORDER BY n"))]


async def test_what_is_asked_at_once_is_one_transaction(line: Line) -> None:
    sizes: list[int] = []

    def work(sql: Sql, numbers: Sequence[int]) -> list[int]:
        sizes.append(len(numbers))
        return list(numbers)

    assert await asyncio.gather(*(line.together(work, number) for number in range(50))) == list(range(50))
    assert sizes == [50]


async def test_different_work_keeps_its_order(line: Line) -> None:
    seen: list[tuple[str, list[int]]] = []

    def one(sql: Sql, numbers: Sequence[int]) -> list[None]:
        seen.append(("one", list(numbers)))
        return [None] * len(numbers)

    def two(sql: Sql, numbers: Sequence[int]) -> list[None]:
        seen.append(("two", list(numbers)))
        return [None] * len(numbers)

    await asyncio.gather(*(line.together(work, n) for n, work in enumerate([one, one, two, one])))
    assert seen == [("one", [0, 1]), ("two", [2]), ("one", [3])]


async def test_a_unit_that_refuses_undoes_only_its_own_writes(line: Line) -> None:
    outcomes = await asyncio.gather(
        line.each(Put(1)), line.each(Put(2, refuse=True)), line.each(Put(3)), return_exceptions=True
    )
    assert outcomes[0] == 1
    assert isinstance(outcomes[1], Conflict)
    assert outcomes[2] == 3
    assert await kept(line) == [1, 3]


async def test_a_unit_that_fails_fails_alone(line: Line) -> None:
    outcomes = await asyncio.gather(
        line.each(Put(1)), line.each(Put(2, fail=True)), line.each(Put(3)), return_exceptions=True
    )
    assert outcomes[0] == 1
    assert isinstance(outcomes[1], ZeroDivisionError)
    assert outcomes[2] == 3
    assert await kept(line) == [1, 3]


async def test_what_the_database_forbids_is_unavailable_for_its_unit_alone(line: Line) -> None:
    await line.each(Put(1))
    outcomes = await asyncio.gather(line.each(Put(1)), line.each(Put(2)), return_exceptions=True)
    assert isinstance(outcomes[0], Unavailable)
    assert outcomes[1] == 2


async def test_a_file_that_cannot_be_written_makes_everything_unavailable_and_keeps_nothing(tmp_path: Path) -> None:
    def connect() -> Sql:
        sql = Sqlite(tmp_path / "a.db").writer()
        sql.do("PRAGMA busy_timeout = 0")
        return sql

    line = Line(connect, "test")
    await line.each(lambda sql: sql.do("CREATE TABLE t (n BIGINT UNIQUE)"))
    await line.each(Put(1))
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    outcomes = await asyncio.gather(line.each(Put(2)), line.each(Put(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
    other.execute("ROLLBACK")
    other.close()
    assert await kept(line) == [1]
    assert await line.each(Put(2)) == 2
    await line.close()


async def test_a_server_that_does_not_answer_in_time_makes_everything_unavailable_and_keeps_nothing(
    postgresql_url: str,
) -> None:
    line = Line(Postgresql(postgresql_url, alone=False, patience=0.2).writer, "test")
    await line.each(lambda sql: sql.do("CREATE TABLE t (n BIGINT UNIQUE)"))
    await line.each(Put(1))
    other = await asyncpg.connect(postgresql_url)
    async with other.transaction():
        await other.execute(SERIAL)
        outcomes = await asyncio.gather(line.each(Put(2)), line.each(Put(3)), return_exceptions=True)
    await other.close()
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
    assert await kept(line) == [1]
    assert await line.each(Put(2)) == 2
    await line.close()


async def test_a_caller_that_hangs_up_stops_nothing(line: Line) -> None:
    task = asyncio.create_task(line.each(Put(1)))
    await asyncio.sleep(0)
    task.cancel()
    assert await kept(line) == [1]


async def test_closing_finishes_what_was_asked(connect: Connect, line: Line) -> None:
    closing = Line(connect, "test")
    asked = [asyncio.create_task(closing.each(Put(number))) for number in range(20)]
    await asyncio.sleep(0)
    await closing.close()
    assert [task.result() for task in asked] == list(range(20))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 63, 64, 65, 1000])
async def test_many_rows_are_inserted_in_any_number(line: Line, count: int) -> None:
    await line.each(lambda sql: sql.insert("INSERT INTO t (n) VALUES", [(n,) for n in range(count)]))
    assert await kept(line) == list(range(count))
    found = await line.each(lambda sql: sql.among("SELECT n FROM t WHERE n IN (:each)", [*range(0, count, 2), -1]))
    assert sorted(row[0] for row in found) == list(range(0, count, 2))


async def test_a_whole_number_is_wide_whatever_stands_beside_it(line: Line) -> None:
    await line.each(Put(1 << 62))
    statement = "SELECT n FROM t WHERE (:n < 0 OR n = :n) AND COALESCE(:none, 0) = 0 LIMIT :most"
    assert await line.each(lambda sql: sql.rows(statement, n=1 << 62, none=None, most=1 << 40)) == [(1 << 62,)]


@pytest.mark.parametrize(("number", "text"), [(1 << 63, ""), (1, "\ud800")])
async def test_a_value_that_cannot_be_kept_is_refused_for_its_unit_alone(line: Line, number: int, text: str) -> None:
    outcomes = await asyncio.gather(
        line.each(lambda sql: sql.change("INSERT INTO t (n, x) VALUES (:n, :x)", n=number, x=text)),
        line.each(Put(2)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], Invalid)
    assert outcomes[0].code == "store.value"
    assert outcomes[1] == 2
    assert await kept(line) == [2]


async def test_a_text_with_a_zero_is_one_that_postgresql_cannot_keep(postgresql_url: str) -> None:
    line = Line(Postgresql(postgresql_url, alone=False).reader, "test")
    with pytest.raises(Invalid) as refused:
        await line.each(lambda sql: sql.rows("SELECT 1 FROM scopes WHERE name = :name", name="a\0b"))
    assert refused.value.code == "store.value"
    await line.close()
