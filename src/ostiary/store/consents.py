"""Log-ins of browsers and consents in SQL. Of a log-in only the digest of its secret is kept."""

import msgspec

from ostiary.core.oauth import CodeRequest, consented, granted_scopes
from ostiary.core.refusal import Forbidden, Unauthenticated
from ostiary.store.applications import clients, details
from ostiary.store.changes import keep
from ostiary.store.codes import issue_code
from ostiary.store.ports import BrowserLogin, Record
from ostiary.store.sql import Line, Row, Sql

# An account of our own counts by its number: one that was made anew under the same name inherits nothing.
_GET = "SELECT user_id, details, began, expires, account IS NOT NULL FROM browser_logins"
_HOLD = "UPDATE browser_logins SET expires = expires"
_IF_LIVE = """
WHERE digest = :digest AND expires > :now
  AND (account IS NULL OR EXISTS (SELECT 1 FROM users WHERE users.id = account AND active = 1))
  AND NOT EXISTS (SELECT 1 FROM users WHERE name = user_id AND active = 0)
"""
_RETURNING = "RETURNING user_id, details, began, expires, account IS NOT NULL"
_LIVE = f"{_GET} {_IF_LIVE}"
# A write, so that whatever ends the log-in waits for the code that is given in it, and then sees it.
_HOLD_LIVE = f"{_HOLD} {_IF_LIVE} {_RETURNING}"
_ADD_OURS = """
INSERT INTO browser_logins (digest, user_id, account, details, began, expires)
SELECT :digest, name, id, :details, :began, :expires FROM users WHERE name = :user AND active = 1
"""
_ADD_ANOTHER = """
INSERT INTO browser_logins (digest, user_id, details, began, expires)
SELECT :digest, :user, :details, :began, :expires
WHERE NOT EXISTS (SELECT 1 FROM users WHERE name = :user AND active = 0)
"""
_END = "DELETE FROM browser_logins WHERE digest = :digest"
_END_USER = "DELETE FROM browser_logins WHERE user_id = :user"
_ALLOWED = """
SELECT c.scope FROM consents c JOIN applications a ON a.id = c.application
WHERE c.user_id = :user AND a.client_id = :client_id
"""
_ALLOW = """
INSERT INTO consents (user_id, application, scope, at)
SELECT :user, id, :scope, :at FROM applications WHERE client_id = :client_id
ON CONFLICT (user_id, application, scope) DO UPDATE SET at = :at
"""
_FORBID = "DELETE FROM consents WHERE user_id = :user"


def end_logins(sql: Sql, user: str) -> None:
    """End the log-ins of a user's browsers, within a change that ends more."""
    sql.change(_END_USER, user=user)


def forget_user(sql: Sql, user: str) -> None:
    """The same, and what the user has allowed. To come first: what is given in a log-in at this moment is then seen."""
    end_logins(sql, user)
    sql.change(_FORBID, user=user)


def _login(row: Row | None) -> BrowserLogin | None:
    return None if row is None else BrowserLogin(row[0], details(row[1]), row[2], row[3], bool(row[4]))


def _allowed(sql: Sql, user: str, client_id: str) -> frozenset[str]:
    return frozenset(row[0] for row in sql.rows(_ALLOWED, user=user, client_id=client_id))


def _authorize(sql: Sql, request: CodeRequest, login: bytes, allow: bool, record: Record) -> str:
    """A code, if the log-in lives and the user allows it or has; all in the transaction that ends them elsewhere."""
    live = _login(sql.row(_HOLD_LIVE, digest=login, now=request.now))
    if live is None or live.user != request.user:
        raise Unauthenticated("login.ended", "The log-in has ended")
    redirect = issue_code(sql, request, record)
    application = clients(sql, [request.client_id])[request.client_id].application
    scopes = granted_scopes(application, request.scope)
    if allow:
        _allow(sql, request, scopes)
    elif not consented(application, scopes, _allowed(sql, request.user, request.client_id)):
        raise Forbidden("consent.required", "The user has not allowed this yet")
    return redirect


def _allow(sql: Sql, request: CodeRequest, scopes: tuple[str, ...]) -> None:
    for scope in scopes:
        sql.change(_ALLOW, user=request.user, client_id=request.client_id, scope=scope, at=request.now)


class SqlConsents:
    """Consents in SQL, with the log-ins that they are given in."""

    def __init__(self, writer: Line, reader: Line) -> None:
        self._writer = writer
        self._reader = reader

    async def sign_in(self, digest: bytes, login: BrowserLogin, instead: bytes, record: Record) -> None:
        kept = msgspec.json.encode(login.details).decode()

        def unit(sql: Sql) -> None:
            sql.change(_END, digest=instead)
            added = sql.change(
                _ADD_OURS if login.ours else _ADD_ANOTHER,
                digest=digest, user=login.user, details=kept, began=login.began, expires=login.expires,
            )  # fmt: skip
            if not added:
                raise Forbidden("login.inactive", "The user is not active")
            keep(sql, [record])

        await self._writer.each(unit)

    async def login(self, digest: bytes, now: int) -> BrowserLogin | None:
        return _login(await self._reader.each(lambda sql: sql.row(_LIVE, digest=digest, now=now)))

    async def sign_out(self, digest: bytes, record: Record) -> None:
        def unit(sql: Sql) -> None:
            if sql.change(_END, digest=digest):
                keep(sql, [record])

        await self._writer.each(unit)

    async def allowed(self, user: str, client_id: str) -> frozenset[str]:
        return await self._reader.each(lambda sql: _allowed(sql, user, client_id))

    async def authorize(self, request: CodeRequest, login: bytes, allow: bool, record: Record) -> str:
        return await self._writer.each(lambda sql: _authorize(sql, request, login, allow, record))
