"""Runs migrations for Alembic, on the connection that `ostiary.store.schema.migrate` opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
