"""Scopes in SQL."""

from collections.abc import Sequence

from msgspec import UNSET
from msgspec.structs import asdict

from ostiary.core.oauth import Scope
from ostiary.core.refusal import Conflict, NotFound
from ostiary.store.changes import log
from ostiary.store.ports import Changed, Record, ScopeChange
from ostiary.store.sql import Line, Sql

_PAGE = """
SELECT name, description, cc_expires_in, pass_expires_in, refresh_expires_in FROM scopes
WHERE name > :after ORDER BY name LIMIT :most
"""
_NAMED = """
SELECT name, description, cc_expires_in, pass_expires_in, refresh_expires_in FROM scopes WHERE name IN (:each)
"""
_CREATE = """
INSERT INTO scopes (name, description, cc_expires_in, pass_expires_in, refresh_expires_in)
VALUES (:scope, :description, :cc_expires_in, :pass_expires_in, :refresh_expires_in) ON CONFLICT (name) DO NOTHING
"""
_UPDATE = """
UPDATE scopes SET description = COALESCE(:description, description),
  cc_expires_in = COALESCE(:cc_expires_in, cc_expires_in),
  pass_expires_in = COALESCE(:pass_expires_in, pass_expires_in),
  refresh_expires_in = COALESCE(:refresh_expires_in, refresh_expires_in)
WHERE name = :name
RETURNING name, description, cc_expires_in, pass_expires_in, refresh_expires_in
"""
_IN_USE = "SELECT 1 FROM application_scopes WHERE scope = :name LIMIT 1"
_DELETE = "DELETE FROM scopes WHERE name = :name"


def named(sql: Sql, names: Sequence[str]) -> dict[str, Scope]:
    """Those of `names` that exist."""
    return {row[0]: Scope(*row) for row in sql.among(_NAMED, names)} if names else {}


class SqlScopes:
    """Scopes in SQL."""

    def __init__(self, writer: Line, reader: Line) -> None:
        self._writer = writer
        self._reader = reader

    async def page(self, limit: int, after: str = "") -> list[Scope]:
        rows = await self._reader.each(lambda sql: sql.rows(_PAGE, after=after, most=limit))
        return [Scope(*row) for row in rows]

    async def named(self, names: Sequence[str]) -> dict[str, Scope]:
        return await self._reader.each(lambda sql: named(sql, names))

    async def create(self, scope: Scope, record: Record) -> int:
        def unit(sql: Sql) -> int:
            if not sql.change(_CREATE, **asdict(scope)):
                raise Conflict("scope.exists", "The scope exists already")
            return log(sql, "scope.created", scope.scope, record)

        return await self._writer.each(unit)

    async def update(self, name: str, change: ScopeChange, record: Record) -> Changed[Scope]:
        values = {field: None if value is UNSET else value for field, value in asdict(change).items()}

        def unit(sql: Sql) -> Changed[Scope]:
            found = sql.rows(_UPDATE, name=name, **values)
            if not found:
                raise NotFound("scope.unknown", "There is no such scope")
            return Changed(log(sql, "scope.changed", name, record), Scope(*found[0]))

        return await self._writer.each(unit)

    async def delete(self, name: str, record: Record) -> int:
        def unit(sql: Sql) -> int:
            if sql.row(_IN_USE, name=name):
                raise Conflict("scope.in_use", "Client applications hold the scope")
            if not sql.change(_DELETE, name=name):
                raise NotFound("scope.unknown", "There is no such scope")
            return log(sql, "scope.deleted", name, record)

        return await self._writer.each(unit)
