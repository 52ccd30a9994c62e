"""The embedded engine: a file, the standard library's driver, one writer at a time."""

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from ostiary.store.migrations import HEAD
from ostiary.store.schema import migrating, upgrade
from ostiary.store.sql import Down, Rejected, Row, Sql, Unkeepable

R = TypeVar("R")
SCHEME = "sqlite:///"
PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -32768",
    "PRAGMA journal_size_limit = 67108864",
)
PATIENCE = 5.0
"""Seconds that a statement waits for another process that holds the database."""
PREPARED = 256


class SqliteSql(Sql):
    """A connection to SQLite."""

    mode = "sqlite"

    def __init__(self, connection: sqlite3.Connection, begin: str) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._begin = begin

    def rows(self, statement: str, **values: object) -> list[Row]:
        return self._execute(statement, values).fetchall()

    def change(self, statement: str, **values: object) -> int:
        return self._execute(statement, values).rowcount

    def fill(self, statement: str, rows: Sequence[Row]) -> None:
        self._execute(_values(statement, len(rows), len(rows[0])), [value for row in rows for value in row])

    def do(self, statement: str) -> None:
        self._execute(statement)

    def transaction(self, work: Callable[[Sql], R]) -> R:
        try:
            self._execute(self._begin)
            outcome = work(self)
            self._execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise Down(str(error)) from error
        except sqlite3.Error as error:
            raise Rejected(str(error)) from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise Unkeepable(str(error)) from error
        finally:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
        return outcome

    def close(self) -> None:
        self._connection.close()


@lru_cache(256)
def _values(statement: str, count: int, width: int) -> str:
    row = "(" + ", ".join("?" * width) + ")"
    return f"{statement} {', '.join([row] * count)}"


class Sqlite:
    """The engine for the file at `path`, which is made, for its owner only, where there is none."""

    mode = SqliteSql.mode

    def __init__(self, path: Path) -> None:
        self._path = path

    def writer(self) -> Sql:
        return self._connect("BEGIN IMMEDIATE")

    def reader(self) -> Sql:
        return self._connect("BEGIN")

    lister = reader

    def migrate(self, version: str = HEAD) -> None:
        import sqlalchemy as sa

        engine = sa.create_engine(f"{SCHEME}{self._path}", poolclass=sa.pool.NullPool)
        # The driver would begin transactions by itself, and not before DDL: it is told to leave that to us.
        sa.event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        with migrating(), engine.begin() as connection:
            upgrade(connection, version)

    def _make(self) -> None:
        """Make the file, for its owner only, where there is none.

        One that is there is not opened by hand: closing any descriptor of it gives up all locks of this process
        (fcntl(2)). Another process that leaves then takes itself for the last, and deletes the log under our
        connections: what they write after that is lost.
        """
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

    def _connect(self, begin: str) -> Sql:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make()
            return connect(self._path, begin)
        except (OSError, sqlite3.Error) as error:
            raise Down(str(error)) from error


def connect(path: Path, begin: str) -> SqliteSql:
    """A connection with everything set as a store needs it."""
    connection = sqlite3.connect(
        path, timeout=PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=PREPARED
    )
    try:
        for pragma in PRAGMAS:
            connection.execute(pragma)
    except sqlite3.Error:
        connection.close()
        raise
    return SqliteSql(connection, begin)
