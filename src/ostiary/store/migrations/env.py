"""Runs migrations for Alembic, on the connection that the engine opened."""

from typing import Any

import sqlalchemy as sa
from alembic import context
from sqlalchemy.ext.compiler import compiles


@compiles(sa.Text, "postgresql")
def bytewise(*_: Any, **__: Any) -> str:
    """Texts are compared by their bytes, as in SQLite, whatever the database was made with."""
    return 'TEXT COLLATE "C"'


context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
