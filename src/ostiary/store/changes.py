"""The change log and the audit: what every other subject writes beside its own change."""

from collections.abc import Sequence
from hashlib import sha256
from itertools import chain

import msgspec

from ostiary.store.ports import LoggedChange, Record, RecordFilter
from ostiary.store.sql import Line, Row, Sql

# Writes are serial, and the newest entry is never purged: so numbers have no gaps, whatever was rolled back.
_APPEND = """
INSERT INTO changes (seq, at, kind, subject) SELECT COALESCE(MAX(seq), 0) + 1, :at, :kind, :subject FROM changes
RETURNING seq
"""
_APPENDED = "INSERT INTO changes (seq, at, kind, subject) VALUES"
_AFTER = "SELECT seq, at, kind, subject FROM changes WHERE seq > :seq ORDER BY seq LIMIT :most"
_NEWEST = "SELECT COALESCE(MAX(seq), 0) FROM changes"
_RECORD = """
INSERT INTO audit (at, kind, name, credential, address, surface, operation, target, outcome, request_id, link) VALUES"""
_LAST_LINK = "SELECT link FROM audit ORDER BY number DESC LIMIT 1"
_CHAIN = """
SELECT at, kind, name, credential, address, surface, operation, target, outcome, request_id, number, link FROM audit
WHERE number > :after ORDER BY number LIMIT :most
"""
_LINK = "SELECT link FROM audit WHERE number = :number"
_PAGE = """
SELECT at, kind, name, credential, address, surface, operation, target, outcome, request_id, number FROM audit
WHERE (:operation = '' OR operation = :operation) AND (:name = '' OR name = :name)
  AND (:outcome = '' OR outcome = :outcome) AND (:target = '' OR target = :target)
  AND at >= :since AND (:until = 0 OR at < :until) AND (:before = 0 OR number < :before)
  AND (:surface = '' OR surface = :surface) AND (:address = '' OR address = :address)
ORDER BY number DESC LIMIT :most
"""


encode = msgspec.msgpack.Encoder().encode


def log(sql: Sql, kind: str, subject: str, record: Record) -> int:
    """Append to the change log and to the audit; the number of the change."""
    keep(sql, [record])
    return append(sql, record.at, kind, subject)


def append(sql: Sql, at: int, kind: str, subject: str) -> int:
    """Append to the change log; the number of the change."""
    [(seq,)] = sql.rows(_APPEND, at=at, kind=kind, subject=subject)
    return int(seq)


def log_all(sql: Sql, kind: str, entries: Sequence[tuple[str, Record]]) -> int:
    """Append many, each a subject and a record; the number of the first, which the others follow."""
    keep(sql, [record for _, record in entries])
    first = newest(sql) + 1
    sql.insert(
        _APPENDED, [(first + index, record.at, kind, subject) for index, (subject, record) in enumerate(entries)]
    )
    return first


def newest(sql: Sql) -> int:
    """The last number of the change log, 0 for none."""
    [(seq,)] = sql.rows(_NEWEST)
    return int(seq)


def keep(sql: Sql, records: Sequence[Record]) -> None:
    """Append to the audit, each record linked to the one before."""
    if not records:
        return
    last = sql.row(_LAST_LINK)
    link = b"" if last is None else last[0] or b""
    rows: list[Row] = []
    for record in records:
        row = _row(record)
        link = linked(link, row)
        rows.append((*row, link))
    sql.insert(_RECORD, rows)


def linked(before: bytes, row: Row) -> bytes:
    """The link of a record (its columns but the number): SHA-256 over the link before and the record."""
    return sha256(before + encode(row)).digest()


def _row(record: Record) -> Row:
    return (
        record.at, record.kind, record.name, record.credential, record.address, record.surface, record.operation,
        record.target, record.outcome, record.request_id,
    )  # fmt: skip


def _keep(sql: Sql, asked: Sequence[Sequence[Record]]) -> list[None]:
    keep(sql, list(chain.from_iterable(asked)))
    return [None] * len(asked)


class SqlAudit:
    """Audit in SQL."""

    def __init__(self, writer: Line, lister: Line) -> None:
        self._writer = writer
        self._lister = lister

    async def append(self, *records: Record) -> None:
        await self._writer.together(_keep, records)

    async def chain(self, after: int, limit: int) -> list[tuple[Record, bytes, bool]]:
        """In order, those after the number `after`: each with its link, and whether that fits the one before."""
        rows = await self._lister.each(lambda sql: sql.rows(_CHAIN, after=after, most=limit))
        before = await self._lister.each(lambda sql: sql.row(_LINK, number=after))
        link = b"" if before is None else before[0] or b""
        found = []
        for row in rows:
            kept = row[11] or b""
            found.append((Record(*row[:11]), kept, kept == (linked(link, row[:10]) if kept or link else b"")))
            link = kept
        return found

    async def page(self, which: RecordFilter) -> list[Record]:
        rows = await self._lister.each(
            lambda sql: sql.rows(
                _PAGE, operation=which.operation, name=which.name, outcome=which.outcome, target=which.target,
                since=which.since, until=which.until, before=which.before, surface=which.surface, address=which.address,
                most=which.limit,
            )
        )  # fmt: skip
        return [Record(*row) for row in rows]


class SqlChanges:
    """Changes in SQL."""

    def __init__(self, reader: Line) -> None:
        self._reader = reader

    async def after(self, seq: int, limit: int) -> list[LoggedChange]:
        rows = await self._reader.each(lambda sql: sql.rows(_AFTER, seq=seq, most=limit))
        return [LoggedChange(*row) for row in rows]

    async def newest(self) -> int:
        return await self._reader.each(newest)
