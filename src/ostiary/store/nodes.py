"""Nodes that are expected, in SQL."""

from ostiary.store.changes import keep, log
from ostiary.store.ports import Record
from ostiary.store.sql import Line, Sql

_ALL = "SELECT address, port FROM expected_nodes ORDER BY address, port"
_ADD = """
INSERT INTO expected_nodes (address, port, at) VALUES (:address, :port, :at) ON CONFLICT (address, port) DO NOTHING
"""
_REMOVE = "DELETE FROM expected_nodes WHERE address = :address AND port = :port"


class SqlNodes:
    """Nodes in SQL."""

    def __init__(self, writer: Line, reader: Line) -> None:
        self._writer = writer
        self._reader = reader

    async def all(self) -> list[tuple[str, int]]:
        return [(row[0], row[1]) for row in await self._reader.each(lambda sql: sql.rows(_ALL))]

    async def add(self, address: str, port: int, record: Record) -> int:
        def unit(sql: Sql) -> int:
            added = sql.change(_ADD, address=address, port=port, at=record.at)
            return _logged(sql, added, "node.added", address, record)

        return await self._writer.each(unit)

    async def remove(self, address: str, port: int, record: Record) -> int:
        def unit(sql: Sql) -> int:
            return _logged(sql, sql.change(_REMOVE, address=address, port=port), "node.removed", address, record)

        return await self._writer.each(unit)


def _logged(sql: Sql, changed: int, kind: str, address: str, record: Record) -> int:
    if changed:
        return log(sql, kind, address, record)
    keep(sql, [record])
    return 0
