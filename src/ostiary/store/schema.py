"""The schema's version, and bringing it up to date. Alembic is imported only when there is something to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ostiary.store.migrations import HEAD
from ostiary.store.sql import Down, Sql

if TYPE_CHECKING:
    from sqlalchemy import Connection

_KNOWN = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'",
    "postgresql": "SELECT 1 WHERE to_regclass('alembic_version') IS NOT NULL",
}


def current(sql: Sql) -> str:
    """The version of the schema, `""` for an empty database."""
    row = sql.row("SELECT version_num FROM alembic_version") if sql.row(_KNOWN[sql.mode]) else None
    return "" if row is None else str(row[0])


def upgrade(connection: "Connection", version: str = HEAD) -> None:
    """Bring the schema up to `version`, in the transaction that the connection is in."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, version)


@contextmanager
def migrating() -> Iterator[None]:
    """Around a migration: what the database says no to is raised as Down."""
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        raise Down(str(error.orig)) from error
