"""A database itself, beside the lines of a store: for upkeep that needs the schema as it is, on either engine.

By SQLAlchemy, which knows what tables, keys and references there are. Imported only where a person asks for such work.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from ostiary.core.refusal import Conflict, Invalid, Unavailable
from ostiary.store.migrations import HEAD
from ostiary.store.postgresql import NODE, OURS, READING, SERIAL, UNREADABLE
from ostiary.store.schema import upgrade
from ostiary.store.sqlite import PATIENCE, SCHEME
from ostiary.store.store import POSTGRESQL

R = TypeVar("R")
Purpose = Literal["read", "write"]
VERSION = "alembic_version"
RUNS = "A node runs on this store: stop it first (ostiary stop)"
ROOM = "PRAGMA cache_size = -131072"
"""Memory for SQLite's pages: indexes of digests are filled all over."""
_BEGIN = {"read": "BEGIN", "write": "BEGIN IMMEDIATE"}
_READING = READING.removeprefix("BEGIN ")


class Outline(NamedTuple):
    """A table: its columns, its primary key, and which columns refer to which of another table."""

    table: sa.TableClause
    key: tuple[str, ...]
    references: tuple[tuple[tuple[str, ...], str, tuple[str, ...]], ...]

    @property
    def name(self) -> str:
        """Of the table."""
        return self.table.name

    @property
    def columns(self) -> tuple[str, ...]:
        """By name, in their order."""
        return tuple(column.name for column in self.table.columns)


def file_of(url: str) -> Path | None:
    """The file that the URL names, None for PostgreSQL's. Refuses Invalid `store.url`."""
    if url.startswith(POSTGRESQL):
        return None
    if url.startswith(SCHEME) and url != SCHEME:
        return Path(url.removeprefix(SCHEME))
    raise Invalid("store.url", "The store's URL must be sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE")


def within(url: str, work: Callable[[sa.Connection], R], purpose: Purpose = "read") -> R:
    """What `work` gives, in one transaction that sees one moment of the database at `url`.

    Blocks; not for a thread that has an event loop. Refuses Invalid `store.url`, Unavailable `store.unavailable`.
    """
    file = file_of(url)
    try:
        return asyncio.run(_served(url, work, purpose)) if file is None else _embedded(file, work, purpose)
    except (OSError, sa.exc.DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unavailable("store.unavailable", f"The store cannot be used: {_said(error)}") from error


def existing(url: str) -> str:
    """The same URL, of a store that is there. Refuses Unavailable `store.absent`."""
    file = file_of(url)
    if file is not None and not file.is_file():
        raise Unavailable("store.absent", f"There is no store at {file}")
    return url


def alone(connection: sa.Connection) -> None:
    """Keep nodes away from a PostgreSQL database until the transaction ends. Refuses Conflict `store.in_use`."""
    if connection.dialect.name == "sqlite":
        return
    if not connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({OURS}, {NODE})").scalar():
        raise Conflict("store.in_use", RUNS)


def migrate(url: str, *, dry_run: bool = False) -> tuple[str, str]:
    """Bring the schema up to date: from which version, to which. `dry_run`: only say it.

    Refuses Conflict `store.in_use`, Invalid `store.too_new`, `store.foreign`, Unavailable `store.absent`,
    `store.unavailable`.
    """

    def work(connection: sa.Connection) -> tuple[str, str]:
        before = version(connection)
        if before > HEAD:
            raise Invalid("store.too_new", f"The store has schema {before}; this Ostiary knows up to {HEAD}")
        if before != HEAD and not dry_run:
            alone(connection)
            upgrade(connection)
        return before, HEAD

    return within(existing(url), work, "read" if dry_run else "write")


def outlines(connection: sa.Connection) -> list[Outline]:
    """All tables but the schema's version, none before one that it refers to."""
    inspector = sa.inspect(connection)
    names = [name for name, _ in inspector.get_sorted_table_and_fkc_names() if name not in (None, VERSION)]
    return [_outline(inspector, str(name)) for name in names]


def version(connection: sa.Connection) -> str:
    """The version of the schema, `""` for an empty database. Refuses Invalid `store.foreign` for something else."""
    inspector = sa.inspect(connection)
    if inspector.has_table(VERSION):
        number = sa.column("version_num", sa.Text)
        return str(connection.execute(sa.select(number).select_from(sa.table(VERSION))).scalar() or "")
    if inspector.get_table_names():
        raise Invalid("store.foreign", "The database holds tables that are not Ostiary's")
    return ""


def _outline(inspector: sa.Inspector, name: str) -> Outline:
    columns: list[sa.ColumnClause[Any]] = [
        sa.column(each["name"], each["type"]) for each in inspector.get_columns(name)
    ]
    references = tuple(
        (tuple(each["constrained_columns"]), each["referred_table"], tuple(each["referred_columns"]))
        for each in inspector.get_foreign_keys(name)
    )
    key = tuple(inspector.get_pk_constraint(name)["constrained_columns"])
    return Outline(sa.table(name, *columns), key, references)


def _embedded(file: Path, work: Callable[[sa.Connection], R], purpose: Purpose) -> R:
    engine = sa.create_engine(f"{SCHEME}{file}", poolclass=sa.pool.NullPool, connect_args={"timeout": PATIENCE})
    # The driver would begin transactions by itself, and not before DDL: it is told to leave that to us.
    sa.event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
    sa.event.listen(engine, "connect", lambda raw, _: raw.execute(ROOM))
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(_BEGIN[purpose]))
    with engine.begin() as connection:
        return work(connection)


async def _served(url: str, work: Callable[[sa.Connection], R], purpose: Purpose) -> R:
    async def connect() -> "asyncpg.Connection[asyncpg.Record]":
        try:
            return await asyncpg.connect(url, timeout=PATIENCE, server_settings={"application_name": "ostiary"})
        except ValueError as error:  # says what it stumbled over, which may be a piece of the password
            raise Invalid("store.url", UNREADABLE) from error

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=sa.pool.NullPool)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(SERIAL if purpose == "write" else f"SET TRANSACTION {_READING}")
        return await connection.run_sync(work)


def _said(error: Exception) -> object:
    """What the database says, without the statement and its values."""
    return error.orig if isinstance(error, sa.exc.DBAPIError) else error
