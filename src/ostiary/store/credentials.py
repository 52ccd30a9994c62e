"""What people hold, in SQL: session tokens, personal tokens, and the pairs of log-ins by code. Digests only.

Issue and cut-off of one user are serial, because all writes are: a credential keeps the newest number of the change
log, and those with a number below the cut-off's are refused.
"""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from ostiary.core.people import Credential, Kind
from ostiary.core.refusal import Unauthenticated
from ostiary.store.changes import append, keep, log, newest
from ostiary.store.people import Holder, NewCredential, Proof
from ostiary.store.ports import Changed, Record
from ostiary.store.roles import held_role
from ostiary.store.sql import Line, Row, Sql
from ostiary.store.users import COLUMNS, WIDTH, account, user_of

MOST_PERSONAL = 100
"""Personal tokens of a user; one more ends the one that was not used for longest."""

_CREDENTIAL = """
c.id, c.digest, c.kind, c.label, c.family, c.seq, c.issued, c.expires, c.authenticated, c.used,
c.ended IS NOT NULL, c.spent IS NOT NULL"""
_FIND = f"""
SELECT {COLUMNS}, {_CREDENTIAL}, r.name, r.description, r.permissions
FROM credentials c JOIN users u ON u.id = c.user_number LEFT JOIN roles r ON r.name = u.role
WHERE c.digest = :digest
"""
_PAGE = f"""
SELECT {_CREDENTIAL} FROM credentials c
WHERE c.user_number = :number AND c.id > :after AND (:live = 0 OR (c.ended IS NULL AND c.spent IS NULL))
ORDER BY c.id LIMIT :most
"""
_INSERT = """
INSERT INTO credentials (digest, kind, user_number, label, family, seq, issued, expires, authenticated, used) VALUES"""
_SURPLUS = """
UPDATE credentials SET ended = :at WHERE id IN (
  SELECT id FROM credentials WHERE user_number = :number AND kind = 'personal' AND ended IS NULL
  ORDER BY used DESC, id DESC LIMIT 1000 OFFSET :most)
RETURNING digest
"""
_KNOW = """
INSERT INTO known_addresses (user_number, address, at) VALUES (:number, :address, :at)
ON CONFLICT (user_number, address) DO UPDATE SET at = excluded.at
"""
_LAST_LOGIN = "UPDATE users SET last_login = :at WHERE id = :number"
_USE_STEP = "UPDATE users SET totp_step = :step WHERE id = :number AND totp_step < :step"
_SPEND = "UPDATE credentials SET spent = :at WHERE digest = :digest AND spent IS NULL AND ended IS NULL"
_SPENT = "SELECT family, spent, user_number FROM credentials WHERE digest = :digest"
_END_FAMILY = """
UPDATE credentials SET ended = :at WHERE family = :family AND ended IS NULL AND spent IS NULL RETURNING digest
"""
_END_KIND = """
UPDATE credentials SET ended = :at WHERE (:number = 0 OR user_number = :number) AND kind IN (:each) AND ended IS NULL
"""
_TOUCH = "UPDATE credentials SET used = :at WHERE digest = :digest AND used < :at"


class Reused(Unauthenticated):
    """A credential that was replaced was shown again, and so its family has ended (`changed` says what)."""

    def __init__(self, changed: Changed[tuple[bytes, ...]]) -> None:
        super().__init__("credential.spent", "The token was used already")
        self.changed = changed


def _credential(row: Row) -> Credential:
    return Credential(
        row[0], row[1], Kind(row[2]), row[3], row[4], row[5], row[6], row[7], row[8], row[9], bool(row[10]),
        bool(row[11]),
    )  # fmt: skip


def _holder(row: Row) -> Holder:
    user, rest = user_of(row), row[WIDTH:]
    return Holder(_credential(rest), user, held_role(user.role, rest[12:]))


def _insert(sql: Sql, number: int, made: Sequence[NewCredential]) -> None:
    seq = newest(sql)
    sql.insert(
        _INSERT,
        [
            (
                each.digest, each.kind.value, number, each.label, each.family, seq, each.issued, each.expires,
                each.authenticated, each.issued,
            )
            for each in made
        ],
    )  # fmt: skip


def _trim(sql: Sql, number: int, at: int) -> list[bytes]:
    """End personal tokens beyond the limit; their digests."""
    ended = [row[0] for row in sql.rows(_SURPLUS, number=number, at=at, most=MOST_PERSONAL)]
    for digest in ended:
        append(sql, at, "credential.ended", digest.hex())
    return ended


def _check_proof(sql: Sql, proof: Proof) -> None:
    """Refuse Unauthenticated `login.stale` where the account is not what was proven any more."""
    found = account(sql, proof.number)
    stale = not found.user.active or (proof.password is not None and proof.password != found.password)
    if not stale and proof.totp_step:
        stale = not sql.change(_USE_STEP, number=proof.number, step=proof.totp_step)
    if stale:
        raise Unauthenticated("login.stale", "The account has changed in the meantime, or the code was used")


def _open(sql: Sql, proof: Proof, made: Sequence[NewCredential], record: Record, address: str) -> list[bytes]:
    _check_proof(sql, proof)
    if proof.ends:
        sql.among(f"{_END_KIND} RETURNING id", [kind.value for kind in proof.ends], number=proof.number, at=record.at)
    _insert(sql, proof.number, made)
    sql.change(_LAST_LOGIN, number=proof.number, at=record.at)
    if address:
        sql.change(_KNOW, number=proof.number, address=address, at=record.at)
    keep(sql, [record])
    return _trim(sql, proof.number, record.at)


def _replace(
    sql: Sql, old: bytes, made: Sequence[NewCredential], record: Record, grace: int
) -> Changed[tuple[bytes, ...]] | Reused:
    row = sql.row(_SPENT, digest=old)
    if row is None:
        return Reused(Changed(0, ()))
    family, spent, number = row
    if not sql.change(_SPEND, digest=old, at=record.at):
        early = spent is not None and record.at - spent < grace
        reused = replace(record, outcome="credential.reused")
        return Reused(Changed(0, ()) if early else _end_family(sql, family, reused))
    ended = tuple(each[0] for each in sql.rows(_END_FAMILY, family=family, at=record.at))
    _insert(sql, number, made)
    return Changed(log(sql, "credential.replaced", old.hex(), record), (old, *ended))


def _end_family(sql: Sql, family: bytes, record: Record) -> Changed[tuple[bytes, ...]]:
    ended = tuple(row[0] for row in sql.rows(_END_FAMILY, family=family, at=record.at))
    if not ended:
        keep(sql, [record])
        return Changed(0, ())
    return Changed(log(sql, "credential.ended", family.hex(), record), ended)


class SqlCredentials:
    """Credentials in SQL."""

    def __init__(self, writer: Line, reader: Line) -> None:
        self._writer = writer
        self._reader = reader

    async def find(self, digest: bytes) -> Holder | None:
        row = await self._reader.each(lambda sql: sql.row(_FIND, digest=digest))
        return None if row is None else _holder(row)

    async def open(self, proof: Proof, made: Sequence[NewCredential], record: Record, address: str) -> list[bytes]:
        return await self._writer.each(lambda sql: _open(sql, proof, made, record, address))

    async def replace(
        self, old: bytes, made: Sequence[NewCredential], record: Record, *, grace: int = 0
    ) -> Changed[tuple[bytes, ...]]:
        # What a reuse ends must stay, so the refusal is a value until the commit.
        outcome = await self._writer.each(lambda sql: _replace(sql, old, made, record, grace))
        if isinstance(outcome, Reused):
            raise outcome
        return outcome

    async def create(self, number: int, made: NewCredential, record: Record) -> list[bytes]:
        def unit(sql: Sql) -> list[bytes]:
            account(sql, number)
            _insert(sql, number, [made])
            keep(sql, [record])
            return _trim(sql, number, record.at)

        return await self._writer.each(unit)

    async def page(self, number: int, after: int, limit: int, *, live: bool = False) -> list[Credential]:
        values = {"number": number, "after": after, "most": limit, "live": int(live)}
        rows = await self._reader.each(lambda sql: sql.rows(_PAGE, **values))
        return [_credential(row) for row in rows]

    async def end(self, digest: bytes, record: Record) -> Changed[tuple[bytes, ...]]:
        def unit(sql: Sql) -> Changed[tuple[bytes, ...]]:
            row = sql.row(_SPENT, digest=digest)
            return Changed(0, ()) if row is None else _end_family(sql, row[0], record)

        return await self._writer.each(unit)

    async def end_all(self, number: int | None, kinds: Sequence[Kind], record: Record) -> Changed[list[int]]:
        names = [kind.value for kind in kinds]

        def unit(sql: Sql) -> Changed[list[int]]:
            ended = sql.among(f"{_END_KIND} RETURNING user_number", names, number=number or 0, at=record.at)
            subject = "" if number is None else account(sql, number).user.name
            return Changed(log(sql, "credentials.ended", subject, record), [row[0] for row in ended])

        return await self._writer.each(unit)

    async def touch(self, used: Mapping[bytes, int]) -> None:
        def unit(sql: Sql) -> None:
            for digest, at in used.items():
                sql.change(_TOUCH, digest=digest, at=at)

        await self._writer.each(unit)
