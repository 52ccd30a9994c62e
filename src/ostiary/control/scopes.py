"""Scopes: what client applications may be allowed.

A change of a scope holds for tokens issued afterwards, so no worker has anything to forget.
"""

from typing import Annotated

from msgspec import UNSET, Meta, Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.oauth import MAX_SECONDS, Scope, check_scope, check_texts, scope_name_ok
from ostiary.core.refusal import Invalid, Mistake, NotFound
from ostiary.store.ports import ScopeChange

Seconds = Annotated[int, Meta(ge=1, le=MAX_SECONDS)]


class ListScopes(Struct, frozen=True):
    """Which scopes."""

    client_id: Annotated[str | None, Meta(description="only those of this client application, in its order")] = None
    limit: Annotated[int, Meta(ge=1, le=10_000, description="at most so many")] = 1000
    after: Annotated[str, Meta(description="those after this name")] = ""


class OneScope(Struct, frozen=True):
    """A scope by name."""

    scope: Annotated[str, Meta(description="name of the scope")]


class CreateScope(Struct, frozen=True):
    """A new scope."""

    scope: Annotated[str, Meta(description="name: letters and digits, joined by - or _")]
    cc_expires_in: Annotated[Seconds, Meta(description="seconds that tokens of client_credentials live")]
    pass_expires_in: Annotated[Seconds, Meta(description="seconds that other access tokens live")]
    refresh_expires_in: Annotated[
        Seconds | None, Meta(description="seconds that refresh tokens live; absent: as pass_expires_in")
    ] = None
    description: Annotated[str, Meta(description="what it stands for, for people")] = ""


class UpdateScope(Struct, frozen=True):
    """What to change of a scope; absent fields stay."""

    scope: Annotated[str, Meta(description="name of the scope")]
    description: Annotated[str | None, Meta(description="what it stands for, for people")] = None
    cc_expires_in: Annotated[int | None, Meta(description="seconds that tokens of client_credentials live")] = None
    pass_expires_in: Annotated[int | None, Meta(description="seconds that other access tokens live")] = None
    refresh_expires_in: Annotated[int | None, Meta(description="seconds that refresh tokens live")] = None


class Deleted(Struct, frozen=True):
    """What was deleted."""

    deleted: str


def _unknown() -> NotFound:
    return NotFound("scope.unknown", "There is no such scope")


@operation("scopes.list", reads=True)
async def list_(control: Control, call: Call, params: ListScopes) -> list[Scope]:
    """List the scopes, by name."""
    if params.client_id is None:
        return await control.scopes.page(params.limit, params.after)
    application = await control.applications.get(params.client_id)
    if application is None:
        raise NotFound("application.unknown", "There is no such client application")
    found = await control.scopes.named(application.scopes)
    return [found[name] for name in application.scopes if name in found]


@operation("scopes.get", reads=True)
async def get(control: Control, call: Call, params: OneScope) -> Scope:
    """Show a scope."""
    found = await control.scopes.named([params.scope]) if scope_name_ok(params.scope) else {}
    if params.scope not in found:
        raise _unknown()
    return found[params.scope]


@operation("scopes.create", target="scope")
async def create(control: Control, call: Call, params: CreateScope) -> Scope:
    """Register a scope."""
    refresh = params.pass_expires_in if params.refresh_expires_in is None else params.refresh_expires_in
    scope = Scope(params.scope, params.description, params.cc_expires_in, params.pass_expires_in, refresh)
    check_scope(scope)
    await control.scopes.create(scope, call.done(control.clock()))
    return scope


@operation("scopes.update", target="scope")
async def update(control: Control, call: Call, params: UpdateScope) -> Scope:
    """Change a scope, for tokens issued from now on."""
    change = _change(params)
    if not scope_name_ok(params.scope):
        raise _unknown()
    return (await control.scopes.update(params.scope, change, call.done(control.clock()))).value


@operation("scopes.delete", target="scope")
async def delete(control: Control, call: Call, params: OneScope) -> Deleted:
    """Delete a scope that no client application holds."""
    if not scope_name_ok(params.scope):
        raise _unknown()
    await control.scopes.delete(params.scope, call.done(control.clock()))
    return Deleted(params.scope)


def _change(params: UpdateScope) -> ScopeChange:
    """What is to change. Refuses Invalid `scope.nothing`, `scope.expiry` (with the fields), `scope.field`."""
    expiries = {
        "cc_expires_in": params.cc_expires_in,
        "pass_expires_in": params.pass_expires_in,
        "refresh_expires_in": params.refresh_expires_in,
    }
    given = {name: seconds for name, seconds in expiries.items() if seconds is not None}
    if not params.description and not any(seconds > 0 for seconds in given.values()):
        raise Invalid("scope.nothing", "There is nothing to change")
    wrong = [name for name, seconds in given.items() if not 0 < seconds <= MAX_SECONDS]
    if wrong:
        mistakes = tuple(Mistake(name, "must be greater than 0") for name in wrong)
        raise Invalid("scope.expiry", f"{wrong[0]} must be greater than 0", mistakes)
    check_texts("scope", {"description": params.description or ""})
    return ScopeChange(UNSET if params.description is None else params.description, **given)
