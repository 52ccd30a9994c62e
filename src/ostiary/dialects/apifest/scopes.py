"""Scopes as ApiFest speaks of them (apifest.md B1)."""

from ostiary.control.scopes import CreateScope, ListScopes, OneScope, UpdateScope
from ostiary.core.oauth import Scope
from ostiary.core.refusal import Invalid
from ostiary.dialects.apifest.asked import Asked, Row
from ostiary.dialects.apifest.bodies import Number, ScopeBody, bind
from ostiary.dialects.apifest.words import NO_SUCH_CLIENT, NOT_FOUND, SCOPE_INCOMPLETE, Said, answer, encoded
from ostiary.dialects.message import JSON, Answer

PAGE = 10_000


async def create(asked: Asked) -> Answer:
    """Register a scope."""
    body = bind(asked.request.body, ScopeBody)
    if body.scope is None or body.description is None:
        raise Said(SCOPE_INCOMPLETE)
    refresh = integer(body.refresh_expires_in)
    params = CreateScope(
        scope=body.scope,
        description=body.description,
        cc_expires_in=integer(body.cc_expires_in) or 0,
        pass_expires_in=integer(body.pass_expires_in) or 0,
        refresh_expires_in=None if refresh is not None and refresh < 0 else refresh,
    )
    await asked.run("scopes.create", params)
    return answer(200, '{"status":"scope successfully stored"}')


async def update(asked: Asked) -> Answer:
    """Change a scope named in the path."""
    return await _update(asked, asked.item, bind(asked.request.body, ScopeBody))


async def update_unnamed(asked: Asked) -> Answer:
    """Change the scope that the body names."""
    body = bind(asked.request.body, ScopeBody)
    if not body.scope:
        raise Said(NOT_FOUND)
    return await _update(asked, body.scope, body)


async def _update(asked: Asked, name: str, body: ScopeBody) -> Answer:
    params = UpdateScope(
        name,
        body.description,
        integer(body.cc_expires_in),
        integer(body.pass_expires_in),
        integer(body.refresh_expires_in),
    )
    await asked.run("scopes.update", params)
    return answer(200, '{"status":"scope successfully updated"}')


async def list_(asked: Asked) -> Answer:
    """All scopes by name, or those of an application in its order."""
    if "client_id" in asked.query:
        return encoded([shown(each) for each in await asked.run("scopes.list", ListScopes(asked.query["client_id"]))])
    scopes: list[Scope] = []
    page: list[Scope] | None = None
    while page is None or len(page) == PAGE:
        page = await asked.run("scopes.list", ListScopes(limit=PAGE, after=scopes[-1].scope if scopes else ""))
        scopes += page or []
    return encoded([shown(each) for each in scopes])


async def get(asked: Asked) -> Answer:
    """One scope."""
    return encoded(shown(await asked.run("scopes.get", OneScope(asked.item))))


async def delete(asked: Asked) -> Answer:
    """Delete a scope that nobody holds."""
    await asked.run("scopes.delete", OneScope(asked.item))
    return answer(200, '{"status":"scope successfully deleted"}')


def shown(scope: Scope) -> dict[str, object]:
    """The object, in ApiFest's order."""
    return {
        "description": scope.description,
        "cc_expires_in": scope.cc_expires_in,
        "pass_expires_in": scope.pass_expires_in,
        "scope": scope.scope,
        "refresh_expires_in": scope.refresh_expires_in,
    }


def integer(value: Number | None) -> int | None:
    """A number that `bind` has made whole."""
    if value is None or isinstance(value, int):
        return value
    raise Invalid("body.number", "is not an integer")


ITEM = "/oauth20/scopes/{scope}"
UNKNOWN = {"scope.unknown": (404, '{"status":"scope does not exist"}')}
ROWS = (
    Row("POST", "/oauth20/scopes", "scopes.create", create, JSON),
    Row("GET", "/oauth20/scopes", "scopes.list", list_, words={"application.unknown": NO_SUCH_CLIENT}),
    Row("PUT", "/oauth20/scopes", "scopes.update", update_unnamed, JSON),
    Row("GET", ITEM, "scopes.get", get, words=UNKNOWN),
    Row("PUT", ITEM, "scopes.update", update, JSON),
    Row("DELETE", ITEM, "scopes.delete", delete),
)
