"""Marks in SQL (see core/marks.py): made in one small transaction, carried out in many small ones.

A hundred thousand assignments cannot be rewritten in the time that an operator, users of a dead host, or whoever waits
for a token can wait.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from ostiary.core.director import Assignment
from ostiary.core.marks import Mark, marked
from ostiary.store.sql import Row, Sql

COLUMNS = "tag, hash, host, names, expires, held"
CHUNK = 500
"""Assignments that are rewritten in one transaction: a few milliseconds."""

_MARKS = "SELECT number, host, ring, held, spared FROM director_marks WHERE upstream = :upstream ORDER BY number"
_MAKE = """
INSERT INTO director_marks (upstream, number, host, ring, held, spared)
VALUES (:upstream, :number, :host, :ring, :held, :spared)
"""
_DROP = "DELETE FROM director_marks WHERE upstream = :upstream AND number = :number AND host = :host"
_AMONG = f"""
SELECT {COLUMNS}, seen FROM assignments
WHERE upstream = :upstream AND tag = :tag AND hash IN (:each) AND seen < :newest
"""
_AT = f"SELECT {COLUMNS}, seen FROM assignments WHERE upstream = :upstream AND host IN (:each) AND seen < :newest"
_NEXT = f"""
SELECT {COLUMNS}, seen FROM assignments
WHERE upstream = :upstream AND host = :host AND (tag, hash) > (:tag, :hash) ORDER BY tag, hash LIMIT :most
"""
_REWRITE = """
UPDATE assignments SET host = :host, held = :held, seen = :seen, expires = CASE WHEN :host = '' THEN 0 ELSE expires END
WHERE upstream = :upstream AND tag = :tag AND hash IN (:each)
"""

_encode = msgspec.json.Encoder().encode
_ring = msgspec.json.Decoder(tuple[tuple[str, int], ...]).decode
_spared = msgspec.json.Decoder(frozenset[int]).decode
_names = msgspec.json.Decoder(tuple[str, ...]).decode


class Cursor(NamedTuple):
    """How far the carrying out of a mark has come."""

    mark: tuple[int, str] = (0, "")
    tag: str = ""
    hash: int = -1


def assignment(row: Row) -> Assignment:
    """Of COLUMNS."""
    return Assignment(row[0], row[1], row[2], _names(row[3]), row[4], row[5])


def pending(sql: Sql, upstream: str) -> list[Mark]:
    """The marks that have not been carried out, in order."""
    return [
        Mark(number, host, _ring(ring), held, _spared(spared))
        for number, host, ring, held, spared in sql.rows(_MARKS, upstream=upstream)
    ]


def newest(marks: Sequence[Mark]) -> int:
    """What an assignment that is written now has seen."""
    return marks[-1].number if marks else 0


def make(sql: Sql, upstream: str, mark: Mark) -> None:
    """Keep a mark."""
    values = {"number": mark.number, "host": mark.host, "held": mark.held}
    ring, spared = _encode(mark.ring).decode(), _encode(sorted(mark.spared)).decode()
    sql.change(_MAKE, upstream=upstream, ring=ring, spared=spared, **values)


def affected(sql: Sql, upstream: str, marks: Sequence[Mark]) -> list[tuple[Assignment, Assignment]]:
    """All assignments that the marks have changed: as they are written, and as they are."""
    hosts = sorted({mark.host for mark in marks})
    return _changed(marks, sql.among(_AT, hosts, upstream=upstream, newest=newest(marks)) if hosts else [])


def catch_up(sql: Sql, upstream: str, tag: str, hashes: Sequence[int], marks: Sequence[Mark]) -> None:
    """Rewrite these assignments as they are."""
    if marks:
        rows = sql.among(_AMONG, hashes, upstream=upstream, tag=tag, newest=newest(marks))
        _rewrite(sql, upstream, marks, rows)


def carry_out(sql: Sql, upstream: str, cursor: Cursor) -> Cursor | None:
    """Go on with the oldest mark, from where that has come to; None: there is none left."""
    marks = pending(sql, upstream)
    if not marks:
        return None
    mark = marks[0]
    if cursor.mark != (mark.number, mark.host):
        cursor = Cursor((mark.number, mark.host))
    rows = sql.rows(_NEXT, upstream=upstream, host=mark.host, tag=cursor.tag, hash=cursor.hash, most=CHUNK)
    _rewrite(sql, upstream, marks, rows)
    if len(rows) == CHUNK:
        return cursor._replace(tag=rows[-1][0], hash=rows[-1][1])
    sql.change(_DROP, upstream=upstream, number=mark.number, host=mark.host)
    return cursor


def _changed(marks: Sequence[Mark], rows: Iterable[Row]) -> list[tuple[Assignment, Assignment]]:
    found = []
    for row in rows:
        before = assignment(row)
        after = marked(marks, before, row[6])
        if after is not before:
            found.append((before, after))
    return found


def _rewrite(sql: Sql, upstream: str, marks: Sequence[Mark], rows: Iterable[Row]) -> None:
    groups: dict[tuple[str, str, int], list[int]] = {}
    for _, after in _changed(marks, rows):
        groups.setdefault((after.tag, after.host, after.held), []).append(after.hash)
    for (tag, host, held), hashes in groups.items():
        place(sql, upstream, tag, host, held, hashes, newest(marks))


def place(sql: Sql, upstream: str, tag: str, host: str, held: int, hashes: Sequence[int], seen: int) -> None:
    """Write that these are at a host, or (`""`) forgotten. They are not deleted: who comes again may have to wait."""
    values = {"upstream": upstream, "tag": tag, "host": host, "held": held, "seen": seen}
    sql.among(_REWRITE, hashes, **values)
