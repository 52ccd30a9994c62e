"""Droplets and jobs in SQL. Names and ports are unique because the tables say so."""

from collections.abc import Sequence

import msgspec

from ostiary.core.droplets import Place, counted_name
from ostiary.core.lifecycle import Life
from ostiary.core.refusal import Conflict
from ostiary.store.changes import keep
from ostiary.store.fleet import Job, Kept
from ostiary.store.ports import Record
from ostiary.store.sql import Line, Row, Sql

_COLUMNS = "id, name, template, created, ports, recipe, life, place"
_ALL = f"SELECT {_COLUMNS} FROM droplets ORDER BY created, id"
_COUNT = "SELECT COUNT(*) FROM droplets"
_NEXT = """
INSERT INTO last_numbers (name, number) VALUES ('droplet', 1)
ON CONFLICT (name) DO UPDATE SET number = last_numbers.number + 1 RETURNING number
"""
_NAMED = "SELECT 1 FROM droplets WHERE name = :name"
_ADD = f"""
INSERT INTO droplets ({_COLUMNS}) VALUES (:id, :name, :template, :created, :ports, :recipe, :life, :place)
ON CONFLICT (name) DO NOTHING
"""
_ADD_PORT = "INSERT INTO droplet_ports (port, droplet) VALUES (:port, :id) ON CONFLICT (port) DO NOTHING"
_LIVE = "UPDATE droplets SET life = :life WHERE id = :id"
_REMAKE = """
UPDATE droplets SET template = :template, ports = :ports, recipe = :recipe, life = :life, place = :place WHERE id = :id
"""
_DELETE = "DELETE FROM droplets WHERE id = :id"
_FREE_PORTS = "DELETE FROM droplet_ports WHERE droplet = :id"
# What operators made of a host of a director is about that droplet, not about the next one on its port.
_FORGET_HOSTS = """
DELETE FROM director_hosts
WHERE host IN (SELECT '127.0.0.1:' || port FROM droplet_ports WHERE droplet = :id AND port NOT IN (:each))
"""

_JOB = "id, operation, droplet, state, created, finished, error, code"
_PUT_JOB = f"""
INSERT INTO jobs ({_JOB}) VALUES (:id, :operation, :droplet, :state, :created, :finished, :error, :code)
ON CONFLICT (id) DO UPDATE SET droplet = excluded.droplet, state = excluded.state, finished = excluded.finished,
  error = excluded.error, code = excluded.code
"""
_GET_JOB = f"SELECT {_JOB} FROM jobs WHERE id = :id"
_INTERRUPT = """
UPDATE jobs SET state = 'failed', error = 'interrupted', code = 'interrupted', finished = :at WHERE finished IS NULL
"""

_encode = msgspec.json.Encoder().encode
_life = msgspec.json.Decoder(Life).decode
_ports = msgspec.json.Decoder(dict[int, int]).decode
_place = msgspec.json.Decoder(Place).decode


def _text(value: object) -> str | None:
    return None if value is None else _encode(value).decode()


def _kept(row: Row) -> Kept:
    ident, name, template, created, ports, recipe, life, place = row
    return Kept(
        ident, name, template, created, _ports(ports), bytes(recipe), _life(life), _place(place) if place else None
    )


def _free_name(sql: Sql, prefix: str) -> str:
    """A name that was never given by number and that nobody chose."""
    while True:
        [(number,)] = sql.rows(_NEXT)
        name = counted_name(prefix, number)
        if sql.row(_NAMED, name=name) is None:
            return name


def _create(sql: Sql, droplet: Kept, prefix: str, most: int, record: Record | None) -> Kept:
    [(count,)] = sql.rows(_COUNT)
    if count >= most:
        raise Conflict("droplets.limit", "The limit of droplets is reached")
    droplet = msgspec.structs.replace(droplet, name=droplet.name or _free_name(sql, prefix))
    added = sql.change(
        _ADD, id=droplet.id, name=droplet.name, template=droplet.template, created=droplet.created,
        ports=_text(droplet.ports), recipe=droplet.recipe, life=_text(droplet.life), place=_text(droplet.place),
    )  # fmt: skip
    if not added:
        raise Conflict("droplet.exists", "Droplet name is already taken")
    _add_ports(sql, droplet)
    if record is not None:
        keep(sql, [msgspec.structs.replace(record, target=droplet.name)])
    return droplet


def _add_ports(sql: Sql, droplet: Kept) -> None:
    for port in droplet.ports.values():
        if not sql.change(_ADD_PORT, port=port, id=droplet.id):
            raise Conflict("port.taken", f"Port {port} belongs to another droplet")


def _free_ports(sql: Sql, ident: str, taken_again: Sequence[int] = ()) -> None:
    sql.among(_FORGET_HOSTS, [0, *taken_again], id=ident)
    sql.change(_FREE_PORTS, id=ident)


class SqlDroplets:
    """Droplets in SQL."""

    def __init__(self, writer: Line, lister: Line) -> None:
        self._writer = writer
        self._lister = lister

    async def all(self) -> list[Kept]:
        return [_kept(row) for row in await self._lister.each(lambda sql: sql.rows(_ALL))]

    async def create(self, droplet: Kept, prefix: str, most: int, record: Record | None = None) -> Kept:
        return await self._writer.each(lambda sql: _create(sql, droplet, prefix, most, record))

    async def live(self, ident: str, life: Life, record: Record | None = None) -> None:
        def unit(sql: Sql) -> None:
            sql.change(_LIVE, id=ident, life=_text(life))
            keep(sql, [record] if record else [])

        await self._writer.each(unit)

    async def remake(self, droplet: Kept) -> None:
        def unit(sql: Sql) -> None:
            changed = sql.change(
                _REMAKE, id=droplet.id, template=droplet.template, ports=_text(droplet.ports), recipe=droplet.recipe,
                life=_text(droplet.life), place=_text(droplet.place),
            )  # fmt: skip
            _free_ports(sql, droplet.id, tuple(droplet.ports.values()))
            if changed:
                _add_ports(sql, droplet)

        await self._writer.each(unit)

    async def delete(self, ident: str) -> None:
        def unit(sql: Sql) -> None:
            _free_ports(sql, ident)
            sql.change(_DELETE, id=ident)

        await self._writer.each(unit)


class SqlJobs:
    """Jobs in SQL."""

    def __init__(self, writer: Line, reader: Line) -> None:
        self._writer = writer
        self._reader = reader

    async def put(self, job: Job, record: Record | None = None) -> None:
        def unit(sql: Sql) -> None:
            sql.change(
                _PUT_JOB, id=job.id, operation=job.operation, droplet=job.droplet, state=job.state,
                created=job.created_at, finished=job.finished_at, error=job.error, code=job.code,
            )  # fmt: skip
            keep(sql, [record] if record else [])

        await self._writer.each(unit)

    async def get(self, ident: str) -> Job | None:
        row = await self._reader.each(lambda sql: sql.row(_GET_JOB, id=ident))
        return None if row is None else Job(*row)

    async def interrupt(self, at: int) -> int:
        return await self._writer.each(lambda sql: sql.change(_INTERRUPT, at=at))
