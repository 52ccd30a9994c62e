"""Hosts and assignments of directors in SQL. Nothing of them is in memory: a million users cost control nothing.

All users of a host leave it by a mark (core/marks.py): whoever reads assignments here reads them with marks applied.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import count, groupby
from operator import attrgetter
from typing import NamedTuple, ParamSpec, TypeVar

import msgspec

from ostiary.core.director import NAMELESS, Arc, Assignment, Board, Edit, Host, Move, Ring, Unsteer, named
from ostiary.core.marks import Mark, marked
from ostiary.core.refusal import Refusal
from ostiary.store import changes
from ostiary.store.changes import append, keep, log
from ostiary.store.marks import COLUMNS, Cursor, affected, assignment, carry_out, catch_up, make, newest, pending, place
from ostiary.store.places import Flushed, Late, Left, Moved, Read, User, Wanted
from ostiary.store.ports import Changed, Record
from ostiary.store.sql import MOST_MARKS, Line, Row, Sql, rehearsing

P = ParamSpec("P")
R = TypeVar("R")
MOST_ROWS = 128
"""Assignments in one statement."""
MOST_NAMED = 1_000
"""Users whom the change log names; of more it has their host."""

_HOSTS = "SELECT host, port, tag, vhosts, state, changed, ailing FROM director_hosts WHERE upstream = :upstream"
_PUT = """
INSERT INTO director_hosts (upstream, host, port, tag, vhosts, state, changed, ailing)
VALUES (:upstream, :host, :port, :tag, :vhosts, :state, :changed, :ailing)
ON CONFLICT (upstream, host) DO UPDATE SET port = excluded.port, tag = excluded.tag, vhosts = excluded.vhosts,
  state = excluded.state, changed = excluded.changed, ailing = excluded.ailing
"""
_DROP = "DELETE FROM director_hosts WHERE upstream = :upstream AND host = :host"
_FORGET_USERS = "DELETE FROM assignments WHERE upstream = :upstream AND tag = :tag AND hash IN (:each)"
_OTHERS = "SELECT DISTINCT host FROM assignments WHERE upstream = :upstream AND host <> ''"

_ROW = "(:upstream, :tag, :hash{0}, :host{0}, :names{0}, :expires, 0, :seen)"
# Insert, or get what is there, in one statement: two who ask at once are told the same. Who was forgotten, or expired,
# waits for what still flows to where it was: `held` stays.
_ASSIGN = f"""
INSERT INTO assignments (upstream, {COLUMNS}, seen) VALUES {{rows}}
ON CONFLICT (upstream, tag, hash) DO UPDATE SET
  host = CASE WHEN assignments.expires > :now THEN assignments.host ELSE excluded.host END,
  names = CASE WHEN assignments.expires > :now THEN assignments.names ELSE excluded.names END,
  expires = CASE WHEN assignments.expires > excluded.expires THEN assignments.expires ELSE excluded.expires END,
  seen = excluded.seen
RETURNING {COLUMNS}
"""
_TOUCH = f"""
UPDATE assignments SET expires = :expires
WHERE upstream = :upstream AND tag = :tag AND hash IN (:each) AND expires > :now
RETURNING {COLUMNS}
"""
_NAME = "UPDATE assignments SET names = :names WHERE upstream = :upstream AND tag = :tag AND hash = :hash"
_WRITE = f"INSERT INTO assignments (upstream, {COLUMNS}, seen) VALUES"
_GET = f"SELECT {COLUMNS} FROM assignments WHERE upstream = :upstream AND tag = :tag AND hash IN (:each)"
_FIND = f"""
SELECT {COLUMNS}, seen FROM assignments
WHERE upstream = :upstream AND tag = :tag AND hash IN (:each) AND expires > :now
"""
_PAGE = f"""
SELECT {COLUMNS}, seen FROM assignments
WHERE upstream = :upstream AND expires > :now AND (:host = '' OR host = :host)
ORDER BY expires, tag, hash LIMIT :most OFFSET :skipped
"""
# All by one index, less those who are over by another: the rows themselves, a million of them, are not read.
_USERS = "SELECT host, COUNT(*) FROM assignments WHERE upstream = :upstream GROUP BY host"
_OVER = """
SELECT host, COUNT(*) FROM assignments WHERE expires <= :now AND upstream || '' = :upstream GROUP BY host || '', host
"""
_OF = "SELECT COUNT(*) AS many FROM assignments WHERE upstream = :upstream AND host = :host AND tag = :tag"
MOST_ARCS = 64
_IN_ARCS = f"""
SELECT SUM(many) FROM ({
    " UNION ALL ".join(f"{_OF} AND hash BETWEEN :first{number} AND :last{number}" for number in range(MOST_ARCS))
}) AS counts
"""
_OF_THESE = """
SELECT hash FROM assignments WHERE upstream = :upstream AND tag = :tag AND hash IN (:each) AND host = :host
"""
_OLDEST = "SELECT COALESCE(MIN(seq), 1) FROM changes"
_LATE = "SELECT seq, subject FROM changes WHERE seq > :after AND kind LIKE 'director.%' ORDER BY seq"
MOST_LATE = 20_000
"""Changes of all kinds at the end of the log among which those of directors are looked for."""
_COUNT = "SELECT COUNT(*) FROM assignments WHERE upstream = :upstream AND host IN (:each)"

_MARKS = [(f"hash{number}", f"host{number}", f"names{number}") for number in range(MOST_ROWS)]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Unsteer).decode
MOST = 1 << 40
"""More than there are."""


@lru_cache(16)
def _assigning(count: int) -> str:
    return _ASSIGN.format(rows=", ".join(_ROW.format(number) for number in range(count)))


def _hosts(sql: Sql, upstream: str) -> list[Host]:
    return [_host(row) for row in sql.rows(_HOSTS, upstream=upstream)]


def _host(row: Row) -> Host:
    host, port, tag, vhosts, state, changed, ailing = row
    return Host(host, port, tag, vhosts, state, changed, bool(ailing))


def _names(names: tuple[str, ...]) -> str:
    return _encode(names).decode()


def _powers(wanted: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
    """In pieces of a power of two: few texts to keep prepared."""
    start = 0
    while start < len(wanted):
        count = 1 << (min(MOST_ROWS, len(wanted) - start).bit_length() - 1)
        yield wanted[start : start + count]
        start += count


def _assign(
    sql: Sql,
    upstream: str,
    board: Board,
    tag: str,
    wanted: Sequence[Wanted],
    texts: Mapping[int, str],
    now: int,
    seen: int,
) -> list[Row]:
    """Rows of those who are somewhere then."""
    values: dict[str, object] = {"upstream": upstream, "tag": tag, "expires": now + board.rules.user_expire, "now": now}
    ring = board.ring(tag)
    if not ring.host(0):
        return sql.among(_TOUCH, [each.hash for each in wanted], **values)
    rows: list[Row] = []
    values["seen"] = seen
    for piece in _powers(wanted):
        marks = dict(values)
        for (hash_, host, names), each in zip(_MARKS, piece, strict=False):
            marks[hash_] = each.hash
            marks[host] = ring.host(each.hash)
            marks[names] = texts[each.hash]
        rows += sql.rows(_assigning(len(piece)), **marks)
    return rows


def _settled(
    sql: Sql, upstream: str, board: Board, tag: str, wanted: Sequence[Wanted], now: int, seen: int
) -> Iterator[Assignment]:
    """Of one tag. Who is at a host that is no more is assigned anew; names that are new are kept."""
    texts = {each.hash: _names(named((), *each.names)) for each in wanted}
    rows = _assign(sql, upstream, board, tag, wanted, texts, now, seen)
    lost = sorted({row[1] for row in rows if row[2] not in board.known})
    if lost:
        sql.among(_FORGET_USERS, lost, upstream=upstream, tag=tag)
        append(sql, now, "director.lost", unsteered(upstream, [(tag, each) for each in lost]))
        yield from _settled(sql, upstream, board, tag, [each for each in wanted if each.hash in lost], now, seen)
    asked = {each.hash: each.names for each in wanted}
    for row in rows:
        if row[1] in lost:
            continue
        each = assignment(row)
        if row[3] != texts[each.hash]:
            names = named(each.names, *asked[each.hash])
            if names != each.names:
                sql.change(_NAME, upstream=upstream, tag=tag, hash=each.hash, names=_names(names))
        yield each


def unsteered(upstream: str, users: Sequence[User] = (), hosts: Sequence[str] = ()) -> str:
    """What workers must forget because of a change, as the change log has it."""
    return _encode(Unsteer(upstream, list(users), list(hosts))).decode()


class SqlDirectors:
    """Directors in SQL."""

    def __init__(self, writer: Line, reader: Line, lister: Line) -> None:
        self._writer = writer
        self._reader = reader
        self._lister = lister

    async def hosts(self, upstream: str) -> list[Host]:
        return await self._reader.each(lambda sql: _hosts(sql, upstream))

    async def change(
        self, upstream: str, decide: Callable[[list[Host]], Edit], record: Record, held: int = 0
    ) -> Changed[Edit]:
        def unit(sql: Sql) -> Changed[Edit]:
            edit = decide(_hosts(sql, upstream))
            for host in edit.put:
                values = msgspec.structs.asdict(host) | {"ailing": int(host.ailing)}
                sql.change(_PUT, upstream=upstream, **values)
            for address in edit.drop:
                sql.change(_DROP, upstream=upstream, host=address)
            if edit == Edit():
                keep(sql, [record])
                return Changed(0, edit)
            gone = [*edit.forget, *edit.anew] or [NAMELESS]
            seq = log(sql, "director.hosts", unsteered(upstream, hosts=gone), record)
            for address in edit.forget:
                make(sql, upstream, Mark(seq, address, (), held))
            return Changed(seq, edit)

        return await self._writer.each(unit)

    async def assign(
        self, upstream: str, wanted: Sequence[Wanted], read: Read, now: int
    ) -> tuple[Board, dict[User, Assignment]]:
        by_tag = sorted(wanted, key=lambda each: (each.tag, each.hash))

        def unit(sql: Sql) -> tuple[Board, dict[User, Assignment]]:
            board, marks = read(_hosts(sql, upstream)), pending(sql, upstream)
            found = {}
            for tag, group in groupby(by_tag, key=lambda each: each.tag):
                asked = list(group)
                catch_up(sql, upstream, tag, [each.hash for each in asked], marks)
                for each in _settled(sql, upstream, board, tag, asked, now, newest(marks)):
                    found[tag, each.hash] = each
            return board, found

        return await self._writer.each(unit)

    async def touch(self, upstream: str, tag: str, hashes: Sequence[int], now: int, expires: int) -> None:
        await self._writer.each(
            lambda sql: sql.among(_TOUCH, hashes, upstream=upstream, tag=tag, now=now, expires=expires)
        )

    async def find(self, upstream: str, tag: str, hashes: Sequence[int], now: int) -> list[Assignment]:
        def unit(sql: Sql) -> list[Assignment]:
            rows = sql.among(_FIND, hashes, upstream=upstream, tag=tag, now=now)
            return _there(pending(sql, upstream), rows)

        return await self._reader.each(unit)

    async def page(self, upstream: str, host: str, now: int, limit: int, offset: int) -> list[Assignment]:
        def unit(sql: Sql) -> list[Assignment]:
            marks = pending(sql, upstream)
            if not marks:
                return _there([], sql.rows(_PAGE, upstream=upstream, host=host, now=now, most=limit, skipped=offset))
            found = _there(marks, sql.rows(_PAGE, upstream=upstream, host="", now=now, most=MOST, skipped=0))
            return [each for each in found if host in ("", each.host)][offset : offset + limit]

        return await self._lister.each(unit)

    async def users(self, upstream: str, now: int) -> dict[str, int]:
        def unit(sql: Sql) -> dict[str, int]:
            counts: Counter[str] = Counter(dict(sql.rows(_USERS, upstream=upstream)))
            counts.subtract(dict(sql.rows(_OVER, upstream=upstream, now=now)))
            for before, after in affected(sql, upstream, pending(sql, upstream)):
                if before.expires > now:
                    counts[before.host] -= 1
                    counts[after.host] += after.expires > now
            return dict(+counts)

        return await self._lister.each(unit)

    async def move(
        self, upstream: str, host: Callable[[Sequence[Host]], Host], move: Move, record: Record
    ) -> Changed[Moved]:
        return await self._writer.together(_moves, _Asked(upstream, host, move, record))

    async def flush(
        self, upstream: str, host: str, read: Read, held: int, at: int, spared: Collection[int] = ()
    ) -> Left | None:
        def unit(sql: Sql) -> list[Left] | None:
            board = read(_hosts(sql, upstream))
            if pending(sql, upstream):
                return None
            tag = board.host(host).tag
            count = _elsewhere(sql, upstream, board.host(host), board.ring(tag), spared)
            if not count:
                return []
            seq = append(sql, at, "director.flushed", unsteered(upstream, hosts=[host]))
            mark = Mark(seq, host, board.weights(tag), held, frozenset(spared))
            make(sql, upstream, mark)
            return [Left(count, mark)]

        done = await self._alone(upstream, unit)
        return done[0] if done else None

    async def flush_users(
        self, upstream: str, host: str, read: Read, held: int, at: int, hashes: Sequence[int]
    ) -> Flushed:
        def unit(sql: Sql) -> Flushed:
            board, marks = read(_hosts(sql, upstream)), pending(sql, upstream)
            tag = board.host(host).tag
            ring = board.ring(tag)
            catch_up(sql, upstream, tag, hashes, marks)
            rows = sql.among(_OF_THESE, hashes, upstream=upstream, tag=tag, host=host)
            leaving = ring.elsewhere(host, sorted(row[0] for row in rows))
            for each in leaving:
                place(sql, upstream, tag, ring.host(each), held, [each], newest(marks))
            users: list[User] = [(tag, each) for each in leaving]
            gone = unsteered(upstream, users) if len(users) <= MOST_NAMED else unsteered(upstream, hosts=[host])
            seq = append(sql, at, "director.flushed", gone) if users else 0
            return Flushed(seq, users, []) if ring.host(0) else Flushed(seq, [], users)

        return await self._writer.each(unit)

    async def forget(self, upstream: str, hosts: Sequence[str], held: int, at: int) -> Changed[int]:
        def unit(sql: Sql) -> Changed[int] | None:
            if pending(sql, upstream):
                return None
            [(count,)] = sql.among(_COUNT, hosts, upstream=upstream)
            if not count:
                return Changed(0, 0)
            seq = append(sql, at, "director.flushed", unsteered(upstream, hosts=hosts))
            for host in hosts:
                make(sql, upstream, Mark(seq, host, (), held))
            return Changed(seq, count)

        return await self._alone(upstream, unit)

    async def others(self, upstream: str, hosts: Sequence[str]) -> list[str]:
        await self.sweep(upstream)
        rows = await self._lister.each(lambda sql: sql.rows(_OTHERS, upstream=upstream))
        return sorted({row[0] for row in rows} - set(hosts))

    async def late(self) -> Late:
        return await self._reader.each(_late)

    async def sweep(self, upstream: str) -> None:
        """In a rehearsal too: it changes nothing that anybody sees."""
        token = rehearsing.set(False)
        try:
            waits = await self._reader.each(lambda sql: pending(sql, upstream))
            cursor = Cursor() if waits else None
            while cursor is not None:
                cursor = await self._writer.each(partial(carry_out, upstream=upstream, cursor=cursor))
        finally:
            rehearsing.reset(token)

    async def _alone(self, upstream: str, unit: Callable[[Sql], R | None]) -> R:
        """Do what does not reckon with marks: those that there are are carried out before."""
        while (done := await self._writer.each(unit)) is None:
            await self.sweep(upstream)
        return done


class _Asked(NamedTuple):
    """A move that is asked for."""

    upstream: str
    host: Callable[[Sequence[Host]], Host]
    move: Move
    record: Record


def _moves(sql: Sql, asked: Sequence[_Asked]) -> list[Changed[Moved] | Refusal]:
    """Those that come together share all statements, but are decided in their order."""
    return [
        outcome
        for upstream, group in groupby(asked, key=attrgetter("upstream"))
        for outcome in _moves_of(sql, upstream, list(group))
    ]


def _moves_of(sql: Sql, upstream: str, asked: Sequence[_Asked]) -> list[Changed[Moved] | Refusal]:
    hosts, marks = _hosts(sql, upstream), pending(sql, upstream)
    targets = [_outcome(each.host, hosts) for each in asked]
    there = _there_now(sql, upstream, marks, [(each.tag, one.move.hash) for each, one in _made(targets, asked)])
    outcomes: list[Moved | Refusal] = []
    for target, each in zip(targets, asked, strict=True):
        moved = target if isinstance(target, Refusal) else _outcome(_decided, target, each.move, there)
        if isinstance(moved, Moved):
            there[moved.after.tag, moved.after.hash] = moved.after
        outcomes.append(moved)
    made = _made(outcomes, asked)
    _write(sql, upstream, {(each.after.tag, each.after.hash): each.after for each, _ in made}, newest(marks))
    entries = [(unsteered(upstream, [(each.after.tag, each.after.hash)]), one.record) for each, one in made]
    numbers = count(changes.log_all(sql, "director.moved", entries) if entries else 0)
    return [each if isinstance(each, Refusal) else Changed(next(numbers), each) for each in outcomes]


def _outcome(decide: Callable[P, R], *values: P.args, **named: P.kwargs) -> R | Refusal:
    try:
        return decide(*values, **named)
    except Refusal as refusal:
        return refusal


def _made(outcomes: Sequence[R | Refusal], asked: Sequence[_Asked]) -> list[tuple[R, _Asked]]:
    """What was not refused, each with what was asked for."""
    both = zip(outcomes, asked, strict=True)
    return [(outcome, each) for outcome, each in both if not isinstance(outcome, Refusal)]


def _decided(target: Host, move: Move, there: Mapping[User, Assignment]) -> Moved:
    before = there.get((target.tag, move.hash))
    lives = before if before is not None and before.expires > move.now else None
    return Moved(lives, move.decide(target, before))


def _there_now(sql: Sql, upstream: str, marks: Sequence[Mark], users: Sequence[User]) -> dict[User, Assignment]:
    """What is written of these users, once that is as it is."""
    found = {}
    for tag in dict.fromkeys(tag for tag, _ in users):
        hashes = [number for of, number in users if of == tag]
        catch_up(sql, upstream, tag, hashes, marks)
        for row in sql.among(_GET, hashes, upstream=upstream, tag=tag):
            found[tag, row[1]] = assignment(row)
    return found


def _write(sql: Sql, upstream: str, users: Mapping[User, Assignment], seen: int) -> None:
    """Write where these are in the place of what is there."""
    for tag in dict.fromkeys(tag for tag, _ in users):
        sql.among(_FORGET_USERS, [number for of, number in users if of == tag], upstream=upstream, tag=tag)
    rows = [(upstream, *key, e.host, _names(e.names), e.expires, e.held, seen) for key, e in users.items()]
    sql.insert(_WRITE, rows)


def _late(sql: Sql) -> Late:
    [(oldest,)] = sql.rows(_OLDEST)
    last = changes.newest(sql)
    after = max(oldest - 1, last - MOST_LATE)
    return Late(after, last, [(seq, _decode(subject)) for seq, subject in sql.rows(_LATE, after=after)])


def _elsewhere(sql: Sql, upstream: str, host: Host, ring: Ring, spared: Collection[int]) -> int:
    """How many users of a host do not belong there, but for `spared`. They are counted in the index, and not read."""
    values = {"upstream": upstream, "host": host.host, "tag": host.tag}
    [(every,)] = sql.rows(_OF, **values)
    own = [arc for arc in ring.arcs() if arc.host == host.host]
    belong = sum(_in_arcs(sql, own[start : start + MOST_ARCS], **values) for start in range(0, len(own), MOST_ARCS))
    hashes = sorted(spared)
    there = [
        row[0]
        for start in range(0, len(hashes), MOST_MARKS)
        for row in sql.among(_OF_THESE, hashes[start : start + MOST_MARKS], **values)
    ]
    return int(every) - belong - len(ring.elsewhere(host.host, sorted(there)))


def _in_arcs(sql: Sql, arcs: Sequence[Arc], **values: object) -> int:
    """How many users of a host have a hash in one of these arcs (at most MOST_ARCS)."""
    for number in range(MOST_ARCS):
        first, last = arcs[number][:2] if number < len(arcs) else (1, 0)
        values |= {f"first{number}": first, f"last{number}": last}
    [(many,)] = sql.rows(_IN_ARCS, **values)
    return int(many)


def _there(marks: Sequence[Mark], rows: Iterable[Row]) -> list[Assignment]:
    found = [marked(marks, assignment(row), row[6]) for row in rows]
    return [each for each in found if each.host]
