"""Authorization codes in SQL: rows of `tokens` until they are used or forgotten."""

import msgspec

from ostiary.core.oauth import Code, CodeRequest, decide_code, subject_ok
from ostiary.core.oauth.applications import SECOND
from ostiary.store.applications import clients
from ostiary.store.changes import keep, newest
from ostiary.store.ports import Record
from ostiary.store.sql import Row, Sql

_DISABLED = "SELECT 1 FROM users WHERE name = :user AND active = 0"
_INSERT = """
INSERT INTO tokens (digest, kind, application, user_id, scope, grant_type, seq, issued, expires_in, expires, details,
  family, redirect_uri, redirect_given, challenge)
VALUES"""


def issue_code(sql: Sql, request: CodeRequest, record: Record) -> str:
    """Decide a request and keep its code; the redirect_uri that the code is for."""
    client = clients(sql, [request.client_id]).get(request.client_id)
    disabled = subject_ok(request.user) and sql.row(_DISABLED, user=request.user) is not None
    code = decide_code(client, request, disabled=disabled)
    sql.insert(_INSERT, [_row(request, code, newest(sql))])
    keep(sql, [record])
    return code.redirect_uri


def _row(request: CodeRequest, code: Code, seq: int) -> Row:
    return (
        request.digest, "code", code.client.number, request.user, " ".join(code.scopes), "authorization_code", seq,
        request.now, request.lifetime, request.now + request.lifetime * SECOND,
        msgspec.json.encode(request.details).decode(), request.family, code.redirect_uri,
        int(request.redirect_uri is not None), request.challenge or "",
    )  # fmt: skip
