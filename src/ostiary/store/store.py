"""The store: opened by its URL, all subjects in one place."""

import asyncio
import re
from pathlib import Path
from typing import Protocol

from ostiary.core.refusal import Invalid, Refusal, Unavailable
from ostiary.store.applications import SqlApplications
from ostiary.store.apps import SqlApps
from ostiary.store.changes import SqlAudit, SqlChanges
from ostiary.store.consents import SqlConsents
from ostiary.store.credentials import SqlCredentials
from ostiary.store.director import SqlDirectors
from ostiary.store.droplets import SqlDroplets, SqlJobs
from ostiary.store.keys import SqlKeys
from ostiary.store.migrations import HEAD
from ostiary.store.nodes import SqlNodes
from ostiary.store.replays import SqlReplays
from ostiary.store.revisions import SqlRevisions
from ostiary.store.roles import SqlRoles
from ostiary.store.schema import current
from ostiary.store.scopes import SqlScopes
from ostiary.store.settings import SqlSettings
from ostiary.store.sql import Down, Line, Mode, Rejected, Sql
from ostiary.store.sqlite import SCHEME, Sqlite
from ostiary.store.tokens import SqlTokens
from ostiary.store.users import SqlUsers

POSTGRESQL = "postgresql://"


class Engine(Protocol):
    """A kind of database, at one place. Its connections raise Down where they cannot be had."""

    @property
    def mode(self) -> Mode: ...

    def writer(self) -> Sql:
        """A connection whose transactions see all that was committed before them; no two of them run at once."""

    def reader(self) -> Sql:
        """A connection for short reads; each transaction sees one moment."""

    def lister(self) -> Sql:
        """The same for reads that may take longer."""

    def migrate(self, version: str = HEAD) -> None:
        """Bring the schema up to `version` in one transaction, which waits for another that does the same."""


class Store:
    """Everything that lasts. Writes have one line, short reads another, and long reads a third (`lister`)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.mode = engine.mode
        self.writer = writer = Line(engine.writer, "store-write")
        reader = Line(engine.reader, "store-read")
        self.lister = lister = Line(engine.lister, "store-list")
        self._lines = (writer, reader, lister)
        self.scopes = SqlScopes(writer, reader)
        self.applications = SqlApplications(writer, reader)
        self.tokens = SqlTokens(writer, reader, lister)
        self.consents = SqlConsents(writer, reader)
        self.keys = SqlKeys(writer, reader)
        self.revisions = SqlRevisions(writer, lister)
        self.users = SqlUsers(writer, reader, lister)
        self.roles = SqlRoles(writer, reader)
        self.credentials = SqlCredentials(writer, reader)
        self.settings = SqlSettings(writer, reader)
        self.droplets = SqlDroplets(writer, lister)
        self.jobs = SqlJobs(writer, reader)
        self.apps = SqlApps(writer, reader)
        self.directors = SqlDirectors(writer, reader, lister)
        self.nodes = SqlNodes(writer, reader)
        self.audit = SqlAudit(writer, lister)
        self.replays = SqlReplays(writer)
        self.changes = SqlChanges(reader)

    async def prepare(self) -> None:
        """Bring the schema up to date. Refuses Invalid `store.too_new`, and what `Line.each` refuses."""
        version = await self.writer.each(current)
        if version > HEAD:
            raise Invalid("store.too_new", f"The store has schema {version}; this Ostiary knows up to {HEAD}")
        if version != HEAD:
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._engine.migrate)
            except (Down, Rejected) as failure:
                raise failure.refusal() from failure

    async def close(self) -> None:
        """Finish what was asked and end."""
        for line in self._lines:
            await line.close()


async def open_store(url: str, *, alone: bool = True) -> Store:
    """Open (or make) the database at `url`: `sqlite:///PATH` (four slashes: an absolute path) or `postgresql://...`.

    A schema that is not current is brought up to date first. `alone`: as a node does; where the database is
    PostgreSQL's, no other may then be opened like this until this one is closed or its process ends. Refuses Invalid
    `store.url`, `store.too_new`, Unavailable `store.in_use`, `store.unavailable`.
    """
    store = Store(engine(url, alone))
    try:
        await store.prepare()
    except Refusal as refusal:
        await store.close()
        if refusal.code != "store.unavailable":
            raise
        raise Unavailable(refusal.code, f"The store {_shown(url)} cannot be opened: {refusal.__cause__}") from refusal
    return store


def _shown(url: str) -> str:
    """The URL without a user and a password."""
    return re.sub(r"(?<=://)[^/]*@", "", url.partition("?")[0])


def engine(url: str, alone: bool) -> Engine:
    """What the URL names. Refuses Invalid `store.url`. PostgreSQL's driver is imported only where it is used."""
    if url.startswith(POSTGRESQL):
        from ostiary.store.postgresql import Postgresql

        return Postgresql(url, alone)
    if url.startswith(SCHEME) and url != SCHEME:
        return Sqlite(Path(url.removeprefix(SCHEME)))
    raise Invalid("store.url", "store.url must be sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE")
