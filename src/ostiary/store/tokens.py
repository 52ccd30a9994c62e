"""Tokens in SQL: access tokens, refresh tokens and codes; digests only, never a token's text.

An issue takes no number of the change log: nobody can have cached anything of a token that did not exist. Each token
keeps the number that was the newest when it was issued, which orders it against cut-offs. What is used up (a code, a
refresh token) is used up by a statement that only the first of two can succeed with.
"""

from collections.abc import Sequence

import msgspec

from ostiary.core.oauth import CodeRequest, Grant, Held, Refreshing, Reused, TokenRequest, decide
from ostiary.core.oauth.applications import SECOND
from ostiary.core.oauth.grants import FROM_KEPT
from ostiary.core.refusal import Forbidden, NotFound, Refusal
from ostiary.store.applications import clients, details, rate_limit
from ostiary.store.changes import append, keep, log, newest
from ostiary.store.codes import issue_code
from ostiary.store.consents import forget_user
from ostiary.store.ports import Changed, Ended, Ending, Issued, Record, Token, TokenFilter
from ostiary.store.scopes import named
from ostiary.store.sql import Line, Row, Sql

KEPT = 86_400 * SECOND
"""How long an expired token is remembered, so that its revocation can still be answered."""

_INSERT = """
INSERT INTO tokens (digest, kind, application, user_id, scope, grant_type, seq, issued, expires_in, expires, details)
VALUES"""
_ADD = """
INSERT INTO tokens (digest, kind, application, user_id, scope, grant_type, seq, issued, expires_in, expires, details,
  family, refresh, refresh_expires_in, sealed, began)
VALUES"""
_CUT = "CASE WHEN u.active = 0 OR t.seq < COALESCE(u.cut_off, 0) THEN 1 ELSE 0 END"
"""Whether the token's user, if that is one of Ostiary's, is disabled or was cut off after the issue."""
# `+ 0`: not by way of this index. While PostgreSQL has no statistics of a young table, it would read all tokens of an
# application, or all that have not expired, to find a few.
_SELECT = f"""
SELECT t.id, t.digest, t.kind, a.client_id, t.user_id, t.scope, t.grant_type, t.issued, t.expires_in, t.expires,
  t.details, t.revoked IS NOT NULL OR {_CUT} = 1, a.active, a.details, a.limit_requests, a.limit_seconds,
  t.family, t.refresh, t.refresh_expires_in, t.sealed, t.spent IS NOT NULL
FROM tokens t JOIN applications a ON a.id = t.application + 0 LEFT JOIN users u ON u.name = t.user_id
"""
_GET = f"{_SELECT} WHERE t.digest = :digest"
_LIVE = f"""
{_SELECT}
WHERE t.digest IN (:each) AND t.kind = 'access' AND t.revoked IS NULL AND t.expires + 0 >= :now AND a.active = 1
  AND {_CUT} = 0
"""
_KNOWN = "SELECT digest FROM tokens WHERE digest IN (:each)"
_PAGE = f"""
{_SELECT}
WHERE t.id > :after AND t.kind = 'access' AND t.revoked IS NULL AND t.expires >= :now AND {_CUT} = 0
"""
_OF_CLIENT = " AND t.application = (SELECT id FROM applications WHERE client_id = :client_id)"
_OF_USER = " AND t.user_id = :user AND t.user_id <> ''"
_ORDER = " ORDER BY t.id LIMIT :most"
_OWNER = "SELECT 1 FROM applications WHERE client_id = :client_id"
_HELD = f"""
SELECT t.id, t.digest, t.kind, t.application, t.user_id, t.scope, t.grant_type, t.details, t.family,
  COALESCE(t.began, t.issued), t.expires, t.spent IS NOT NULL, t.revoked IS NOT NULL OR {_CUT} = 1,
  COALESCE(t.redirect_uri, ''), COALESCE(t.redirect_given, 0), COALESCE(t.challenge, '')
FROM tokens t LEFT JOIN users u ON u.name = t.user_id WHERE t.digest = :digest AND t.kind <> 'access'
"""
_DISABLED = "SELECT 1 FROM users WHERE name = :user AND active = 0"
_SPEND = "UPDATE tokens SET spent = :at WHERE id = :number AND spent IS NULL AND revoked IS NULL"
_RENEW = """
UPDATE tokens SET scope = :scope, expires_in = :expires_in, expires = :expires
WHERE id = :number AND spent IS NULL AND revoked IS NULL
"""
_REPLACE = "DELETE FROM tokens WHERE family = :family AND kind = 'access' AND revoked IS NULL RETURNING digest"
_NAMED = """
SELECT t.family, a.client_id FROM tokens t JOIN applications a ON a.id = t.application
WHERE t.digest = :digest AND t.kind IN ('access', :kind)
"""
_REVOKE = "UPDATE tokens SET revoked = :at WHERE digest = :digest AND revoked IS NULL"
_REVOKE_FAMILY = "UPDATE tokens SET revoked = :at WHERE family = :family AND revoked IS NULL"
_ACCESS = "SELECT digest FROM tokens WHERE family = :family AND kind = 'access'"
_REVOKE_USER = "UPDATE tokens SET revoked = :at WHERE user_id = :user AND user_id <> '' AND revoked IS NULL"

_encode = msgspec.json.Encoder().encode
MOST_DIGESTS = 1024
"""In one statement."""
Asked = tuple[TokenRequest, Record]


class Batch:
    """Requests decided one after the other, with a constant number of statements for those of client_credentials."""

    def __init__(self, sql: Sql, asked: Sequence[Asked]) -> None:
        self._sql = sql
        self._clients = clients(sql, sorted({request.client_id for request, _ in asked}))
        names = {name for client in self._clients.values() for name in client.application.scopes}
        self._scopes = named(sql, sorted(names))
        self._seq = newest(sql)
        self._alone: list[Row] = []
        self._records: list[Record] = []

    def outcome(self, request: TokenRequest, record: Record) -> Issued | Refusal:
        """What becomes of one request; nothing is written for one that is refused, unless it ends a family."""
        try:
            grant = self._grant(request)
        except Reused as reused:
            return self._end(reused, request.now, record)
        except Refusal as refusal:
            return refusal
        if not grant.family:
            self._alone.append(self._row(request, grant))
            self._records.append(record)
            return Issued(request.client_id, grant.scopes, grant.issued, grant.expires_in)
        if grant.used is not None and not self._use(grant, grant.used):
            return self._end(Reused(grant.used), request.now, record)
        return self._add(request, grant, record)

    def flush(self) -> None:
        """Write what was collected."""
        if self._alone:
            self._sql.insert(_INSERT, self._alone)
        if self._records:
            keep(self._sql, self._records)

    def _grant(self, request: TokenRequest) -> Grant:
        if request.user and self._sql.row(_DISABLED, user=request.user) is not None:
            raise Forbidden("login.inactive", "The user is not active")
        held = _held(self._sql, request.presented) if request.grant in FROM_KEPT else None
        return decide(self._clients.get(request.client_id), self._scopes, request, held)

    def _use(self, grant: Grant, used: Held) -> bool:
        """Use up a code or a refresh token, or let the refresh token live on; False: another request was first."""
        refresh = grant.refresh
        if used.kind == "code" or refresh is None or refresh.handed.digest != used.digest:
            return self._sql.change(_SPEND, number=used.number, at=grant.issued) > 0
        renewed = self._sql.change(
            _RENEW, number=used.number, scope=" ".join(refresh.scopes), expires_in=refresh.expires_in,
            expires=grant.issued + refresh.expires_in * SECOND,
        )  # fmt: skip
        return renewed > 0

    def _add(self, request: TokenRequest, grant: Grant, record: Record) -> Issued:
        """Keep an access token of a family, in place of the one before, and its refresh token if that is new."""
        replaced = tuple(row[0] for row in self._sql.rows(_REPLACE, family=grant.family))
        for digest in replaced:
            self._seq = append(self._sql, grant.issued, "token.replaced", digest.hex())
        refresh = grant.refresh
        rows = [self._access(request, grant)]
        if refresh is not None and (grant.used is None or refresh.handed.digest != grant.used.digest):
            rows.append(self._refresh(grant, refresh))
        self._sql.insert(_ADD, rows)
        self._records.append(record)
        issued = Issued(request.client_id, grant.scopes, grant.issued, grant.expires_in)
        if refresh is not None:
            issued = msgspec.structs.replace(
                issued, refresh=refresh.handed.digest, refresh_expires_in=refresh.expires_in
            )
        return msgspec.structs.replace(issued, seq=self._seq if replaced else 0, replaced=replaced)

    def _access(self, request: TokenRequest, grant: Grant) -> Row:
        refresh = grant.refresh
        handed = (None, None, None) if refresh is None else _handed(refresh)
        return (*self._row(request, grant), grant.family, *handed, None)

    def _refresh(self, grant: Grant, refresh: Refreshing) -> Row:
        return (
            refresh.handed.digest, "refresh", grant.client.number, grant.user, " ".join(refresh.scopes), grant.grant,
            self._seq, grant.issued, refresh.expires_in, grant.issued + refresh.expires_in * SECOND,
            _kept(grant.details), grant.family, None, None, None, refresh.began,
        )  # fmt: skip

    def _row(self, request: TokenRequest, grant: Grant) -> Row:
        return (
            request.digest, "access", grant.client.number, grant.user, " ".join(grant.scopes), grant.grant, self._seq,
            grant.issued, grant.expires_in, grant.issued + grant.expires_in * SECOND, _kept(grant.details),
        )  # fmt: skip

    def _end(self, reused: Reused, at: int, record: Record) -> Ended:
        """End the family of what was shown twice."""
        family = reused.held.family
        seq, digests = 0, _access_tokens(self._sql, family)
        if self._sql.change(_REVOKE_FAMILY, family=family, at=at):
            seq = self._seq = log(self._sql, "family.revoked", family.hex(), _reused(record, reused))
        return Ended(reused.code, reused.message, seq, digests)


def issue(sql: Sql, asked: Sequence[Asked]) -> list[Issued | Refusal]:
    """Decide a batch of requests and keep what was granted."""
    batch = Batch(sql, asked)
    outcomes = [batch.outcome(request, record) for request, record in asked]
    batch.flush()
    return outcomes


def _reused(record: Record, reused: Reused) -> Record:
    """The audit record of a family that ended because of a reuse."""
    return msgspec.structs.replace(record, outcome=reused.code)


def _kept(texts: dict[str, str]) -> str:
    return _encode(texts).decode() if texts else "{}"


def _handed(refresh: Refreshing) -> Row:
    return refresh.handed.digest, refresh.expires_in, refresh.handed.sealed


def _held(sql: Sql, digest: bytes) -> Held | None:
    row = sql.row(_HELD, digest=digest)
    if row is None:
        return None
    number, kept, kind, application, user, scope, grant, own, family, began, expires, spent, revoked = row[:13]
    return Held(
        number, kept, kind, application, user, tuple(scope.split(" ")), grant, details(own), family, began, expires,
        bool(spent), bool(revoked), row[13], bool(row[14]), row[15],
    )  # fmt: skip


def _access_tokens(sql: Sql, family: bytes) -> tuple[bytes, ...]:
    return tuple(row[0] for row in sql.rows(_ACCESS, family=family))


def _weigh(sql: Sql, request: TokenRequest) -> None:
    client = clients(sql, [request.client_id]).get(request.client_id)
    decide(client, {}, request)


def _token(row: Row) -> Token:
    number, digest, kind, client, user, scope, grant, issued, expires_in, expires, own, revoked, active = row[:13]
    return Token(
        number, digest, kind, client, user, tuple(scope.split(" ")), grant, issued, expires_in, expires, details(own),
        bool(revoked), bool(active), details(row[13]), rate_limit(row[14], row[15]), row[16] or b"", row[17] or b"",
        row[18] or 0, row[19] or b"", bool(row[20]),
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

    async def weigh(self, request: TokenRequest) -> None:
        await self._reader.each(lambda sql: _weigh(sql, request))

    async def issue_code(self, request: CodeRequest, record: Record) -> str:
        return await self._writer.each(lambda sql: issue_code(sql, request, record))

    async def get(self, digest: bytes) -> Token | None:
        found = await self._reader.each(lambda sql: sql.row(_GET, digest=digest))
        return None if found is None else _token(found)

    async def live(self, digests: Sequence[bytes], now: int) -> dict[bytes, Token]:
        return await self._reader.together(live, (digests, now))

    async def known(self, digests: Sequence[bytes]) -> set[bytes]:
        def unit(sql: Sql) -> set[bytes]:
            found: set[bytes] = set()
            for start in range(0, len(digests), MOST_DIGESTS):
                found.update(row[0] for row in sql.among(_KNOWN, digests[start : start + MOST_DIGESTS]))
            return found

        return await self._lister.each(unit)

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

    async def revoke(self, digest: bytes, client_id: str, at: int, record: Record, *, refresh: bool = False) -> Ending:
        def unit(sql: Sql) -> Ending:
            _check_owner(sql, client_id)
            found = sql.row(_NAMED, digest=digest, kind="refresh" if refresh else "access")
            if found is None or (client_id and found[1] != client_id):
                keep(sql, [record])
                return Ending(0, 0, (), found is not None)
            family = found[0]
            digests = (digest,) if family is None else _access_tokens(sql, family)
            if family is None:
                count = sql.change(_REVOKE, digest=digest, at=at)
            else:
                count = sql.change(_REVOKE_FAMILY, family=family, at=at)
            if not count:
                keep(sql, [record])
                return Ending(0, 0, digests)
            return Ending(log(sql, "token.revoked", digest.hex(), record), count, digests)

        return await self._writer.each(unit)

    async def revoke_user(self, user: str, at: int, record: Record) -> Changed[int]:
        def unit(sql: Sql) -> Changed[int]:
            forget_user(sql, user)
            count = sql.change(_REVOKE_USER, user=user, at=at)
            return Changed(log(sql, "user.revoked", user, record), count)

        return await self._writer.each(unit)


def _check_owner(sql: Sql, client_id: str) -> None:
    if client_id and sql.row(_OWNER, client_id=client_id) is None:
        raise NotFound("application.unknown", "There is no such client application")
