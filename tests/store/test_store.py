"""The store as a whole: opened, migrated, killed; and the subjects that are small."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from msgspec.structs import replace
from tests.store.values import NOW, RECORD, furnish, request

import ostiary.store.migrations
from ostiary.core.digest import digest
from ostiary.core.refusal import Invalid, Unavailable
from ostiary.store.migrations import HEAD
from ostiary.store.ports import RecordFilter, Revision
from ostiary.store.store import Store, open_store


def test_the_named_schema_is_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(ostiary.store.migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


async def test_a_store_is_made_where_there_is_none_and_opened_where_there_is(tmp_path: Path) -> None:
    path = tmp_path / "var" / "deep" / "ostiary.db"
    first = await open_store(f"sqlite:///{path}")
    await furnish(first)
    await first.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = await open_store(f"sqlite:///{path}")
    assert len(await second.scopes.page(10)) == 1
    await second.close()


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "sqlite://",
        "sqlite:///",
        "mysql://host/db",
        "/var/ostiary.db",
        "postgresql://me:herring/fish@host/db",
        "postgresql://host/db?sslmode=no",
    ],
)
async def test_another_url_is_refused_without_telling_a_password(bad: str) -> None:
    with pytest.raises(Invalid) as refused:
        await open_store(bad)
    assert refused.value.code == "store.url"
    assert "herring" not in refused.value.message


async def test_a_store_of_a_later_version_is_refused(store: Store, url: str) -> None:
    await store.writer.each(lambda sql: sql.do("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Invalid) as refused:
        await open_store(url)
    assert refused.value.code == "store.too_new"


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ostiary.db"
    path.write_text("these are not the bytes of a database, and there are enough of them" * 100)
    with pytest.raises(Unavailable) as refused:
        await open_store(f"sqlite:///{path}")
    assert refused.value.code == "store.unavailable"
    assert f"The store sqlite:///{path} cannot be opened: " in refused.value.message


def test_opening_a_current_store_imports_no_migration_tools(url: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from ostiary.store.store import open_store\n"
        "async def main():\n"
        "    store = await open_store(sys.argv[1])\n"
        "    await store.users.empty()\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
        "print(sorted({'alembic', 'sqlalchemy', 'argon2', 'asyncpg'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=True)
    assert done.stdout == ("[]\n" if url.startswith("sqlite:") else "['asyncpg']\n")


WRITER = """
import asyncio, sys
from tests.store.values import NOW, RECORD, request
from ostiary.core.digest import digest
from ostiary.store.store import open_store

async def caller(store, name):
    for number in range(100_000):
        token = f"{name}/{number}"
        await store.tokens.issue(request(token), RECORD)
        sys.stdout.write(f"issued {token}\\n")
        if number % 3 == 0:
            await store.tokens.revoke(digest(token), "", NOW, RECORD)
            sys.stdout.write(f"revoked {token}\\n")
        sys.stdout.flush()

async def main():
    store = await open_store(sys.argv[1])
    await asyncio.gather(*(caller(store, name) for name in range(32)))

asyncio.run(main())
"""


def said_until_killed(url: str) -> list[list[str]]:
    """What a writing process had acknowledged when it was killed."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(500)]
    os.kill(writer.pid, signal.SIGKILL)
    lines += writer.stdout.read().splitlines(keepends=True)
    writer.stdout.close()
    writer.wait()
    return [line.split() for line in lines if line.endswith("\n")]


async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(url: str, store: Store) -> None:
    await furnish(store)
    for _ in range(3):
        said = said_until_killed(url)
        issued = {digest(token) for word, token in said if word == "issued"}
        revoked = {digest(token) for word, token in said if word == "revoked"}
        assert len(issued) + len(revoked) >= 500
        found = await store.tokens.live(sorted(issued), NOW)
        assert revoked & set(found) == set()
        for each in issued - set(found):
            token = await store.tokens.get(each)
            assert token is not None
            assert token.revoked
        await store.writer.each(lambda sql: sql.do("DELETE FROM tokens"))  # the next writer issues the same again
    if store.mode == "sqlite":
        assert await store.writer.each(lambda sql: sql.rows("PRAGMA integrity_check")) == [("ok",)]


async def test_numbers_of_changes_have_no_gap_although_some_are_refused(store: Store) -> None:
    await furnish(store)
    attempts = [store.tokens.issue(request(str(each)), RECORD) for each in range(5)]
    await asyncio.gather(*attempts)
    await asyncio.gather(
        *(store.tokens.revoke(digest(str(each % 7)), "" if each % 2 else "ffff", NOW, RECORD) for each in range(40)),
        return_exceptions=True,
    )
    changes = await store.changes.after(0, 1000)
    assert [change.seq for change in changes] == list(range(1, len(changes) + 1))
    assert await store.changes.newest() == len(changes)
    assert [change.seq for change in await store.changes.after(2, 2)] == [3, 4]


async def test_the_newest_change_of_none_is_none(store: Store) -> None:
    assert await store.changes.newest() == 0


async def test_revisions_are_numbered_and_come_back(store: Store) -> None:
    assert await store.revisions.newest() is None
    revision = Revision(0, NOW, "admin", "start", "ab" * 32, 3, "3 routes")
    assert await store.revisions.keep(revision, b"sealed\0one") == 1
    assert await store.revisions.keep(replace(revision, origin="reload"), b"two", RECORD) == 2
    assert await store.revisions.get(1) == (replace(revision, number=1), b"sealed\0one")
    assert await store.revisions.newest() == (replace(revision, number=2, origin="reload"), b"two")
    assert await store.revisions.get(3) is None
    assert [each.number for each in await store.revisions.page(10)] == [2, 1]
    assert [each.number for each in await store.revisions.page(10, 2)] == [1]
    assert [each.number for each in await store.revisions.page(1)] == [2]
    assert len(await store.audit.page(RecordFilter())) == 1


async def test_audit_records_are_listed_newest_first_and_filtered(store: Store) -> None:
    for number, (operation, name, outcome) in enumerate(
        [("a.b", "x", "done"), ("a.c", "x", "permission.denied"), ("a.b", "y", "done"), ("a.b", "x", "done")]
    ):
        record = replace(RECORD, at=NOW + number, operation=operation, name=name, outcome=outcome, target=str(number))
        await store.audit.append(record)

    async def targets(**fields: object) -> list[str]:
        return [each.target for each in await store.audit.page(replace(RecordFilter(), **fields))]

    assert await targets() == ["3", "2", "1", "0"]
    assert await targets(operation="a.b", name="x") == ["3", "0"]
    assert await targets(outcome="permission.denied") == ["1"]
    assert await targets(target="2") == ["2"]
    assert await targets(since=NOW + 2) == ["3", "2"]
    assert await targets(before=3) == ["1", "0"]
    assert await targets(limit=1) == ["3"]
    assert (await store.audit.page(RecordFilter(target="2")))[0] == replace(
        RECORD, at=NOW + 2, operation="a.b", name="y", target="2", number=3
    )
