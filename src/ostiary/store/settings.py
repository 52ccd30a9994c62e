"""Settings that operators change at run time, in SQL: they stand above the file's."""

from collections.abc import Mapping

from ostiary.store.changes import log
from ostiary.store.ports import Record
from ostiary.store.sql import Line, Sql

_ALL = "SELECT name, value FROM settings"
_SET = """
INSERT INTO settings (name, value, at, author) VALUES (:name, :value, :at, :author)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at, author = excluded.author
"""
_UNSET = "DELETE FROM settings WHERE name = :name"


class SqlSettings:
    """Settings in SQL."""

    def __init__(self, writer: Line, reader: Line) -> None:
        self._writer = writer
        self._reader = reader

    async def all(self) -> dict[str, str]:
        return dict(await self._reader.each(lambda sql: [(row[0], row[1]) for row in sql.rows(_ALL)]))

    async def set(self, values: Mapping[str, str | None], author: str, record: Record) -> int:
        def unit(sql: Sql) -> int:
            for name, value in values.items():
                if value is None:
                    sql.change(_UNSET, name=name)
                else:
                    sql.change(_SET, name=name, value=value, at=record.at, author=author)
            return log(sql, "settings.changed", " ".join(sorted(values)), record)

        return await self._writer.each(unit)
