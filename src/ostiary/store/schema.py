"""The schema's version, and bringing it up to date. Alembic is imported only when there is something to do."""

import sqlite3
from pathlib import Path

from ostiary.store.migrations import HEAD


def current(connection: sqlite3.Connection) -> str:
    """The version of the schema, `""` for an empty database."""
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    return "" if row is None else str(row[0])


def migrate(path: Path) -> None:
    """Bring the schema of the database file up to HEAD, in one transaction."""
    import sqlalchemy as sa
    from alembic import command
    from alembic.config import Config

    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.pool.NullPool)
    # The driver would begin transactions by itself, and not before DDL: it is told to leave that to us.
    sa.event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)
