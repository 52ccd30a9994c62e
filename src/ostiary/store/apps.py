"""Apps in SQL: whose they are, who shares them, and what their droplets are made from, release by release."""

from collections.abc import Mapping, Sequence

import msgspec

from ostiary.core.refusal import Conflict, Forbidden, NotFound
from ostiary.store.changes import keep, log
from ostiary.store.fleet import App, Noted, Release
from ostiary.store.ports import Record
from ostiary.store.sql import Line, Row, Sql

MOST_NOTES = 1000
"""Of an app."""

_APP = """
SELECT a.number, a.id, a.uuid, a.owner, COALESCE(u.name, ''), a.template, a.release, a.structure, a.created, a.updated,
  a.deletion IS NOT NULL
FROM apps a LEFT JOIN users u ON u.id = a.owner
"""
_GET = f"{_APP} WHERE a.id = :id"
_MINE = """
(:all = 1 OR a.owner = :user
  OR EXISTS (SELECT 1 FROM collaborators c WHERE c.app = a.number AND c.user_number = :user))
"""
_PAGE = f"{_APP} WHERE {_MINE} ORDER BY a.id LIMIT :most OFFSET :offset"
_COUNT = f"SELECT COUNT(*) FROM apps a WHERE {_MINE}"
_OWNED = "SELECT COUNT(*) FROM apps WHERE owner = :user"
_OTHERS = "SELECT COUNT(*) FROM apps WHERE owner = :user AND number <> :number"
_NUMBER = "SELECT number FROM apps WHERE id = :id"
_ADD = """
INSERT INTO apps (id, uuid, owner, template, release, structure, created, updated)
VALUES (:id, :uuid, :owner, :template, :release, '{}', :at, :at)
ON CONFLICT (id) DO NOTHING
"""
_TRANSFER = "UPDATE apps SET owner = :owner, updated = :at WHERE number = :number"
_SCALED = "UPDATE apps SET structure = :structure, updated = :at WHERE number = :number"
_END = "UPDATE apps SET structure = '{}', deletion = :deletion WHERE number = :number"
_DELETION = "SELECT number, deletion FROM apps WHERE id = :id AND deletion IS NOT NULL"
_SETTLE = "UPDATE apps SET release = :release, template = :template, updated = :at WHERE number = :number"
_SHARE = "INSERT INTO collaborators (app, user_number) VALUES (:number, :user) ON CONFLICT DO NOTHING"
_UNSHARE = "DELETE FROM collaborators WHERE app = :number AND user_number = :user"
_COLLABORATORS = """
SELECT u.name FROM collaborators c JOIN apps a ON a.number = c.app JOIN users u ON u.id = c.user_number
WHERE a.id = :id ORDER BY u.name
"""
_SHARED = """
SELECT 1 FROM collaborators c JOIN apps a ON a.number = c.app WHERE a.id = :id AND c.user_number = :user
"""
_RELEASE_COLUMNS = "r.number, r.kind, r.uuid, r.author, r.env, r.image, r.created"
_RELEASE = f"""
SELECT {_RELEASE_COLUMNS} FROM releases r JOIN apps a ON a.number = r.app
WHERE a.id = :id AND r.number = CASE WHEN :number = 0 THEN a.release ELSE :number END
"""
_NEWEST = f"""
SELECT {_RELEASE_COLUMNS} FROM releases r JOIN apps a ON a.number = r.app
WHERE a.id = :id AND (r.kind = 'build') = (:build = 1) AND r.number <= a.release ORDER BY r.number DESC LIMIT 1
"""
_ADD_RELEASE = """
INSERT INTO releases (app, number, kind, uuid, author, env, image, created)
VALUES (:app, :number, :kind, :uuid, :author, :env, :image, :created)
"""
_WITHDRAW = "DELETE FROM releases WHERE app = :number AND number > (SELECT release FROM apps WHERE number = :number)"
_PROPOSED = """
SELECT a.id, r.number FROM releases r JOIN apps a ON a.number = r.app WHERE r.number > a.release ORDER BY a.id
"""
_NEXT_IS = "SELECT 1 FROM apps WHERE number = :number AND release + 1 = :release"
_HAS = "SELECT 1 FROM releases WHERE app = :number AND number = :release"
_NOTE = "INSERT INTO app_notes (app, at, text) SELECT number, :at, :text FROM apps WHERE id = :id"
_TRIM = """
DELETE FROM app_notes WHERE app = :number AND id <= (
  SELECT id FROM app_notes WHERE app = :number ORDER BY id DESC LIMIT 1 OFFSET :most)
"""
_NOTES = """
SELECT n.at, n.text FROM app_notes n JOIN apps a ON a.number = n.app WHERE a.id = :id ORDER BY n.id DESC LIMIT :most
"""
_PARTS = ("collaborators WHERE app", "releases WHERE app", "app_notes WHERE app", "apps WHERE number")

_encode = msgspec.json.Encoder().encode
_structure = msgspec.json.Decoder(dict[str, int]).decode
_record = msgspec.json.Decoder(Record).decode


def _app(row: Row) -> App:
    *plain, text, created, updated, ending = row
    return App(*(*plain, _structure(text), created, updated, bool(ending)))


def _release(row: Row | None) -> Release | None:
    return None if row is None else Release(*(*row[:4], bytes(row[4]), *row[5:]))


def _number(sql: Sql, ident: str) -> int:
    row = sql.row(_NUMBER, id=ident)
    if row is None:
        raise _unknown()
    return int(row[0])


def _unknown() -> NotFound:
    return NotFound("app.unknown", "There is no such app")


def _add_release(sql: Sql, app: int, release: Release) -> None:
    sql.change(
        _ADD_RELEASE, app=app, number=release.number, kind=release.kind, uuid=release.uuid, author=release.author,
        env=release.values, image=release.image, created=release.created,
    )  # fmt: skip


def _create(
    sql: Sql, ident: str, uuid: str, owner: int, template: str, release: Release, most: int, record: Record
) -> App:
    if sql.row(_NUMBER, id=ident) is not None:
        raise Conflict("app.exists", "An app of this name exists")
    [(owned,)] = sql.rows(_OWNED, user=owner)
    if owned >= most:
        raise Forbidden("apps.limit", "You have reached the limit of apps")
    sql.change(_ADD, id=ident, uuid=uuid, owner=owner, template=template, release=release.number, at=record.at)
    _add_release(sql, _number(sql, ident), release)
    sql.change(_NOTE, id=ident, at=record.at, text=f"{release.author} created initial release")
    log(sql, "app.created", ident, record)
    return _app(sql.rows(_GET, id=ident)[0])


def end_shares(sql: Sql, user: int) -> None:
    """Take a user out of all apps that others share, within the change that deletes the user."""
    sql.change("DELETE FROM collaborators WHERE user_number = :user", user=user)


def owns_apps(sql: Sql, user: int) -> bool:
    """Whether the user owns an app, within a change of the user."""
    [(count,)] = sql.rows(_OWNED, user=user)
    return bool(count)


class SqlApps:
    """Apps in SQL."""

    def __init__(self, writer: Line, reader: Line) -> None:
        self._writer = writer
        self._reader = reader

    async def create(
        self, ident: str, uuid: str, owner: int, template: str, release: Release, most: int, record: Record
    ) -> App:
        return await self._writer.each(lambda sql: _create(sql, ident, uuid, owner, template, release, most, record))

    async def get(self, ident: str) -> App | None:
        row = await self._reader.each(lambda sql: sql.row(_GET, id=ident))
        return None if row is None else _app(row)

    async def page(self, user: int | None, limit: int, offset: int = 0) -> tuple[list[App], int]:
        def unit(sql: Sql) -> tuple[list[App], int]:
            whose = {"all": int(user is None), "user": user or 0}
            [(count,)] = sql.rows(_COUNT, **whose)
            return [_app(row) for row in sql.rows(_PAGE, most=limit, offset=offset, **whose)], count

        return await self._reader.each(unit)

    async def owned(self, user: int) -> int:
        return int((await self._reader.each(lambda sql: sql.rows(_OWNED, user=user)))[0][0])

    async def transfer(self, ident: str, owner: int, most: int, record: Record) -> None:
        def unit(sql: Sql) -> None:
            number = _number(sql, ident)
            [(others,)] = sql.rows(_OTHERS, user=owner, number=number)
            if others >= most:
                raise Conflict("apps.full", "The new owner has reached the limit of apps")
            sql.change(_TRANSFER, number=number, owner=owner, at=record.at)
            sql.change(_UNSHARE, number=number, user=owner)
            log(sql, "app.transferred", ident, record)

        await self._writer.each(unit)

    async def end(self, ident: str, record: Record) -> None:
        def unit(sql: Sql) -> None:
            sql.change(_END, number=_number(sql, ident), deletion=_encode(record).decode())

        await self._writer.each(unit)

    async def delete(self, ident: str) -> None:
        def unit(sql: Sql) -> None:
            row = sql.row(_DELETION, id=ident)
            if row is None:
                raise _unknown()
            for part in _PARTS:
                sql.change(f"DELETE FROM {part} = :number", number=row[0])
            log(sql, "app.deleted", ident, _record(row[1]))

        await self._writer.each(unit)

    async def share(self, ident: str, user: int, record: Record) -> None:
        def unit(sql: Sql) -> None:
            sql.change(_SHARE, number=_number(sql, ident), user=user)
            keep(sql, [record])

        await self._writer.each(unit)

    async def unshare(self, ident: str, user: int, record: Record) -> bool:
        def unit(sql: Sql) -> bool:
            gone = sql.change(_UNSHARE, number=_number(sql, ident), user=user)
            if gone:
                keep(sql, [record])
            return bool(gone)

        return await self._writer.each(unit)

    async def collaborators(self, ident: str) -> list[str]:
        return [row[0] for row in await self._reader.each(lambda sql: sql.rows(_COLLABORATORS, id=ident))]

    async def shared(self, ident: str, user: int) -> bool:
        return await self._reader.each(lambda sql: sql.row(_SHARED, id=ident, user=user)) is not None

    async def scaled(self, ident: str, structure: Mapping[str, int], record: Record) -> None:
        def unit(sql: Sql) -> None:
            number, text = _number(sql, ident), _encode(structure).decode()
            sql.change(_SCALED, number=number, structure=text, at=record.at)
            log(sql, "app.scaled", ident, record)

        await self._writer.each(unit)

    async def release(self, ident: str, number: int = 0) -> Release | None:
        return _release(await self._reader.each(lambda sql: sql.row(_RELEASE, id=ident, number=number)))

    async def build(self, ident: str) -> Release | None:
        return _release(await self._reader.each(lambda sql: sql.row(_NEWEST, id=ident, build=1)))

    async def config(self, ident: str) -> Release | None:
        return _release(await self._reader.each(lambda sql: sql.row(_NEWEST, id=ident, build=0)))

    async def propose(self, ident: str, release: Release) -> None:
        def unit(sql: Sql) -> None:
            number = _number(sql, ident)
            if sql.row(_NEXT_IS, number=number, release=release.number) is None:
                raise Conflict("release.stale", "Another release came first")
            sql.change(_WITHDRAW, number=number)
            _add_release(sql, number, release)

        await self._writer.each(unit)

    async def settle(self, ident: str, number: int, template: str, record: Record) -> None:
        def unit(sql: Sql) -> None:
            app = _number(sql, ident)
            if sql.row(_HAS, number=app, release=number) is None:
                raise NotFound("release.unknown", "There is no such release")
            sql.change(_SETTLE, number=app, release=number, template=template, at=record.at)
            log(sql, "app.released", ident, record)

        await self._writer.each(unit)

    async def withdraw(self, ident: str) -> None:
        await self._writer.each(lambda sql: sql.change(_WITHDRAW, number=_number(sql, ident)))

    async def proposed(self) -> Sequence[tuple[App, Release]]:
        def unit(sql: Sql) -> list[tuple[App, Release]]:
            found = []
            for ident, number in sql.rows(_PROPOSED):
                release = _release(sql.row(_RELEASE, id=ident, number=number))
                if release is not None:
                    found.append((_app(sql.rows(_GET, id=ident)[0]), release))
            return found

        return await self._reader.each(unit)

    async def note(self, ident: str, at: int, text: str) -> None:
        def unit(sql: Sql) -> None:
            if sql.change(_NOTE, id=ident, at=at, text=text):
                sql.change(_TRIM, number=_number(sql, ident), most=MOST_NOTES)

        await self._writer.each(unit)

    async def notes(self, ident: str, limit: int) -> list[Noted]:
        rows = await self._reader.each(lambda sql: sql.rows(_NOTES, id=ident, most=limit))
        return [Noted(*row) for row in reversed(rows)]
