"""Hosts and assignments of directors in SQL. Nothing of them is in memory: a million users cost control nothing."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby

import msgspec

from ostiary.core.director import Arc, Assignment, Board, Edit, Host, Move, named
from ostiary.store.changes import append, keep, log
from ostiary.store.places import Flushed, Moved, Read, User, Wanted
from ostiary.store.ports import Changed, Record
from ostiary.store.sql import Line, Row, Sql

MOST_ROWS = 128
"""Assignments in one statement."""

_HOSTS = "SELECT host, port, tag, vhosts, state, changed, ailing FROM director_hosts WHERE upstream = :upstream"
_PUT = """
INSERT INTO director_hosts (upstream, host, port, tag, vhosts, state, changed, ailing)
VALUES (:upstream, :host, :port, :tag, :vhosts, :state, :changed, :ailing)
ON CONFLICT (upstream, host) DO UPDATE SET port = excluded.port, tag = excluded.tag, vhosts = excluded.vhosts,
  state = excluded.state, changed = excluded.changed, ailing = excluded.ailing
"""
_DROP = "DELETE FROM director_hosts WHERE upstream = :upstream AND host = :host"
_FORGET = "DELETE FROM assignments WHERE upstream = :upstream AND host = :host"
_FORGET_USERS = "DELETE FROM assignments WHERE upstream = :upstream AND tag = :tag AND hash IN (:each)"
_OTHERS = "SELECT DISTINCT host FROM assignments WHERE upstream = :upstream"

_COLUMNS = "tag, hash, host, names, expires, held"
_ROW = "(:upstream, :tag, :hash{0}, :host{0}, :names{0}, :expires, 0)"
# Insert, or get what is there, in one statement: two who ask at once are told the same.
_ASSIGN = f"""
INSERT INTO assignments (upstream, {_COLUMNS}) VALUES {{rows}}
ON CONFLICT (upstream, tag, hash) DO UPDATE SET
  host = CASE WHEN assignments.expires > :now THEN assignments.host ELSE excluded.host END,
  names = CASE WHEN assignments.expires > :now THEN assignments.names ELSE excluded.names END,
  held = CASE WHEN assignments.expires > :now AND assignments.held > :now THEN assignments.held ELSE 0 END,
  expires = CASE WHEN assignments.expires > excluded.expires THEN assignments.expires ELSE excluded.expires END
RETURNING {_COLUMNS}
"""
_TOUCH = f"""
UPDATE assignments SET expires = :expires
WHERE upstream = :upstream AND tag = :tag AND hash IN (:each) AND expires > :now
RETURNING {_COLUMNS}
"""
_NAME = "UPDATE assignments SET names = :names WHERE upstream = :upstream AND tag = :tag AND hash = :hash"
_WRITE = f"""
INSERT INTO assignments (upstream, {_COLUMNS})
VALUES (:upstream, :tag, :hash, :host, :names, :expires, :held)
ON CONFLICT (upstream, tag, hash) DO UPDATE SET host = excluded.host, names = excluded.names,
  expires = excluded.expires, held = excluded.held
"""
_GET = f"SELECT {_COLUMNS} FROM assignments WHERE upstream = :upstream AND tag = :tag AND hash = :hash"
_FIND = f"""
SELECT {_COLUMNS} FROM assignments
WHERE upstream = :upstream AND tag = :tag AND hash IN (:each) AND expires > :now
"""
_PAGE = f"""
SELECT {_COLUMNS} FROM assignments
WHERE upstream = :upstream AND expires > :now AND (:host = '' OR host = :host)
ORDER BY expires, tag, hash LIMIT :most OFFSET :skipped
"""
# Not grouped by the column itself: by its index all rows would be looked up one by one.
_USERS = """
SELECT MIN(host), COUNT(*) FROM assignments WHERE upstream = :upstream AND expires > :now GROUP BY host || ''
"""
_HELD = "SELECT held, tag, hash FROM assignments WHERE upstream = :upstream AND held > :now ORDER BY held"
_ON_ARC = """
WHERE upstream = :upstream AND host = :host AND tag = :tag AND hash >= :first AND hash <= :last RETURNING hash
"""
_FLUSH = f"UPDATE assignments SET host = :new, held = :held {_ON_ARC}"
_FLUSH_OUT = f"DELETE FROM assignments {_ON_ARC}"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[str, ...]).decode


@lru_cache(16)
def _assigning(count: int) -> str:
    return _ASSIGN.format(rows=", ".join(_ROW.format(number) for number in range(count)))


def _hosts(sql: Sql, upstream: str) -> list[Host]:
    return [_host(row) for row in sql.rows(_HOSTS, upstream=upstream)]


def _host(row: Row) -> Host:
    host, port, tag, vhosts, state, changed, ailing = row
    return Host(host, port, tag, vhosts, state, changed, bool(ailing))


def _assignment(row: Row) -> Assignment:
    return Assignment(row[0], row[1], row[2], _decode(row[3]), row[4], row[5])


def _names(names: tuple[str, ...]) -> str:
    return _encode(names).decode()


def _powers(wanted: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
    """In pieces of a power of two: few texts to keep prepared."""
    start = 0
    while start < len(wanted):
        count = 1 << (min(MOST_ROWS, len(wanted) - start).bit_length() - 1)
        yield wanted[start : start + count]
        start += count


def _assign(sql: Sql, upstream: str, board: Board, tag: str, wanted: Sequence[Wanted], now: int) -> Iterable[Row]:
    """Rows of those who are somewhere then."""
    values = {"upstream": upstream, "tag": tag, "expires": now + board.rules.user_expire, "now": now}
    ring = board.ring(tag)
    if not ring.host(0):
        return sql.among(_TOUCH, [each.hash for each in wanted], **values)
    rows: list[Row] = []
    for piece in _powers(wanted):
        marks: dict[str, object] = {}
        for number, each in enumerate(piece):
            marks[f"hash{number}"] = each.hash
            marks[f"host{number}"] = ring.host(each.hash)
            marks[f"names{number}"] = _names(named((), *each.names))
        rows += sql.rows(_assigning(len(piece)), **marks, **values)
    return rows


def _settled(
    sql: Sql, upstream: str, board: Board, tag: str, wanted: Sequence[Wanted], now: int
) -> Iterator[Assignment]:
    """Of one tag. Who is at a host that is no more is assigned anew; names that are new are kept."""
    found = [_assignment(row) for row in _assign(sql, upstream, board, tag, wanted, now)]
    lost = {each.hash for each in found if each.host not in board.hosts}
    if lost:
        sql.among(_FORGET_USERS, sorted(lost), upstream=upstream, tag=tag)
        yield from _settled(sql, upstream, board, tag, [each for each in wanted if each.hash in lost], now)
    asked = {each.hash: each.names for each in wanted}
    for each in found:
        if each.hash in lost:
            continue
        names = named(each.names, *asked[each.hash])
        if names != each.names:
            sql.change(_NAME, upstream=upstream, tag=tag, hash=each.hash, names=_names(names))
        yield each


class SqlDirectors:
    """Directors in SQL."""

    def __init__(self, writer: Line, reader: Line, lister: Line) -> None:
        self._writer = writer
        self._reader = reader
        self._lister = lister

    async def hosts(self, upstream: str) -> list[Host]:
        return await self._reader.each(lambda sql: _hosts(sql, upstream))

    async def change(self, upstream: str, decide: Callable[[list[Host]], Edit], record: Record) -> Changed[Edit]:
        def unit(sql: Sql) -> Changed[Edit]:
            edit = decide(_hosts(sql, upstream))
            for host in edit.put:
                values = msgspec.structs.asdict(host) | {"ailing": int(host.ailing)}
                sql.change(_PUT, upstream=upstream, **values)
            for address in edit.drop:
                sql.change(_DROP, upstream=upstream, host=address)
            for address in edit.forget:
                sql.change(_FORGET, upstream=upstream, host=address)
            if edit == Edit():
                keep(sql, [record])
                return Changed(0, edit)
            return Changed(log(sql, "director.hosts", upstream, record), edit)

        return await self._writer.each(unit)

    async def assign(
        self, upstream: str, wanted: Sequence[Wanted], read: Read, now: int
    ) -> tuple[Board, dict[User, Assignment]]:
        by_tag = sorted(wanted, key=lambda each: each.tag)

        def unit(sql: Sql) -> tuple[Board, dict[User, Assignment]]:
            board = read(_hosts(sql, upstream))
            found = {
                (tag, each.hash): each
                for tag, group in groupby(by_tag, key=lambda each: each.tag)
                for each in _settled(sql, upstream, board, tag, list(group), now)
            }
            return board, found

        return await self._writer.each(unit)

    async def touch(self, upstream: str, tag: str, hashes: Sequence[int], now: int, expires: int) -> None:
        await self._writer.each(
            lambda sql: sql.among(_TOUCH, hashes, upstream=upstream, tag=tag, now=now, expires=expires)
        )

    async def find(self, upstream: str, tag: str, hashes: Sequence[int], now: int) -> list[Assignment]:
        rows = await self._reader.each(lambda sql: sql.among(_FIND, hashes, upstream=upstream, tag=tag, now=now))
        return [_assignment(row) for row in rows]

    async def page(self, upstream: str, host: str, now: int, limit: int, offset: int) -> list[Assignment]:
        rows = await self._lister.each(
            lambda sql: sql.rows(_PAGE, upstream=upstream, host=host, now=now, most=limit, skipped=offset)
        )
        return [_assignment(row) for row in rows]

    async def users(self, upstream: str, now: int) -> dict[str, int]:
        return {
            row[0]: row[1] for row in await self._lister.each(lambda sql: sql.rows(_USERS, upstream=upstream, now=now))
        }

    async def move(
        self, upstream: str, host: Callable[[Sequence[Host]], Host], move: Move, record: Record
    ) -> Changed[Moved]:
        def unit(sql: Sql) -> Changed[Moved]:
            target = host(_hosts(sql, upstream))
            row = sql.row(_GET, upstream=upstream, tag=target.tag, hash=move.hash)
            before = None if row is None else _assignment(row)
            after = move.decide(target, before)
            values = msgspec.structs.asdict(after) | {"names": _names(after.names)}
            sql.change(_WRITE, upstream=upstream, **values)
            lives = before if before is not None and before.expires > move.now else None
            return Changed(log(sql, "director.moved", upstream, record), Moved(lives, after))

        return await self._writer.each(unit)

    async def flush(
        self, upstream: str, host: str, arcs: Callable[[Sequence[Host]], Sequence[Arc]], tag: str, held: int, at: int
    ) -> Flushed:
        def unit(sql: Sql) -> Flushed:
            moved: list[User] = []
            forgotten: list[User] = []
            for first, last, new in arcs(_hosts(sql, upstream)):
                values = {"upstream": upstream, "host": host, "tag": tag, "first": first, "last": last}
                if new:
                    moved += [(tag, row[0]) for row in sql.rows(_FLUSH, new=new, held=held, **values)]
                else:
                    forgotten += [(tag, row[0]) for row in sql.rows(_FLUSH_OUT, **values)]
            seq = append(sql, at, "director.flushed", upstream) if moved or forgotten else 0
            return Flushed(seq, moved, forgotten)

        return await self._writer.each(unit)

    async def forget(self, upstream: str, hosts: Sequence[str], at: int) -> Changed[int]:
        def unit(sql: Sql) -> Changed[int]:
            count = sum(sql.change(_FORGET, upstream=upstream, host=host) for host in hosts)
            return Changed(append(sql, at, "director.flushed", upstream) if count else 0, count)

        return await self._writer.each(unit)

    async def others(self, upstream: str, hosts: Sequence[str]) -> list[str]:
        rows = await self._lister.each(lambda sql: sql.rows(_OTHERS, upstream=upstream))
        return sorted({row[0] for row in rows} - set(hosts))

    async def held(self, upstream: str, now: int) -> dict[int, list[User]]:
        rows = await self._lister.each(lambda sql: sql.rows(_HELD, upstream=upstream, now=now))
        return {held: [(row[1], row[2]) for row in group] for held, group in groupby(rows, key=lambda row: int(row[0]))}
