"""Stores of every released schema are brought up to date, and what they hold keeps its meaning."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.postgresql import Server
from tests.store.test_families import asked
from tests.store.values import NOW, RECORD, SECRET, request

from ostiary.core.digest import digest
from ostiary.core.oauth import Scope
from ostiary.core.people import User
from ostiary.store.ports import LoggedChange, RecordFilter, Revision
from ostiary.store.sql import Sql
from ostiary.store.store import Store, engine, open_store

RELEASED = ("0001", "0002", "0003")

Rows = dict[str, list[dict[str, object]]]
APPLICATION: dict[str, object] = {
    "client_id": "ab01", "name": "app", "redirect_uri": "http://app.example/", "description": "", "details": "{}",
    "auth_method": "client_secret_basic", "secret_kind": SECRET.kind, "secret": SECRET.kept, "registered": NOW,
    "active": 1,
}  # fmt: skip
TOKEN: dict[str, object] = {
    "application": 1, "kind": "access", "user_id": "", "scope": "basic", "grant_type": "client_credentials",
    "details": '{"a":"1"}', "seq": 1, "issued": NOW, "expires_in": 1800, "expires": NOW + 1_800_000_000,
}  # fmt: skip
OWNER = User(1, "Admin", "owner", "admin@example.org", True, NOW)
FIRST: Rows = {
    "changes": [{"seq": 1, "at": NOW, "kind": "scope.created", "subject": "basic"}],
    "audit": [
        {"at": NOW, "kind": "user", "name": "admin", "credential": "password", "address": "", "surface": "native",
         "operation": "scopes.create", "target": "basic", "outcome": "done", "request_id": "r"},
    ],
    "scopes": [
        {"name": "basic", "description": "ü", "cc_expires_in": 1800, "pass_expires_in": 900, "refresh_expires_in": 900}
    ],
    "applications": [APPLICATION],
    "application_scopes": [{"application": 1, "scope": "basic", "position": 0}],
    "tokens": [{**TOKEN, "digest": digest("t")}, {**TOKEN, "digest": digest("gone"), "revoked": NOW}],
    "revisions": [
        {"at": NOW, "author": "a", "origin": "start", "digest": "d", "summary": "s", "routes": 3, "sealed": b"\0s"}
    ],
    "users": [
        {"name": "Admin", "folded_name": "admin", "email": "admin@example.org", "folded_email": "admin@example.org",
         "role": "owner", "password": "hash", "active": 1, "created": NOW},
    ],
}  # fmt: skip
FAMILY: Rows = {
    "tokens": [
        {**TOKEN, "digest": digest("r"), "kind": "refresh", "user_id": "alice", "grant_type": "password",
         "family": b"f", "expires": NOW + 900_000_000, "began": NOW},
    ],
}  # fmt: skip
REVEALED: Rows = {"applications": [{**APPLICATION, "client_id": "ab02", "sealed": b"sealed"}]}


def write(rows: Rows, sql: Sql) -> None:
    for table, each in rows.items():
        for row in each:
            columns = ", ".join(row)
            sql.change(f"INSERT INTO {table} ({columns}) VALUES ({', '.join(f':{name}' for name in row)})", **row)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without a schema."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ostiary.db"
    return str(request.getfixturevalue("postgresql").create())


def old(url: str, version: str) -> None:
    """Make a store of that version, with rows in it."""
    database = engine(url, alone=False)
    database.migrate(version)
    sql = database.writer()
    for since, rows in (("0001", FIRST), ("0002", FAMILY), ("0003", REVEALED)):
        if version >= since:
            sql.transaction(partial(write, rows))
    sql.close()


async def same(store: Store) -> None:
    assert await store.scopes.page(10) == [Scope("basic", "ü", 1800, 900, 900)]
    client = await store.applications.client("ab01")
    assert client is not None
    assert (client.application.scopes, client.application.active, client.secret) == (("basic",), True, SECRET)
    assert set(await store.tokens.live([digest("t"), digest("gone")], NOW)) == {digest("t")}
    account = await store.users.named("ADMIN@example.org")
    assert account is not None
    assert (account.user, account.password, account.totp) == (OWNER, "hash", b"")
    assert await store.revisions.newest() == (Revision(1, NOW, "a", "start", "d", 3, "s"), b"\0s")
    assert await store.changes.after(0, 10) == [LoggedChange(1, NOW, "scope.created", "basic")]
    assert [each.number for each in await store.audit.page(RecordFilter())] == [1]


@pytest.mark.parametrize("version", RELEASED)
async def test_what_an_older_store_holds_keeps_its_meaning(empty: str, version: str) -> None:
    await asyncio.to_thread(old, empty, version)
    store = await open_store(empty)
    await same(store)
    if version >= "0002":
        assert (await store.tokens.issue(asked("new", "refresh_token", "r"), RECORD)).refresh == digest("r")
    if version >= "0003":
        assert await store.applications.sealed(["ab01", "ab02"]) == {"ab02": b"sealed"}
    assert (await store.tokens.issue(request("after"), RECORD)).client_id == "ab01"
    await store.close()


async def test_an_older_store_that_two_open_at_once_is_migrated_once(empty: str) -> None:
    await asyncio.to_thread(old, empty, RELEASED[0])
    stores = await asyncio.gather(*(open_store(empty, alone=False) for _ in range(3)))
    for store in stores:
        await same(store)
        await store.close()


async def test_texts_are_compared_by_their_bytes(postgresql: Server, postgresql_url: str) -> None:
    found: list[tuple[Any, ...]] = postgresql.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'",
        postgresql_url,
    )
    assert found == []
