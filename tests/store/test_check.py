"""What a check finds: nothing in a whole store, and each thing that may be wrong."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.store.template import fresh
from tests.store.values import NOW, RECORD, furnish, request

from ostiary.core.refusal import Unavailable
from ostiary.store.check import check
from ostiary.store.direct import within
from ostiary.store.migrations import HEAD
from ostiary.store.people import NewUser
from ostiary.store.store import Store, open_store


async def test_a_whole_store_has_nothing_wrong(store: Store, url: str) -> None:
    await furnish(store)
    await store.tokens.issue(request("one"), RECORD)
    found = await asyncio.to_thread(check, url)
    assert (found.valid, found.wrong, found.schema) == (True, [], HEAD)
    assert found.engine == store.mode
    assert (found.tables["tokens"].rows, found.tables["scopes"].rows) == (1, 1)
    assert found.bytes > 0
    assert "alembic_version" not in found.tables


WRONG = {
    "1 tokens of an unknown kind": "UPDATE tokens SET kind = 'golden', family = digest WHERE id = 1",
    "1 refresh tokens and codes without a family": "UPDATE tokens SET kind = 'refresh' WHERE id = 1",
    "1 tokens issued after the newest change": "UPDATE tokens SET seq = 1000 WHERE id = 1",
    "1 gaps in the change log": "DELETE FROM changes WHERE seq = 2",
    "tokens: 1 rows whose details cannot be read": "UPDATE tokens SET details = '[1]' WHERE id = 1",
    "applications: 2 rows whose details cannot be read": "UPDATE applications SET details = 'x'",
    "applications: 2 rows whose grant_types cannot be read": "UPDATE applications SET grant_types = '{}'",
}


@pytest.mark.parametrize(("said", "statement"), WRONG.items(), ids=WRONG)
async def test_each_thing_wrong_is_said(store: Store, url: str, said: str, statement: str) -> None:
    await furnish(store, "ab01", "ab02")
    for name in ("one", "two"):
        await store.tokens.issue(request(name), RECORD)
    await store.writer.each(lambda sql: sql.change(statement))
    found = await asyncio.to_thread(check, url)
    assert (found.valid, found.wrong) == (False, [said])


async def test_a_digest_that_is_none_is_said(store: Store, url: str) -> None:
    await furnish(store)
    await store.tokens.issue(request("one"), RECORD)
    await store.writer.each(lambda sql: sql.change("UPDATE tokens SET digest = :text", text=b"a token's text"))
    found = await asyncio.to_thread(check, url)
    assert found.wrong == ["1 tokens that are not kept as a digest"]


def spoilt(path: Path, *statements: str) -> list[str]:
    """What a check says of a file in which somebody wrote by hand."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return check(f"sqlite:///{path}").wrong


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a scope, an application that holds it, and a token."""
    path = tmp_path / "ostiary.db"
    asyncio.run(_furnished(fresh(path)))
    return path


async def _furnished(url: str) -> None:
    store = await open_store(url)
    await furnish(store)
    await store.tokens.issue(request("one"), RECORD)
    await store.close()


def test_rows_that_refer_to_none_are_said(path: Path) -> None:
    assert spoilt(path, "DELETE FROM scopes") == [
        "application_scopes: 1 rows refer to rows of scopes that do not exist"
    ]
    assert spoilt(path, "DELETE FROM applications") == [
        "application_scopes: 1 rows refer to rows of applications that do not exist",
        "application_scopes: 1 rows refer to rows of scopes that do not exist",
    ]


def test_numbers_that_would_be_given_again_are_said(path: Path) -> None:
    assert spoilt(path, "UPDATE sqlite_sequence SET seq = 0 WHERE name = 'tokens'") == [
        "tokens: numbers up to 1 are in use, the next would be 1"
    ]


def test_a_second_owner_is_said(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP INDEX users_owner")
    asyncio.run(_owners(f"sqlite:///{path}"))
    assert check(f"sqlite:///{path}").wrong == ["1 owners beside the first"]


async def _owners(url: str) -> None:
    store = await open_store(url)
    await store.users.create(NewUser("u0", "owner", NOW, password="$argon2id$x"), RECORD)
    await store.writer.each(lambda sql: sql.change(COPY_USER))
    await store.close()


COPY_USER = """
INSERT INTO users (name, folded_name, email, role, password, active, created)
SELECT 'u2', 'u2', '', role, password, active, created FROM users"""


def test_a_broken_file_is_said(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = 'tokens_user'")
    wrong = check(f"sqlite:///{path}").wrong
    assert [line.startswith("the file: ") for line in wrong] == [True]


def test_a_schema_that_is_not_current_is_said(path: Path) -> None:
    assert spoilt(path, "UPDATE alembic_version SET version_num = '0001'") == [
        f"the schema is 0001, not {HEAD}: ostiary store migrate"
    ]


def test_a_check_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    check(f"sqlite:///{path}")
    assert path.read_bytes() == before


def deletes(connection: sa.Connection) -> None:
    connection.exec_driver_sql("DELETE FROM scopes")


def test_a_reader_cannot_write_on_postgresql(postgresql_url: str) -> None:
    with pytest.raises(Unavailable, match="read-only"):
        within(postgresql_url, deletes)
