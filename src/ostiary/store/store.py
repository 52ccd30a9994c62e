"""The store: opened by its URL, all subjects in one place."""

import asyncio
import os
import sqlite3
from functools import partial
from pathlib import Path

from ostiary.core.refusal import Invalid, Unavailable
from ostiary.store.applications import SqlApplications
from ostiary.store.changes import SqlAudit, SqlChanges
from ostiary.store.consents import SqlConsents
from ostiary.store.keys import SqlKeys
from ostiary.store.migrations import HEAD
from ostiary.store.revisions import SqlRevisions
from ostiary.store.schema import current, migrate
from ostiary.store.scopes import SqlScopes
from ostiary.store.sql import Line, Sql
from ostiary.store.tokens import SqlTokens
from ostiary.store.users import SqlUsers

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


class Store:
    """Everything that lasts. Writes have one line, short reads another, and long reads a third (`lister`)."""

    def __init__(self, path: Path) -> None:
        connect = partial(_connect, path)
        self.writer = writer = Line(connect, "store-write", "BEGIN IMMEDIATE")
        reader = Line(connect, "store-read", "BEGIN")
        self.lister = lister = Line(connect, "store-list", "BEGIN")
        self._lines = (writer, reader, lister)
        self.scopes = SqlScopes(writer, reader)
        self.applications = SqlApplications(writer, reader)
        self.tokens = SqlTokens(writer, reader, lister)
        self.consents = SqlConsents(writer, reader)
        self.keys = SqlKeys(writer, reader)
        self.revisions = SqlRevisions(writer, lister)
        self.users = SqlUsers(writer, reader)
        self.audit = SqlAudit(writer, lister)
        self.changes = SqlChanges(reader)

    async def close(self) -> None:
        """Finish what was asked and end."""
        for line in self._lines:
            await line.close()


async def open_store(url: str) -> Store:
    """Open (or make) the database at `url`: `sqlite:///PATH`, four slashes for an absolute path.

    A schema that is not current is brought up to date first. Refuses Invalid `store.url`, `store.too_new`,
    Unavailable `store.unavailable`.
    """
    if not url.startswith(SCHEME) or not url.removeprefix(SCHEME):
        raise Invalid("store.url", "store.url must be sqlite:///PATH")
    path = Path(url.removeprefix(SCHEME))
    try:
        await asyncio.get_running_loop().run_in_executor(None, _prepare, path)
    except (OSError, sqlite3.Error) as error:
        raise Unavailable("store.unavailable", f"The store cannot be opened: {error}") from error
    return Store(path)


def _prepare(path: Path) -> None:
    """Make the file, for its owner only, and the schema."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    try:
        connection.execute(PRAGMAS[0])
        version = current(connection)
        if version > HEAD:
            raise Invalid("store.too_new", f"The store has schema {version}; this Ostiary knows up to {HEAD}")
        if version != HEAD:
            migrate(path)
    finally:
        connection.close()


def _connect(path: Path) -> Sql:
    connection = sqlite3.connect(
        path, timeout=PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=PREPARED
    )
    for pragma in PRAGMAS:
        connection.execute(pragma)
    return Sql(connection)
