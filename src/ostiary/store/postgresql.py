"""PostgreSQL: asyncpg, driven by an event loop in each line's thread, so that units of work stay plain calls.

All writes are serial, whoever does them: a writing transaction begins with a lock that ends with it. So the change log
has no gaps, its newest number means the same as in SQLite, and no two transactions can wait for each other.

A node holds another lock as long as its writing connection lives: one node a database. When its process is killed, the
server sees the socket close and frees it; a successor waits for that. Both locks need a connection that is the
client's own: a pooler between may pool sessions, not transactions.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, TypeAlias, TypeVar

import asyncpg
import uvloop
from asyncpg.exceptions import (
    ClientConfigurationError,
    InterfaceError,
    InternalClientError,
    PostgresError,
    QueryCanceledError,
)

from ostiary.core.refusal import Invalid
from ostiary.store.migrations import HEAD
from ostiary.store.schema import migrating, upgrade
from ostiary.store.sql import Down, InUse, Rejected, Row, Sql, Unkeepable

R = TypeVar("R")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Connect: TypeAlias = "Callable[[], Coroutine[Any, Any, Connection]]"

OURS = 0x4F737469
"""First key of our advisory locks; the second says what for."""
NODE, WRITE = 1, 2
SERIAL = f"SELECT pg_advisory_xact_lock({OURS}, {WRITE})"
WRITING = f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {SERIAL}"
"""Read committed: each statement after the lock sees all that was committed before it was given."""
READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
DURABLE = "SELECT set_config('synchronous_commit', 'on', FALSE) WHERE current_setting('synchronous_commit') = 'off'"

PATIENCE = 5.0
"""Seconds that the server may take to be reached, and for a statement."""
LONG = 60.0
"""The same for a statement of the lister."""
GRACE = 1.0
"""Seconds after which we end what the server did not."""
STEP, STEPS = 0.1, 30
"""Seconds between two tries to be the database's node, and how many."""
PREPARED = 256
DRIVER = (PostgresError, InterfaceError, InternalClientError, OSError)
"""What the driver raises of its own; time-outs are among OSError."""
IN_USE = "The database is in use by another Ostiary node: stop that one first, or give this one a database of its own"
UNREADABLE = "store.url cannot be read; in its user and password, these are written with %: @ %40, : %3A, / %2F"
NAMED = re.compile(r"(?<![:\w]):([a-z_]\w*)")


class PostgresqlSql(Sql):
    """A connection to PostgreSQL; made when it is needed, and anew when it was lost."""

    mode = "postgresql"

    def __init__(self, connect: Connect, begin: str) -> None:
        self._connect = connect
        self._begin = begin
        self._loop = uvloop.new_event_loop()
        self._connection: Connection | None = None

    def rows(self, statement: str, **values: object) -> list[Row]:
        text, arguments = _numbered(statement, values)
        return [tuple(row) for row in self._wait(self._live.fetch(text, *arguments))]

    def change(self, statement: str, **values: object) -> int:
        text, arguments = _numbered(statement, values)
        return int(self._wait(self._live.execute(text, *arguments)).rpartition(" ")[2])

    def fill(self, statement: str, rows: Sequence[Row]) -> None:
        text = _values(statement, len(rows), len(rows[0]))
        self._wait(self._live.execute(text, *(value for row in rows for value in row)))

    def do(self, statement: str) -> None:
        self._wait(self._live.execute(statement))

    def transaction(self, work: Callable[[Sql], R]) -> R:
        try:
            self._start()
            outcome = work(self)
            self.do("COMMIT")
        except DRIVER as error:
            failure = _failure(error)
            self._end(lost=isinstance(failure, Down))
            raise failure from error
        except BaseException:
            self._end(lost=False)
            raise
        return outcome

    def close(self) -> None:
        if self._connection is not None:
            with suppress(*DRIVER):
                self._wait(self._connection.close(timeout=GRACE))
        self._loop.close()

    @property
    def _live(self) -> Connection:
        if self._connection is None:
            raise Down("there is no connection")
        return self._connection

    def _wait(self, asked: Coroutine[Any, Any, R]) -> R:
        return self._loop.run_until_complete(asked)

    def _start(self) -> None:
        """Begin; on a new connection where there is none, or where it was lost while nothing was asked of it."""
        if self._connection is not None:
            try:
                return self.do(self._begin)
            except (TimeoutError, QueryCanceledError):
                raise
            except DRIVER:
                self._drop()
        self._connection = self._wait(self._connect())
        return self.do(self._begin)

    def _end(self, *, lost: bool) -> None:
        """Leave nothing of a transaction that failed; a connection in doubt goes with it."""
        if lost or self._connection is None:
            return self._drop()
        try:
            return self.do("ROLLBACK")
        except DRIVER:
            return self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
            self._wait(asyncio.sleep(0))  # the loop lets go of the socket


def _failure(error: Exception) -> Down | Rejected:
    """By class of SQLSTATE: 22 is a value, 23 and 42 are what was asked; all others are the database's own."""
    kind = (getattr(error, "sqlstate", None) or "")[:2] if isinstance(error, PostgresError) else ""
    said = str(error) or "no answer in time"
    if kind == "22":
        return Unkeepable(said)
    return Rejected(said) if kind in ("23", "42") else Down(said)


def _numbered(statement: str, values: dict[str, object]) -> tuple[str, list[object]]:
    """A statement with `$1` in place of `:name`, and its arguments."""
    whole = frozenset(name for name, value in values.items() if isinstance(value, int))
    text, names = _translated(statement, whole)
    return text, [values[name] for name in names]


@lru_cache(1024)
def _translated(statement: str, whole: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """Whole numbers are said to be wide ones: beside a literal such as 0 they would be taken for 32 bits."""
    numbers: dict[str, int] = {}

    def mark(found: re.Match[str]) -> str:
        number = numbers.setdefault(found[1], len(numbers) + 1)
        return f"${number}::bigint" if found[1] in whole else f"${number}"

    return NAMED.sub(mark, statement), tuple(numbers)


@lru_cache(256)
def _values(statement: str, count: int, width: int) -> str:
    rows = (", ".join(f"${row * width + column + 1}" for column in range(width)) for row in range(count))
    return f"{statement} {', '.join(f'({row})' for row in rows)}"


class Postgresql:
    """The engine for the database at `url`; `alone`: as its only node. `patience`: seconds for a short statement."""

    mode = PostgresqlSql.mode

    def __init__(self, url: str, alone: bool, patience: float = PATIENCE) -> None:
        self._url = url
        self._alone = alone
        self._patience = patience

    def writer(self) -> Sql:
        return PostgresqlSql(self._writing, WRITING)

    def reader(self) -> Sql:
        return PostgresqlSql(partial(self._connect, self._patience), READING)

    def lister(self) -> Sql:
        return PostgresqlSql(partial(self._connect, LONG), READING)

    def migrate(self, version: str = HEAD) -> None:
        try:
            with migrating():
                asyncio.run(self._migrate(version))
        except DRIVER as error:
            raise _failure(error) from error

    async def _migrate(self, version: str) -> None:
        from sqlalchemy import text
        from sqlalchemy.ext.asyncio import create_async_engine
        from sqlalchemy.pool import NullPool

        connect = partial(self._connect, 0)
        engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
        async with engine.begin() as connection:
            await connection.execute(text(SERIAL))
            await connection.run_sync(upgrade, version)

    async def _writing(self) -> Connection:
        connection = await self._connect(self._patience)
        try:
            encoding = await connection.fetchval("SHOW server_encoding")
            if encoding != "UTF8":
                raise Invalid("store.encoding", f"The database must be one of encoding UTF8; it is of {encoding}")
            await connection.execute(DURABLE)
            if self._alone:
                await _be_the_node(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _connect(self, patience: float) -> Connection:
        """A connection whose statements may take `patience` seconds (0: as long as they need)."""
        try:
            connection: Connection = await asyncpg.connect(
                self._url,
                timeout=PATIENCE,
                command_timeout=patience + GRACE if patience else None,
                statement_cache_size=PREPARED,
                max_cached_statement_lifetime=0,
                max_cacheable_statement_size=1 << 20,
                server_settings=_settings(patience),
            )
        except ClientConfigurationError as error:
            raise Invalid("store.url", f"store.url: {error}") from error
        except ValueError as error:  # says what it stumbled over, which may be a piece of the password
            raise Invalid("store.url", UNREADABLE) from error
        return connection


def _settings(patience: float) -> dict[str, str]:
    return {
        "application_name": "ostiary",
        "default_transaction_isolation": "read committed",
        "enable_seqscan": "off",  # a plan that was made while a table was small is kept when it has grown
        "jit": "off",
        "statement_timeout": str(int(patience * 1000)),
    }


async def _be_the_node(connection: Connection) -> None:
    """Take the database for this node, or wait a little for one that ends. Raises InUse."""
    for _ in range(STEPS):
        if await connection.fetchval(f"SELECT pg_try_advisory_lock({OURS}, {NODE})"):
            return
        await asyncio.sleep(STEP)
    raise InUse(IN_USE)
