"""Client applications in SQL."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from ostiary.core.oauth import Application, AuthMethod, Client, RateLimit, Secret
from ostiary.core.refusal import Conflict, Invalid, NotFound
from ostiary.store.changes import log
from ostiary.store.ports import ApplicationChange, Changed, Record
from ostiary.store.scopes import named
from ostiary.store.sql import Line, Row, Sql

_SELECT = """
SELECT id, client_id, name, redirect_uri, registered, description, active, details, grant_types, rotate_refresh_tokens,
  limit_requests, limit_seconds, auth_method, secret_kind, secret
FROM applications
"""
_GET = f"{_SELECT} WHERE client_id IN (:each)"
_WHICH = """
WHERE (:active < 0 OR active = :active)
  AND (:after = '' OR id < (SELECT id FROM applications WHERE client_id = :after))
ORDER BY id DESC LIMIT :most
"""
_PAGE = f"{_SELECT} {_WHICH}"
_SCOPES = (
    "SELECT application, scope FROM application_scopes WHERE application IN (:each) ORDER BY application, position"
)
_CREATE = """
INSERT INTO applications (client_id, name, redirect_uri, registered, description, active, details, grant_types,
  rotate_refresh_tokens, limit_requests, limit_seconds, auth_method, secret_kind, secret, sealed)
VALUES (:client_id, :name, :redirect_uri, :registered, :description, :active, :details, :grant_types,
  :rotate_refresh_tokens, :limit_requests, :limit_seconds, :auth_method, :secret_kind, :secret, :sealed)
ON CONFLICT (client_id) DO NOTHING RETURNING id
"""
_UPDATE = """
UPDATE applications SET description = COALESCE(:description, description), active = COALESCE(:active, active),
  details = COALESCE(:details, details), grant_types = COALESCE(:grant_types, grant_types),
  rotate_refresh_tokens = COALESCE(:rotate_refresh_tokens, rotate_refresh_tokens),
  limit_requests = COALESCE(:limit_requests, limit_requests), limit_seconds = COALESCE(:limit_seconds, limit_seconds)
WHERE client_id = :client_id RETURNING id
"""
_HOLD = "INSERT INTO application_scopes (application, position, scope) VALUES"
_RELEASE = "DELETE FROM application_scopes WHERE application = :number"
_DELETE = "DELETE FROM applications WHERE client_id = :client_id RETURNING id"
_ROTATE = "UPDATE applications SET secret_kind = :kind, secret = :kept, sealed = :sealed WHERE client_id = :client_id"

_SEALED = "SELECT client_id, sealed FROM applications WHERE client_id IN (:each) AND sealed IS NOT NULL"

_encode = msgspec.json.Encoder().encode
_details = msgspec.json.Decoder(dict[str, str]).decode
_grants = msgspec.json.Decoder(tuple[str, ...]).decode


class _Kept(NamedTuple):
    """A row of `applications`."""

    number: int
    client_id: str
    name: str
    redirect_uri: str
    registered: int
    description: str
    active: int
    details: str
    grant_types: str | None
    rotate_refresh_tokens: int | None
    limit_requests: int | None
    limit_seconds: int | None
    auth_method: str
    secret_kind: str
    secret: str


def clients(sql: Sql, client_ids: Sequence[str]) -> dict[str, Client]:
    """Those of `client_ids` that exist."""
    return {each.application.client_id: each for each in _clients(sql, sql.among(_GET, client_ids))}


def _asked_for(sql: Sql, client_ids: Sequence[str]) -> list[Client | None]:
    """One for each of `client_ids`, with two statements for all."""
    found = clients(sql, sorted(set(client_ids)))
    return [found.get(each) for each in client_ids]


def rate_limit(requests: int | None, seconds: int | None) -> RateLimit | None:
    """A limit out of its two columns, both of which are set or neither is."""
    return None if requests is None or seconds is None else RateLimit(requests, seconds)


def details(text: str) -> dict[str, str]:
    """Details out of their column."""
    return {} if text == "{}" else _details(text)


def _clients(sql: Sql, rows: Sequence[Row]) -> list[Client]:
    """Rows as values, in their order, with their scopes."""
    kept = [_Kept(*row) for row in rows]
    scopes: dict[int, list[str]] = {each.number: [] for each in kept}
    for number, scope in sql.among(_SCOPES, list(scopes)) if scopes else []:
        scopes[number].append(scope)
    return [Client(each.number, _application(each, scopes[each.number]), _secret(each)) for each in kept]


def _application(kept: _Kept, scopes: Sequence[str]) -> Application:
    return Application(
        client_id=kept.client_id,
        name=kept.name,
        scopes=tuple(scopes),
        redirect_uri=kept.redirect_uri,
        registered=kept.registered,
        description=kept.description,
        active=bool(kept.active),
        details=details(kept.details),
        grant_types=None if kept.grant_types is None else _grants(kept.grant_types),
        rotate_refresh_tokens=None if kept.rotate_refresh_tokens is None else bool(kept.rotate_refresh_tokens),
        rate_limit=rate_limit(kept.limit_requests, kept.limit_seconds),
        token_endpoint_auth_method=msgspec.convert(kept.auth_method, AuthMethod),
    )


def _secret(kept: _Kept) -> Secret:
    return msgspec.convert({"kind": kept.secret_kind, "kept": kept.secret}, Secret)


def _values(change: ApplicationChange) -> Mapping[str, object]:
    """Columns of a change; None where it leaves them alone."""
    grants, limit = change.grant_types, change.rate_limit
    return {
        "description": None if change.description is UNSET else change.description,
        "active": None if change.active is UNSET else int(change.active),
        "details": None if change.details is UNSET else _encode(change.details).decode(),
        "grant_types": None if grants is UNSET else _encode(grants).decode(),
        "rotate_refresh_tokens": None if change.rotate_refresh_tokens is UNSET else int(change.rotate_refresh_tokens),
        "limit_requests": None if limit is UNSET else limit.requests,
        "limit_seconds": None if limit is UNSET else limit.per_seconds,
    }


def _hold(sql: Sql, number: int, scopes: Sequence[str]) -> None:
    """Give an application exactly these scopes. Refuses Invalid `scope.not_known`."""
    if len(named(sql, scopes)) < len(scopes):
        raise Invalid("scope.not_known", "A scope does not exist")
    sql.change(_RELEASE, number=number)
    sql.insert(_HOLD, [(number, position, scope) for position, scope in enumerate(scopes)])


def _unknown() -> NotFound:
    return NotFound("application.unknown", "There is no such client application")


class SqlApplications:
    """Applications in SQL."""

    def __init__(self, writer: Line, reader: Line) -> None:
        self._writer = writer
        self._reader = reader

    async def page(self, active: bool | None, limit: int, after: str = "") -> list[Application]:
        wanted = -1 if active is None else int(active)
        found = await self._reader.each(
            lambda sql: _clients(sql, sql.rows(_PAGE, active=wanted, after=after, most=limit))
        )
        return [each.application for each in found]

    async def get(self, client_id: str) -> Application | None:
        found = await self.client(client_id)
        return None if found is None else found.application

    async def client(self, client_id: str) -> Client | None:
        return await self._reader.together(_asked_for, client_id)

    async def sealed(self, client_ids: Sequence[str]) -> dict[str, bytes]:
        rows = await self._reader.each(lambda sql: sql.among(_SEALED, client_ids) if client_ids else [])
        return {row[0]: row[1] for row in rows}

    async def create(
        self, application: Application, secret: Secret, record: Record, sealed: bytes | None = None
    ) -> int:
        grants, limit = application.grant_types, application.rate_limit
        rotate = application.rotate_refresh_tokens

        def unit(sql: Sql) -> int:
            made = sql.rows(
                _CREATE,
                client_id=application.client_id,
                name=application.name,
                redirect_uri=application.redirect_uri,
                registered=application.registered,
                description=application.description,
                active=int(application.active),
                details=_encode(application.details).decode(),
                grant_types=None if grants is None else _encode(grants).decode(),
                rotate_refresh_tokens=None if rotate is None else int(rotate),
                limit_requests=None if limit is None else limit.requests,
                limit_seconds=None if limit is None else limit.per_seconds,
                auth_method=application.token_endpoint_auth_method,
                secret_kind=secret.kind,
                secret=secret.kept,
                sealed=sealed,
            )
            if not made:
                raise Conflict("application.exists", "The client application is registered already")
            _hold(sql, made[0][0], application.scopes)
            return log(sql, "application.created", application.client_id, record)

        return await self._writer.each(unit)

    async def update(self, client_id: str, change: ApplicationChange, record: Record) -> Changed[Application]:
        def unit(sql: Sql) -> Changed[Application]:
            found = sql.rows(_UPDATE, client_id=client_id, **_values(change))
            if not found:
                raise _unknown()
            if change.scopes is not UNSET:
                _hold(sql, found[0][0], change.scopes)
            seq = log(sql, "application.changed", client_id, record)
            return Changed(seq, clients(sql, [client_id])[client_id].application)

        return await self._writer.each(unit)

    async def delete(self, client_id: str, record: Record) -> int:
        def unit(sql: Sql) -> int:
            if not sql.rows(_DELETE, client_id=client_id):
                raise _unknown()
            return log(sql, "application.deleted", client_id, record)

        return await self._writer.each(unit)

    async def set_secret(self, client_id: str, secret: Secret, record: Record, sealed: bytes | None = None) -> int:
        def unit(sql: Sql) -> int:
            if not sql.change(_ROTATE, kind=secret.kind, kept=secret.kept, sealed=sealed, client_id=client_id):
                raise _unknown()
            return log(sql, "application.changed", client_id, record)

        return await self._writer.each(unit)
