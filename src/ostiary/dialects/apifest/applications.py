"""Client applications as ApiFest speaks of them (apifest.md B2)."""

import re
from datetime import UTC, datetime
from typing import get_args

from ostiary.control.applications import (
    CreateApplication,
    Credentials,
    ListApplications,
    OneApplication,
    UpdateApplication,
)
from ostiary.core.oauth import Application, AuthMethod, RateLimit, redirect_uri_ok
from ostiary.core.refusal import Forbidden
from ostiary.dialects.apifest.asked import Asked, Row
from ostiary.dialects.apifest.bodies import ApplicationBody, LimitBody, bind
from ostiary.dialects.apifest.scopes import integer
from ostiary.dialects.apifest.words import (
    APPLICATION_INCOMPLETE,
    INVALID_JSON,
    NO_SUCH_CLIENT,
    NOTHING_TO_UPDATE,
    Said,
    answer,
    encoded,
    error,
)
from ostiary.dialects.message import JSON, Answer

PAGE = 10_000
METHODS: dict[str, AuthMethod] = {each: each for each in get_args(AuthMethod) if each}
_INTEGER = re.compile(r"[+-]?[0-9]{1,1000}", re.ASCII)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


async def create(asked: Asked) -> Answer:
    """Register an application; the answer is the only place that shows its secret."""
    body = bind(asked.request.body, ApplicationBody)
    details = _details(body)
    redirect_uri, method = body.redirect_uri or "", body.token_endpoint_auth_method
    if not body.name or not body.scope or not redirect_uri_ok(redirect_uri, method or ""):
        raise Said(APPLICATION_INCOMPLETE)
    params = CreateApplication(
        name=body.name,
        scope=body.scope,
        redirect_uri=redirect_uri,
        description=body.description or "",
        application_details=details,
        client_id=body.client_id,
        client_secret=body.client_secret,
        grant_types=body.grant_types,
        rotate_refresh_tokens=body.rotate_refresh_tokens,
        rate_limit=_limit(body.rate_limit),
        token_endpoint_auth_method=_method(method),
    )
    made: Credentials = await asked.run("applications.create", params)
    shown = {"client_id": made.client_id, "client_secret": made.client_secret}
    return encoded({name: value for name, value in shown.items() if value is not None})


async def update(asked: Asked) -> Answer:
    """Change an application. That it exists is looked at before its body."""
    try:
        params = _update(asked)
    except Said:
        await _exists(asked)
        raise
    await asked.run("applications.update", params)
    return answer(200, '{"status":"client application updated"}', asked.receipt())


def _update(asked: Asked) -> UpdateApplication:
    body = bind(asked.request.body, ApplicationBody)
    details, status = _details(body), integer(body.status)
    given = (status, details, body.grant_types, body.rotate_refresh_tokens, body.rate_limit)
    if status not in (None, 0, 1) or not (body.scope or body.description or any(value is not None for value in given)):
        raise Said(NOTHING_TO_UPDATE)
    return UpdateApplication(
        client_id=asked.item,
        scope=body.scope,
        description=body.description,
        active=None if status is None else status == 1,
        application_details=details,
        grant_types=body.grant_types,
        rotate_refresh_tokens=body.rotate_refresh_tokens,
        rate_limit=_limit(body.rate_limit),
    )


async def _exists(asked: Asked) -> None:
    """Whoever may change but not read learns of the body's mistake first."""
    try:
        await asked.run("applications.get", OneApplication(asked.item))
    except Forbidden:
        return


async def list_(asked: Asked) -> Answer:
    """Applications, registered last first; an integer `status` other than 0 and 1 has none."""
    status = _status(asked.query.get("status", ""))
    if status not in (None, 0, 1):
        return encoded([])
    found: list[Application] = []
    page: list[Application] | None = None
    while page is None or len(page) == PAGE:
        after = found[-1].client_id if found else ""
        params = ListApplications(None if status is None else status == 1, PAGE, after)
        page = await asked.run("applications.list", params)
        found += page or []
    return encoded([shown(each) for each in found])


def _status(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


async def get(asked: Asked) -> Answer:
    """One application."""
    return encoded(shown(await asked.run("applications.get", OneApplication(asked.item))))


def _details(body: ApplicationBody) -> dict[str, str] | None:
    if body.details is None or body.application_details is None:
        return body.details if body.application_details is None else body.application_details
    if body.details != body.application_details:
        raise Said(INVALID_JSON)
    return body.details


def _limit(body: LimitBody | None) -> RateLimit | None:
    if body is None:
        return None
    return RateLimit(integer(body.requests) or 0, integer(body.per_seconds) or 0)


def _method(text: str | None) -> AuthMethod:
    if text is None:
        return ""
    if text not in METHODS:
        raise Said(error(400, "token_endpoint_auth_method is not valid"))
    return METHODS[text]


def shown(application: Application) -> dict[str, object]:
    """The object, in ApiFest's order, without empty values; Ostiary's own fields where they were set."""
    own = {
        "grant_types": application.grant_types,
        "rotate_refresh_tokens": application.rotate_refresh_tokens,
        "rate_limit": application.rate_limit,
        "token_endpoint_auth_method": application.token_endpoint_auth_method or None,
    }
    members = {
        "name": application.name,
        "description": application.description,
        "client_id": application.client_id,
        "client_secret": application.client_secret,
        "scope": " ".join(application.scopes),
        "registered": moment(application.registered),
        "redirect_uri": application.redirect_uri,
    }
    shown: dict[str, object] = {name: text for name, text in members.items() if text}
    shown["status"] = int(application.active)
    if application.details:
        shown["application_details"] = application.details
    return shown | {name: value for name, value in own.items() if value is not None}


def moment(microseconds: int) -> str:
    """As Java's Date says it, always English and UTC: `Sun May 10 13:10:03 UTC 2015`."""
    at = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    return f"{DAYS[at.weekday()]} {MONTHS[at.month - 1]} {at:%d %H:%M:%S} UTC {at.year:04}"


ITEM = "/oauth20/applications/{client_id}"
ROWS = (
    Row("POST", "/oauth20/applications", "applications.create", create, JSON),
    Row("GET", "/oauth20/applications", "applications.list", list_),
    Row("GET", ITEM, "applications.get", get, words={"application.unknown": NO_SUCH_CLIENT}),
    Row("PUT", ITEM, "applications.update", update, JSON),
)
