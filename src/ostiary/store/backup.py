"""Backups: all rows of a store as one moment saw them, and a store made of them again, on either engine.

A backup is read in one transaction, some rows at a time, while a node writes on. A restore builds the schema that the
backup was made of, fills it, and brings it up to date: in one transaction, and in SQLite in a new file, which then
takes the place of the old one; so what goes wrong changes nothing.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import sqlalchemy as sa

from ostiary.core.refusal import Conflict, Invalid, Unavailable
from ostiary.store.counters import count_on, counters
from ostiary.store.direct import RUNS, VERSION, Outline, alone, existing, file_of, outlines, version, within
from ostiary.store.dump import FORMAT, Head, Page, Reader, Tail, Writer
from ostiary.store.migrations import HEAD
from ostiary.store.ports import Copied
from ostiary.store.schema import upgrade

MOST_ROWS = 1024
"""In a page; fewer where they are large, as revisions may be."""
LARGE, SMALL = 1 << 20, 1 << 18
"""Bytes of a page above which the next has fewer rows, and below which it may have more."""
_LIVE = sa.text("SELECT COUNT(*) FROM tokens WHERE revoked IS NULL AND spent IS NULL AND expires >= :now")
_REVOKE = sa.text("UPDATE tokens SET revoked = :now WHERE revoked IS NULL AND spent IS NULL AND expires >= :now")
_LOG_OUT = sa.text("DELETE FROM browser_logins")
Told = Callable[[str, int], None]
"""Is told of each page: the table, and how many rows."""


class Backup(NamedTuple):
    """What was written."""

    head: Head
    tail: Tail


class Restored(NamedTuple):
    """What was made of a backup."""

    head: Head
    rows: int
    live: int
    """Tokens that can be used now."""
    revoked: int
    """Tokens that could have been, had they not been revoked with the restore."""


def save(url: str, file: Path, created: str, told: Told, *, force: bool = False) -> Copied:
    """Write the store at `url` to a file for its owner only, which is there when it is whole; `force`: over another.

    Refuses Conflict `backup.exists`, Unavailable `backup.unwritable`, and what `backup` refuses.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        if file.exists() and not force:
            raise FileExistsError
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            done = backup(url, stream, created, told)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file) if force else file.hardlink_to(draft)
        _sync(file.parent)
    except FileExistsError as error:
        raise Conflict("backup.exists", f"{file} exists; --force replaces it") from error
    except OSError as error:
        raise Unavailable("backup.unwritable", f"The backup cannot be written to {file}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    head, tail = done
    return Copied(str(file), created, head.engine, head.schema, tail.rows, file.stat().st_size, tail.sha256)


def backup(url: str, stream: BinaryIO, created: str, told: Told) -> Backup:
    """Write the store at `url` to `stream`. Refuses Unavailable `store.absent`, `store.unavailable`."""
    return within(existing(url), lambda connection: _write(connection, Writer(stream), created, told))


def restore(url: str, stream: BinaryIO, now: int, told: Told, *, force: bool = False, revoke: bool = False) -> Restored:
    """Make the store at `url` what the backup in `stream` says; `force`: although it holds something.

    Refuses Invalid `backup.unknown`, `backup.damaged`, `backup.too_new`, Conflict `store.not_empty`, `store.in_use`,
    Invalid `store.foreign`, Unavailable `store.unavailable`; then nothing has changed.
    """
    reader = Reader(stream)
    if reader.head.schema not in _known():
        raise Invalid(
            "backup.too_new",
            f"The backup has schema {reader.head.schema}; this Ostiary knows up to {HEAD}: restore it with a newer one",
        )
    file = file_of(url)
    if file is not None:
        return _into_file(file, reader, now, told, force, revoke)

    def work(connection: sa.Connection) -> Restored:
        alone(connection)
        _check_empty(connection, force)
        _drop(connection)
        return _read(connection, reader, now, told, revoke)

    return within(url, work, "write")


def _write(connection: sa.Connection, writer: Writer, created: str, told: Told) -> Backup:
    found = outlines(connection)
    tables = {outline.name: outline.columns for outline in found}
    head = Head(FORMAT, created, connection.dialect.name, version(connection), tables, counters(connection, found))
    writer.begin(head)
    for outline in found:
        _write_table(connection, outline, writer, told)
    return Backup(head, writer.end())


def _write_table(connection: sa.Connection, outline: Outline, writer: Writer, told: Told) -> None:
    most, last = 1, None
    while rows := [tuple(row) for row in connection.execute(_after(outline, last, most))]:
        size = writer.page(Page(outline.name, rows))
        told(outline.name, len(rows))
        last = [rows[-1][outline.columns.index(name)] for name in outline.key]
        if size < SMALL:
            most = min(MOST_ROWS, 2 * most)
        elif size > LARGE:
            most = max(1, most // 2)


def rows_of(connection: sa.Connection, outline: Outline) -> Iterator[Any]:
    """All rows of a table, of which only some are in memory."""
    last = None
    while rows := connection.execute(_after(outline, last, MOST_ROWS)).all():
        yield from rows
        last = [getattr(rows[-1], name) for name in outline.key]


def _after(outline: Outline, last: list[Any] | None, most: int) -> sa.Select[Any]:
    """The rows that follow the one with the key `last`."""
    key = [outline.table.c[name] for name in outline.key]
    statement = sa.select(outline.table).order_by(*key).limit(most)
    if last is None:
        return statement
    return statement.where(sa.tuple_(*key) > sa.tuple_(*last, types=[each.type for each in key]))


def _into_file(file: Path, reader: Reader, now: int, told: Told, force: bool, revoke: bool) -> Restored:
    """Build a new file beside the old one, and let it take its place."""
    if file.exists():
        within(f"sqlite:///{file}", lambda connection: _check_empty(connection, force))
    draft = file.with_name(f"{file.name}.restoring.{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.touch(mode=0o600, exist_ok=False)
        restored = within(
            f"sqlite:///{draft}", lambda connection: _read(connection, reader, now, told, revoke), "write"
        )
        _rest(file)
        draft.replace(file)
        _sync(file.parent)
    except OSError as error:
        raise Unavailable("store.unavailable", f"{file} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    return restored


def _rest(file: Path) -> None:
    """Have nothing of the old file outside it, which the new one must not find. Refuses Conflict `store.in_use`."""
    if not file.exists():
        return
    engine = sa.create_engine(f"sqlite:///{file}", poolclass=sa.pool.NullPool, connect_args={"timeout": 0})
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
    except sa.exc.OperationalError as error:
        raise Conflict("store.in_use", RUNS) from error


def _sync(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY)
    os.fsync(number)
    os.close(number)


def _check_empty(connection: sa.Connection, force: bool) -> None:
    """Refuse where something was ever changed. Refuses Conflict `store.not_empty`, Invalid `store.foreign`."""
    if version(connection) and not force and connection.exec_driver_sql("SELECT 1 FROM changes LIMIT 1").first():
        raise Conflict("store.not_empty", "The store is in use; --force replaces all that it holds")


def _drop(connection: sa.Connection) -> None:
    """Leave an empty database."""
    for outline in reversed(outlines(connection)):
        connection.exec_driver_sql(f'DROP TABLE "{outline.name}" CASCADE')
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {VERSION}")


def _read(connection: sa.Connection, reader: Reader, now: int, told: Told, revoke: bool) -> Restored:
    """Fill an empty database."""
    upgrade(connection, reader.head.schema)
    found = {outline.name: outline for outline in outlines(connection)}
    if {name: outline.columns for name, outline in found.items()} != reader.head.tables:
        raise Invalid("backup.damaged", f"The backup does not have the tables of schema {reader.head.schema}")
    for outline in reversed(found.values()):
        connection.execute(sa.delete(outline.table))
    filling = {name: str(outline.table.insert().compile(connection)) for name, outline in found.items()}
    rows = 0
    for page in reader.pages():
        connection.exec_driver_sql(filling[page.table], page.rows)
        rows += len(page.rows)
        told(page.table, len(page.rows))
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise Invalid("backup.damaged", "Rows of the backup refer to rows that it does not have")
    count_on(connection, list(found.values()), reader.head.counters)
    upgrade(connection, HEAD)
    return Restored(reader.head, rows, *_tokens(connection, now, revoke))


def _tokens(connection: sa.Connection, now: int, revoke: bool) -> tuple[int, int]:
    """How many tokens are live, and how many were revoked now; the log-ins of browsers end with them."""
    if revoke:
        connection.execute(_LOG_OUT)
        return 0, connection.execute(_REVOKE, {"now": now}).rowcount
    return int(connection.execute(_LIVE, {"now": now}).scalar_one()), 0


def _known() -> frozenset[str]:
    """Versions of the schema that there are migrations to."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    return frozenset(script.revision for script in scripts.walk_revisions())
