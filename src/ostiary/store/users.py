"""Users in SQL. The owner is single: an index of the database sees to it."""

from ostiary.store.changes import log
from ostiary.store.ports import Record, User
from ostiary.store.sql import Line, Sql

# An address first, where one was meant; no name is another user's address.
_NAMED = """
SELECT id, name, role, email, active, created, password FROM users
WHERE name = :name OR folded_email = :folded ORDER BY folded_email = :folded DESC LIMIT 1
"""
_ANY = "SELECT 1 FROM users LIMIT 1"
_CREATE_FIRST = """
INSERT INTO users (name, folded_name, email, folded_email, role, active, created, password)
SELECT :name, :folded_name, :email, :folded_email, :role, :active, :created, :password
WHERE NOT EXISTS (SELECT 1 FROM users)
"""


class SqlUsers:
    """Users in SQL."""

    def __init__(self, writer: Line, reader: Line) -> None:
        self._writer = writer
        self._reader = reader

    async def named(self, name: str) -> tuple[User, str] | None:
        folded = name.casefold() if "@" in name else None
        row = await self._reader.each(lambda sql: sql.row(_NAMED, name=name, folded=folded))
        if row is None:
            return None
        number, kept, role, email, active, created, password = row
        return User(number, kept, role, email, bool(active), created), password

    async def empty(self) -> bool:
        return await self._reader.each(lambda sql: sql.row(_ANY)) is None

    async def create_first(self, user: User, password: str, record: Record) -> bool:
        def unit(sql: Sql) -> bool:
            made = sql.change(
                _CREATE_FIRST, name=user.name, folded_name=user.name.casefold(), email=user.email,
                folded_email=user.email.casefold() or None, role=user.role, active=int(user.active),
                created=user.created, password=password,
            )  # fmt: skip
            if made:
                log(sql, "user.created", user.name, record)
            return bool(made)

        return await self._writer.each(unit)
