"""Roles in SQL: the custom ones; those that are built in are code."""

import msgspec
from msgspec import UNSET, UnsetType

from ostiary.core.people import Role
from ostiary.core.permission import ROLES
from ostiary.core.refusal import Conflict, NotFound
from ostiary.store.changes import append, keep, log
from ostiary.store.ports import Changed, Record
from ostiary.store.sql import Line, Row, Sql

_PAGE = "SELECT name, description, permissions FROM roles ORDER BY name"
_GET = "SELECT name, description, permissions FROM roles WHERE name = :name"
_CREATE = """
INSERT INTO roles (name, description, permissions) VALUES (:name, :description, :permissions)
ON CONFLICT (name) DO NOTHING
"""
_UPDATE = "UPDATE roles SET description = :description, permissions = :permissions WHERE name = :name"
_DELETE = "DELETE FROM roles WHERE name = :name"
_IN_USE = "SELECT 1 FROM users WHERE role = :name LIMIT 1"

_encode = msgspec.json.Encoder().encode
_permissions = msgspec.json.Decoder(frozenset[str]).decode


def role_of(row: Row) -> Role:
    """A custom role out of name, description and permissions."""
    return Role(row[0], _permissions(row[2]), row[1])


def built_in(name: str) -> Role | None:
    """The built-in role of that name."""
    return Role(name, ROLES[name], built_in=True) if name in ROLES else None


def held_role(name: str, row: Row) -> Role | None:
    """The role that a user has; `row` is the custom one of that name, NULLs where there is none."""
    return built_in(name) or (None if row[0] is None else role_of(row))


def role_named(sql: Sql, name: str) -> Role | None:
    """A built-in or custom role."""
    row = None if name in ROLES else sql.row(_GET, name=name)
    return built_in(name) if row is None else role_of(row)


def _kept(permissions: frozenset[str]) -> str:
    return _encode(sorted(permissions)).decode()


def _existing(sql: Sql, name: str) -> Role:
    """The custom role. Refuses NotFound `role.unknown`, Conflict `role.built_in`."""
    found = role_named(sql, name)
    if found is None:
        raise NotFound("role.unknown", "There is no such role")
    if found.built_in:
        raise Conflict("role.built_in", "A built-in role stays as it is")
    return found


def make_role(sql: Sql, role: Role, at: int) -> int:
    """Keep a custom role; the number of the change. Refuses Conflict `role.exists`."""
    values = {"name": role.name, "description": role.description, "permissions": _kept(role.permissions)}
    if role.name in ROLES or not sql.change(_CREATE, **values):
        raise Conflict("role.exists", "The role exists already")
    return append(sql, at, "role.created", role.name)


class SqlRoles:
    """Roles in SQL."""

    def __init__(self, writer: Line, reader: Line) -> None:
        self._writer = writer
        self._reader = reader

    async def page(self) -> list[Role]:
        return [role_of(row) for row in await self._reader.each(lambda sql: sql.rows(_PAGE))]

    async def get(self, name: str) -> Role | None:
        return await self._reader.each(lambda sql: role_named(sql, name))

    async def create(self, role: Role, record: Record) -> int:
        def unit(sql: Sql) -> int:
            keep(sql, [record])
            return make_role(sql, role, record.at)

        return await self._writer.each(unit)

    async def update(
        self, name: str, permissions: frozenset[str] | None, description: str | UnsetType | None, record: Record
    ) -> Changed[Role]:
        def unit(sql: Sql) -> Changed[Role]:
            old = _existing(sql, name)
            new = Role(
                name,
                old.permissions if permissions is None else permissions,
                old.description if description is UNSET else description,
            )
            sql.change(_UPDATE, name=name, description=new.description, permissions=_kept(new.permissions))
            return Changed(log(sql, "role.changed", name, record), new)

        return await self._writer.each(unit)

    async def delete(self, name: str, record: Record) -> int:
        def unit(sql: Sql) -> int:
            _existing(sql, name)
            if sql.row(_IN_USE, name=name) is not None:
                raise Conflict("role.in_use", "Users hold the role")
            sql.change(_DELETE, name=name)
            return log(sql, "role.deleted", name, record)

        return await self._writer.each(unit)
