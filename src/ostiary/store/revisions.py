"""Revisions in SQL: configurations by number, their sources sealed by whoever keeps them."""

from ostiary.store.changes import append, keep
from ostiary.store.ports import Record, Revision
from ostiary.store.sql import Line, Row, Sql

_KEEP = """
INSERT INTO revisions (at, author, origin, digest, routes, summary, sealed)
VALUES (:at, :author, :origin, :digest, :routes, :summary, :sealed) RETURNING number
"""
_PAGE = """
SELECT number, at, author, origin, digest, routes, summary FROM revisions
WHERE :before = 0 OR number < :before ORDER BY number DESC LIMIT :most
"""
_GET = """
SELECT number, at, author, origin, digest, routes, summary, sealed FROM revisions WHERE number = :number
"""
_NEWEST = """
SELECT number, at, author, origin, digest, routes, summary, sealed FROM revisions ORDER BY number DESC LIMIT 1
"""


def _revision(row: Row | None) -> tuple[Revision, bytes] | None:
    return None if row is None else (Revision(*row[:-1]), row[-1])


class SqlRevisions:
    """Revisions in SQL."""

    def __init__(self, writer: Line, lister: Line) -> None:
        self._writer = writer
        self._lister = lister

    async def keep(self, revision: Revision, sealed: bytes, record: Record | None = None) -> int:
        def unit(sql: Sql) -> int:
            [(number,)] = sql.rows(
                _KEEP, at=revision.at, author=revision.author, origin=revision.origin, digest=revision.digest,
                routes=revision.routes, summary=revision.summary, sealed=sealed,
            )  # fmt: skip
            append(sql, revision.at, "revision.kept", str(number))
            if record is not None:
                keep(sql, [record])
            return int(number)

        return await self._writer.each(unit)

    async def page(self, limit: int, before: int = 0) -> list[Revision]:
        rows = await self._lister.each(lambda sql: sql.rows(_PAGE, before=before, most=limit))
        return [Revision(*row) for row in rows]

    async def get(self, number: int) -> tuple[Revision, bytes] | None:
        return _revision(await self._lister.each(lambda sql: sql.row(_GET, number=number)))

    async def newest(self) -> tuple[Revision, bytes] | None:
        return _revision(await self._lister.each(lambda sql: sql.row(_NEWEST)))
