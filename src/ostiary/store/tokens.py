"""Tokens in SQL: digests only, never a token's text.

An issue takes no number of the change log: nobody can have cached anything of a token that did not exist. Each token
keeps the number that was the newest when it was issued, which orders it against cut-offs.
"""

from collections.abc import Sequence

import msgspec

from ostiary.core.oauth import Grant, TokenRequest, decide
from ostiary.core.refusal import NotFound, Refusal
from ostiary.core.snapshot import SECOND
from ostiary.store.applications import clients, details, rate_limit
from ostiary.store.changes import keep, log, newest
from ostiary.store.ports import Changed, Issued, Record, Token, TokenFilter
from ostiary.store.scopes import named
from ostiary.store.sql import Line, Row, Sql

KEPT = 86_400 * SECOND
"""How long an expired token is remembered, so that its revocation can still be answered."""

_INSERT = """
INSERT INTO tokens (digest, kind, application, user_id, scope, grant_type, seq, issued, expires_in, expires, details)
VALUES"""
_FORGET = """
DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE expires < :before ORDER BY expires LIMIT :most)
"""
_SELECT = """
SELECT t.id, t.digest, t.kind, a.client_id, t.user_id, t.scope, t.grant_type, t.issued, t.expires_in, t.expires,
  t.details, t.revoked IS NOT NULL, a.active, a.details, a.limit_requests, a.limit_seconds
FROM tokens t JOIN applications a ON a.id = t.application
"""
_GET = f"{_SELECT} WHERE t.digest = :digest"
_LIVE = f"""
{_SELECT}
WHERE t.digest IN (:each) AND t.kind = 'access' AND t.revoked IS NULL AND t.expires >= :now AND a.active = 1
"""
_PAGE = f"""
{_SELECT}
WHERE t.id > :after AND t.kind = 'access' AND t.revoked IS NULL AND t.expires >= :now
"""
_OF_CLIENT = " AND t.application = (SELECT id FROM applications WHERE client_id = :client_id)"
_OF_USER = " AND t.user_id = :user AND t.user_id <> ''"
_ORDER = " ORDER BY t.id LIMIT :most"
_OWNER = "SELECT 1 FROM applications WHERE client_id = :client_id"
_REVOKE = """
UPDATE tokens SET revoked = :at
WHERE digest = :digest AND kind = 'access' AND revoked IS NULL
  AND application IN (SELECT id FROM applications WHERE :client_id = '' OR client_id = :client_id)
"""
_REVOKE_USER = "UPDATE tokens SET revoked = :at WHERE user_id = :user AND user_id <> '' AND revoked IS NULL"

_encode = msgspec.json.Encoder().encode
MOST_DIGESTS = 1024
"""In one statement."""
Asked = tuple[TokenRequest, Record]


def issue(sql: Sql, asked: Sequence[Asked]) -> list[Issued | Refusal]:
    """Decide a batch of requests and keep what was granted: a constant number of statements whatever its size."""
    known = clients(sql, sorted({request.client_id for request, _ in asked}))
    names = sorted({name for client in known.values() for name in client.application.scopes})
    scopes, seq = named(sql, names), newest(sql)
    outcomes: list[Issued | Refusal] = []
    tokens: list[Row] = []
    records: list[Record] = []
    for request, record in asked:
        try:
            grant = decide(known.get(request.client_id), scopes, request)
        except Refusal as refusal:
            outcomes.append(refusal)
            continue
        tokens.append(_row(request, grant, seq))
        records.append(record)
        outcomes.append(Issued(request.client_id, grant.scopes, grant.issued, grant.expires_in))
    if tokens:
        sql.change(_FORGET, before=asked[-1][0].now - KEPT, most=2 * len(tokens))
        sql.insert(_INSERT, tokens)
        keep(sql, records)
    return outcomes


def _row(request: TokenRequest, grant: Grant, seq: int) -> Row:
    kept = _encode(grant.details).decode() if grant.details else "{}"
    return (
        request.digest, "access", grant.client.number, "", " ".join(grant.scopes), "client_credentials", seq,
        grant.issued, grant.expires_in, grant.issued + grant.expires_in * SECOND, kept,
    )  # fmt: skip


def _token(row: Row) -> Token:
    number, digest, kind, client, user, scope, grant, issued, expires_in, expires, own, revoked, active = row[:13]
    return Token(
        number, digest, kind, client, user, tuple(scope.split(" ")), grant, issued, expires_in, expires, details(own),
        bool(revoked), bool(active), details(row[13]), rate_limit(row[14], row[15]),
    )  # fmt: skip


Question = tuple[Sequence[bytes], int]


def live(sql: Sql, asked: Sequence[Question]) -> list[dict[bytes, Token]]:
    """Many questions with one statement, at the latest of their moments."""
    wanted = list({digest for digests, _ in asked for digest in digests})
    found: dict[bytes, Token] = {}
    for start in range(0, len(wanted), MOST_DIGESTS):
        rows = sql.among(_LIVE, wanted[start : start + MOST_DIGESTS], now=max(now for _, now in asked))
        found.update((token.digest, token) for token in map(_token, rows))
    return [{digest: found[digest] for digest in digests if digest in found} for digests, _ in asked]


class SqlTokens:
    """Tokens in SQL."""

    def __init__(self, writer: Line, reader: Line, lister: Line) -> None:
        self._writer = writer
        self._reader = reader
        self._lister = lister

    async def issue(self, request: TokenRequest, record: Record) -> Issued:
        return await self._writer.together(issue, (request, record))

    async def get(self, digest: bytes) -> Token | None:
        found = await self._reader.each(lambda sql: sql.row(_GET, digest=digest))
        return None if found is None else _token(found)

    async def live(self, digests: Sequence[bytes], now: int) -> dict[bytes, Token]:
        return await self._reader.together(live, (digests, now))

    async def page(self, which: TokenFilter) -> list[Token]:
        client = _OF_CLIENT if which.client_id else ""
        statement = _PAGE + client + (_OF_USER if which.user else "") + _ORDER

        def unit(sql: Sql) -> list[Row]:
            _check_owner(sql, which.client_id)
            return sql.rows(
                statement, after=which.after, now=which.now, client_id=which.client_id, user=which.user,
                most=which.limit,
            )  # fmt: skip

        return [_token(row) for row in await self._lister.each(unit)]

    async def revoke(self, digest: bytes, client_id: str, at: int, record: Record) -> int:
        def unit(sql: Sql) -> int:
            _check_owner(sql, client_id)
            if not sql.change(_REVOKE, digest=digest, client_id=client_id, at=at):
                keep(sql, [record])
                return 0
            return log(sql, "token.revoked", digest.hex(), record)

        return await self._writer.each(unit)

    async def revoke_user(self, user: str, at: int, record: Record) -> Changed[int]:
        def unit(sql: Sql) -> Changed[int]:
            count = sql.change(_REVOKE_USER, user=user, at=at)
            return Changed(log(sql, "user.revoked", user, record), count)

        return await self._writer.each(unit)


def _check_owner(sql: Sql, client_id: str) -> None:
    if client_id and sql.row(_OWNER, client_id=client_id) is None:
        raise NotFound("application.unknown", "There is no such client application")
