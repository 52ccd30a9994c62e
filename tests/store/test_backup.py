"""Backups: what is written is what is restored, on either engine, or nothing is."""

import asyncio
import gzip
import io
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from tests.postgresql import Server
from tests.store.template import fresh
from tests.store.values import NOW, RECORD, SECRET, application, furnish, request

import ostiary.store.migrations
from ostiary.core.digest import digest
from ostiary.core.refusal import Conflict, Invalid, Unavailable
from ostiary.store.backup import MOST_ROWS, backup, restore, save
from ostiary.store.check import check
from ostiary.store.direct import migrate, outlines, within
from ostiary.store.dump import FORMAT, Head, Reader, Writer
from ostiary.store.migrations import HEAD
from ostiary.store.people import NewUser
from ostiary.store.ports import Revision
from ostiary.store.schema import upgrade
from ostiary.store.store import Store, open_store

CREATED = "2026-11-22T10:00:00Z"
Make = Callable[[], str]


def untold(table: str, rows: int) -> None:
    """Nobody counts."""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database in which there is nothing, or (SQLite) that there is not."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new' / 'ostiary.db'}"
        return
    server: Server = request.getfixturevalue("postgresql")
    url = server.create()
    yield url
    server.drop(url)


async def filled(store: Store) -> None:
    """Rows in many tables, numbers that were given to rows that are gone, and large rows."""
    await furnish(store, "ab01", "ab02", "gone")
    await store.applications.delete("gone", RECORD)
    await asyncio.gather(*(store.tokens.issue(request(str(each)), RECORD) for each in range(MOST_ROWS + 50)))
    await store.tokens.revoke(digest("1"), "", NOW, RECORD)
    for size in (0, 3, 2_000_000, 5):
        await store.revisions.keep(Revision(0, NOW, "admin", "start", "ab" * 32), os.urandom(size))
    await store.users.create(NewUser("Ädmin\u2028", "owner", NOW, "a@example.org", "$argon2id$x"), RECORD)


async def written(url: str) -> bytes:
    stream = io.BytesIO()
    await asyncio.to_thread(backup, url, stream, CREATED, untold)
    return stream.getvalue()


async def restored(url: str, content: bytes, **how: bool) -> Any:
    return await asyncio.to_thread(lambda: restore(url, io.BytesIO(content), NOW, untold, **how))


def rows_in(content: bytes) -> dict[str, list[tuple[Any, ...]]]:
    reader = Reader(io.BytesIO(content))
    found: dict[str, list[tuple[Any, ...]]] = {table: [] for table in reader.head.tables}
    for page in reader.pages():
        found[page.table] += page.rows
    return found


def numbers(content: bytes) -> dict[str, int]:
    """The last that were given in each table."""
    return Reader(io.BytesIO(content)).head.counters


async def test_a_restored_store_is_the_one_that_was_backed_up_whatever_the_engines(
    store: Store, url: str, empty: str
) -> None:
    await filled(store)
    content = await written(url)
    done = await restored(empty, content)
    assert (done.head.created, done.head.schema, done.revoked) == (CREATED, HEAD, 0)
    assert done.live == MOST_ROWS + 49
    again = await written(empty)
    assert rows_in(again) == rows_in(content)
    assert done.rows == sum(len(rows) for rows in rows_in(content).values())
    assert numbers(again) == numbers(content)
    assert (await asyncio.to_thread(check, empty)).wrong == []
    assert (await asyncio.to_thread(check, url)).wrong == []


async def test_no_number_is_given_twice_after_a_restore(store: Store, url: str, empty: str) -> None:
    await filled(store)
    content = await written(url)
    last, changes = numbers(content), rows_in(content)["changes"]
    await restored(empty, content)
    opened = await open_store(empty)
    created = await opened.applications.create(application("new"), SECRET, RECORD)
    assert created == changes[-1][0] + 1
    number = await opened.lister.each(lambda sql: sql.rows("SELECT id FROM applications WHERE client_id = 'new'"))
    assert number == [(last["applications"] + 1,)]
    await opened.close()


async def test_a_backup_is_of_one_moment_while_others_write(store: Store, url: str) -> None:
    await furnish(store)
    ending = asyncio.Event()

    async def writing() -> int:
        number = 0
        while not ending.is_set():
            await store.tokens.issue(request(str(number)), RECORD)
            number += 1
        return number

    writer = asyncio.create_task(writing())
    for _ in range(5):
        found = rows_in(await written(url))
        assert len(found["tokens"]) == len(found["audit"]) - 3
    ending.set()
    assert await writer > 0


async def test_a_store_in_use_is_replaced_only_by_force(store: Store, url: str, empty: str) -> None:
    await furnish(store)
    content = await written(url)
    await restored(empty, content)
    with pytest.raises(Conflict) as refused:
        await restored(empty, content)
    assert refused.value.code == "store.not_empty"
    opened = await open_store(empty)
    await opened.applications.create(application("later"), SECRET, RECORD)
    await opened.close()
    await restored(empty, content, force=True)
    assert rows_in(await written(empty)) == rows_in(content)


async def test_a_store_on_which_a_node_runs_is_left_alone(store: Store, url: str, empty: str) -> None:
    await furnish(store)
    content = await written(url)
    node = await open_store(empty)
    with pytest.raises(Conflict) as refused:
        await restored(empty, content, force=True)
    assert refused.value.code == "store.in_use"
    assert await node.scopes.page(10) == []
    await node.close()
    await restored(empty, content, force=True)


LOG_IN = """
INSERT INTO browser_logins (digest, user_id, details, began, expires) VALUES (:digest, 'ann', '{}', 1, :expires)"""


async def test_tokens_end_with_a_restore_where_that_is_asked_for(store: Store, url: str, empty: str) -> None:
    await furnish(store)
    for name in ("one", "two"):
        await store.tokens.issue(request(name), RECORD)
    await store.tokens.revoke(digest("one"), "", NOW - 1, RECORD)
    await store.writer.each(lambda sql: sql.change(LOG_IN, digest=digest("browser"), expires=NOW + 1))
    done = await restored(empty, await written(url), revoke=True)
    assert (done.live, done.revoked) == (0, 1)
    opened = await open_store(empty)
    assert await opened.tokens.live([digest("one"), digest("two")], NOW) == {}
    assert await opened.lister.each(lambda sql: sql.rows("SELECT * FROM browser_logins")) == []
    await opened.close()


async def test_a_backup_that_is_cut_off_or_altered_changes_nothing(store: Store, url: str, empty: str) -> None:
    await filled(store)
    content = await written(url)
    await restored(empty, content)
    plain = gzip.decompress(content)
    before = await written(empty)
    for place in (len(plain) - 3, len(plain) // 2, 5_000):
        other = gzip.compress(plain[:place] + bytes([plain[place] ^ 1]) + plain[place + 1 :])
        with pytest.raises(Invalid) as altered:
            await restored(empty, other, force=True)
        assert altered.value.code == "backup.damaged"
        for damaged in (gzip.compress(plain[:place]), content[: int(len(content) * place / len(plain))]):
            with pytest.raises(Invalid) as cut:
                await restored(empty, damaged, force=True)
            assert cut.value.code == "backup.damaged"
    with pytest.raises(Invalid):
        await restored(empty, gzip.compress(plain + b"more"), force=True)
    assert rows_in(await written(empty)) == rows_in(before)


@pytest.mark.parametrize(
    "content", [b"", b"no backup", gzip.compress(b"no backup", mtime=0), gzip.compress(b"\xff" * 9, mtime=0)]
)
def test_what_is_no_backup_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        restore(f"sqlite:///{tmp_path / 'ostiary.db'}", io.BytesIO(content), NOW, untold)
    assert refused.value.code == "backup.unknown"
    assert list(tmp_path.iterdir()) == []


async def test_a_backup_of_a_later_schema_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    writer = Writer(stream)
    writer.begin(Head(FORMAT, CREATED, "sqlite", "9999", {}, {}))
    writer.end()
    with pytest.raises(Invalid) as refused:
        await restored(f"sqlite:///{tmp_path / 'ostiary.db'}", stream.getvalue())
    assert refused.value.code == "backup.too_new"
    assert HEAD in refused.value.message


def versions() -> list[str]:
    scripts = ScriptDirectory(str(Path(ostiary.store.migrations.__file__).parent))
    return sorted(script.revision for script in scripts.walk_revisions())


@pytest.mark.parametrize("version", versions())
async def test_a_backup_of_an_older_schema_is_restored_and_brought_up_to_date(
    version: str, empty: str, tmp_path: Path
) -> None:
    old = f"sqlite:///{tmp_path / 'old.db'}"
    (tmp_path / "old.db").touch()

    def fill(connection: sa.Connection) -> None:
        upgrade(connection, version)
        connection.exec_driver_sql("INSERT INTO changes (at, kind, subject) VALUES (5, 'scope.created', 'a')")
        connection.exec_driver_sql("INSERT INTO scopes VALUES ('a', 'b', 1, 2, 3)")

    await asyncio.to_thread(within, old, fill, "write")
    assert await asyncio.to_thread(lambda: migrate(old, dry_run=True)) == (version, HEAD)
    done = await restored(empty, await written(old))
    assert done.head.schema == version
    found = rows_in(await written(empty))
    assert found["scopes"] == [("a", "b", 1, 2, 3)]
    assert found["changes"] == [(1, 5, "scope.created", "a")]
    assert await asyncio.to_thread(migrate, empty) == (HEAD, HEAD)
    assert await asyncio.to_thread(migrate, old) == (version, HEAD)
    assert rows_in(await written(old)) == found


async def test_every_table_has_a_key_and_columns_that_a_backup_keeps(url: str) -> None:
    found = await asyncio.to_thread(within, url, outlines)
    assert [each.name for each in found if not each.key] == []
    names = [each.name for each in found]
    assert {"tokens", "applications", "scopes", "users", "changes", "audit", "revisions"} <= set(names)
    for each in found:
        assert all(names.index(name) < names.index(each.name) for _, name, _ in each.references)


async def test_a_file_is_its_owners_only_and_whole_or_not_there(store: Store, url: str, tmp_path: Path) -> None:
    await furnish(store)
    directory = tmp_path / "backups"
    directory.mkdir()
    file = directory / "a.backup"
    copied = await asyncio.to_thread(save, url, file, CREATED, untold)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (copied.path, copied.bytes, copied.schema) == (str(file), file.stat().st_size, HEAD)
    assert copied.rows["scopes"] == 1
    before = file.read_bytes()
    with pytest.raises(Conflict) as refused:
        await asyncio.to_thread(save, url, file, CREATED, untold)
    assert refused.value.code == "backup.exists"
    assert file.read_bytes() == before
    await asyncio.to_thread(lambda: save(url, file, "2026-11-23T00:00:00Z", untold, force=True))
    assert file.read_bytes() != before
    assert list(directory.iterdir()) == [file]


def test_a_full_disk_leaves_no_backup(url: str) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(Unavailable) as refused:
        backup(url, full, CREATED, untold)
    assert refused.value.code == "backup.unwritable"
    with pytest.raises(Unavailable) as nowhere:
        save(url, Path("/nowhere/at/all"), CREATED, untold)
    assert nowhere.value.code == "backup.unwritable"


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for work in (check, migrate, lambda url: backup(url, io.BytesIO(), CREATED, untold)):
        with pytest.raises(Unavailable) as refused:
            work(f"sqlite:///{tmp_path / 'none.db'}")
        assert refused.value.code == "store.absent"
    assert list(tmp_path.iterdir()) == []


async def test_a_database_of_something_else_is_left_alone(tmp_path: Path, store: Store, url: str) -> None:
    content = await written(url)
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE precious (n INTEGER)")
    for force in (False, True):
        with pytest.raises(Invalid) as refused:
            await restored(f"sqlite:///{path}", content, force=force)
        assert refused.value.code == "store.foreign"


async def test_a_restore_leaves_a_file_for_its_owner_and_nothing_beside_it(tmp_path: Path) -> None:
    content = await written(fresh(tmp_path / "a.db"))
    path = tmp_path / "var" / "ostiary.db"
    await restored(f"sqlite:///{path}", content)
    await restored(f"sqlite:///{path}", content)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["ostiary.db"]


async def test_a_million_bytes_a_page_at_most_are_in_memory(tmp_path: Path) -> None:
    """Pages of large rows are short: the first page of each table has one row, and large ones do not get longer."""
    url = fresh(tmp_path / "a.db")
    opened = await open_store(url)
    for _ in range(6):
        await opened.revisions.keep(Revision(0, NOW, "admin", "start", "ab" * 32), os.urandom(600_000))
    await opened.close()
    reader = Reader(io.BytesIO(await written(url)))
    assert [len(page.rows) for page in reader.pages() if page.table == "revisions"] == [1] * 6
