"""Signing keys in SQL. An index of the database sees to it that one key a purpose signs."""

from ostiary.store.changes import append, keep
from ostiary.store.ports import Record, SigningKey
from ostiary.store.sql import Line, Sql

_PAGE = """
SELECT kid, purpose, alg, public, sealed, created, COALESCE(retired, 0) FROM signing_keys
WHERE purpose = :purpose AND (retired IS NULL OR retired > :since)
ORDER BY retired IS NOT NULL, retired DESC, created DESC, kid
"""
_RETIRE = "UPDATE signing_keys SET retired = :at WHERE purpose = :purpose AND retired IS NULL AND alg <> :other"
_ADD = """
INSERT INTO signing_keys (kid, purpose, alg, public, sealed, created)
VALUES (:kid, :purpose, :alg, :public, :sealed, :created) ON CONFLICT DO NOTHING
"""
_FORGET = "DELETE FROM signing_keys WHERE purpose = :purpose AND retired <= :since"


class SqlKeys:
    """Signing keys in SQL."""

    def __init__(self, writer: Line, reader: Line) -> None:
        self._writer = writer
        self._reader = reader

    async def kept(self, purpose: str, since: int) -> list[SigningKey]:
        rows = await self._reader.each(lambda sql: sql.rows(_PAGE, purpose=purpose, since=since))
        return [SigningKey(*row) for row in rows]

    async def put(self, key: SigningKey, since: int, record: Record, *, rotate: bool) -> bool:
        def unit(sql: Sql) -> bool:
            sql.change(_FORGET, purpose=key.purpose, since=since)
            sql.change(_RETIRE, purpose=key.purpose, at=key.created, other="" if rotate else key.alg)
            added = sql.change(
                _ADD, kid=key.kid, purpose=key.purpose, alg=key.alg, public=key.public, sealed=key.sealed,
                created=key.created,
            )  # fmt: skip
            if added:
                append(sql, key.created, "key.created", key.kid)
            if added or rotate:
                keep(sql, [record])
            return added > 0

        return await self._writer.each(unit)
