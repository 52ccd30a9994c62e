"""Client applications: who may get tokens.

What an admission depends on (active, details, rate limit) is in force in every worker before the answer; a change of
scopes or grant types holds for tokens issued afterwards.
"""

from typing import Annotated, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.control.scopes import Deleted
from ostiary.core.digest import digest
from ostiary.core.oauth import (
    PUBLIC,
    Application,
    AuthMethod,
    RateLimit,
    Secret,
    check_application,
    check_fields,
    check_texts,
    hex_ok,
    split_scopes,
)
from ostiary.core.refusal import Conflict, Invalid, NotFound
from ostiary.link.messages import Change
from ostiary.store.ports import ApplicationChange

T = TypeVar("T")
GrantTypes = Annotated[
    list[str] | None, Meta(description="grants that it may use; absent: those that the settings give")
]
Details = Annotated[dict[str, str] | None, Meta(description="texts kept with it and handed to actions")]
Rotate = Annotated[bool | None, Meta(description="whether each use of a refresh token gives a new one")]
OwnLimit = Annotated[RateLimit | None, Meta(description="its own rate limit")]


class ListApplications(Struct, frozen=True):
    """Which client applications."""

    active: Annotated[bool | None, Meta(description="only active, or only inactive ones")] = None
    limit: Annotated[int, Meta(ge=1, le=10_000, description="at most so many")] = 1000
    after: Annotated[str, Meta(description="those registered before this client_id")] = ""


class OneApplication(Struct, frozen=True):
    """A client application by its id."""

    client_id: Annotated[str, Meta(description="id of the client application")]


class CreateApplication(Struct, frozen=True):
    """A new client application; it begins inactive."""

    name: Annotated[str, Meta(description="what people call it")]
    scope: Annotated[str, Meta(description="names of its scopes, separated by one space")]
    redirect_uri: Annotated[str, Meta(description="where codes are sent: an absolute http or https URL")]
    description: Annotated[str, Meta(description="what it is, for people")] = ""
    application_details: Details = None
    client_id: Annotated[str | None, Meta(description="id to take over (hex digits), together with client_secret")] = (
        None
    )
    client_secret: Annotated[str | None, Meta(description="secret to take over (hex digits)")] = None
    grant_types: GrantTypes = None
    rotate_refresh_tokens: Rotate = None
    rate_limit: OwnLimit = None
    token_endpoint_auth_method: Annotated[
        AuthMethod, Meta(description="how it shows its secret; none: it cannot keep one")
    ] = ""


class UpdateApplication(Struct, frozen=True):
    """What to change of a client application; absent fields stay."""

    client_id: Annotated[str, Meta(description="id of the client application")]
    scope: Annotated[str | None, Meta(description="names of its scopes, separated by one space")] = None
    description: Annotated[str | None, Meta(description="what it is, for people")] = None
    active: Annotated[bool | None, Meta(description="whether it gets tokens and its tokens pass")] = None
    application_details: Details = None
    grant_types: GrantTypes = None
    rotate_refresh_tokens: Rotate = None
    rate_limit: OwnLimit = None


class Credentials(Struct, frozen=True):
    """The credentials of a client application; the secret (null where there is none) is shown only here."""

    client_id: str
    client_secret: str | None


def _unknown() -> NotFound:
    return NotFound("application.unknown", "There is no such client application")


@operation("applications.list", reads=True)
async def list_(control: Control, call: Call, params: ListApplications) -> list[Application]:
    """List the client applications, registered last first."""
    if params.after and not hex_ok(params.after):
        return []
    return await _revealed(control, call, await control.applications.page(params.active, params.limit, params.after))


@operation("applications.get", reads=True)
async def get(control: Control, call: Call, params: OneApplication) -> Application:
    """Show a client application."""
    found = await control.applications.get(params.client_id) if hex_ok(params.client_id) else None
    if found is None:
        raise _unknown()
    return (await _revealed(control, call, [found]))[0]


async def _revealed(control: Control, call: Call, found: list[Application]) -> list[Application]:
    """With their secrets, where those are kept readable and the caller may see them."""
    if not call.principal.may("applications:secrets"):
        return found
    sealed = await control.applications.sealed([each.client_id for each in found])
    secrets = {name: control.vault.open(name, kept) for name, kept in sealed.items()}
    return [replace(each, client_secret=secrets.get(each.client_id, "")) for each in found]


def _sealed(control: Control, credentials: Credentials) -> bytes | None:
    """The secret for the vault, if the settings want it kept there."""
    if credentials.client_secret is None or not control.rules.reveal_secrets:
        return None
    return control.vault.close(credentials.client_id, credentials.client_secret)


@operation("applications.create")
async def create(control: Control, call: Call, params: CreateApplication) -> Credentials:
    """Register a client application and show its secret, once."""
    application = _asked(params, control.clock())
    check_application(application, control.rules)
    await _check_scopes(control, application.scopes)
    credentials = _credentials(control, params)
    if _predefined(params) and await control.applications.get(credentials.client_id) is not None:
        raise Conflict("application.exists", "The client application is registered already")  # before it costs a hash
    application = replace(application, client_id=credentials.client_id)
    secret = await _kept(control, credentials, predefined=_predefined(params))
    record = call.done(application.registered, application.client_id)
    await control.applications.create(application, secret, record, _sealed(control, credentials))
    return credentials


@operation("applications.update", target="client_id")
async def update(control: Control, call: Call, params: UpdateApplication) -> Application:
    """Change, activate or deactivate a client application."""
    if await control.applications.get(params.client_id if hex_ok(params.client_id) else "") is None:
        raise _unknown()
    change = _change(control, params)
    changed = await control.applications.update(params.client_id, change, call.done(control.clock()))
    told = _told(changed.seq, params)
    if told is not None:
        call.trail.receipt = await control.workers.apply(told)
    return changed.value


@operation("applications.delete", target="client_id")
async def delete(control: Control, call: Call, params: OneApplication) -> Deleted:
    """Delete a client application; none of its tokens passes ever again."""
    if not hex_ok(params.client_id):
        raise _unknown()
    seq = await control.applications.delete(params.client_id, call.done(control.clock()))
    call.trail.receipt = await control.workers.apply(Change(seq, clients=[params.client_id]))
    return Deleted(params.client_id)


@operation("applications.rotate_secret", target="client_id")
async def rotate_secret(control: Control, call: Call, params: OneApplication) -> Credentials:
    """Give a client application a new secret; the old one is refused at once, its tokens live on."""
    application = await get.run(control, call, params)
    if application.public:
        raise Conflict("application.public", "The client application has no secret")
    credentials = Credentials(params.client_id, control.entropy(32).hex())
    secret = await _kept(control, credentials, predefined=False)
    record = call.done(control.clock())
    await control.applications.set_secret(params.client_id, secret, record, _sealed(control, credentials))
    return credentials


def _asked(params: CreateApplication, now: int) -> Application:
    return Application(
        client_id="",
        name=params.name,
        scopes=split_scopes(params.scope) if params.scope else (),
        redirect_uri=params.redirect_uri,
        registered=now,
        description=params.description,
        details=params.application_details or {},
        grant_types=None if params.grant_types is None else _grants(params.grant_types),
        rotate_refresh_tokens=params.rotate_refresh_tokens,
        rate_limit=params.rate_limit,
        token_endpoint_auth_method=params.token_endpoint_auth_method,
    )


def _grants(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _predefined(params: CreateApplication) -> bool:
    return params.client_id is not None and params.client_secret is not None


def _credentials(control: Control, params: CreateApplication) -> Credentials:
    """Those given, if both are, else new ones. Refuses Invalid `client.hex`."""
    if params.client_id is None or params.client_secret is None:
        client_id, client_secret = control.entropy(20).hex(), control.entropy(32).hex()
    elif hex_ok(params.client_id) and hex_ok(params.client_secret):
        client_id, client_secret = params.client_id, params.client_secret
    else:
        raise Invalid("client.hex", "A given client_id and client_secret have 1 to 128 lower-case hex digits")
    return Credentials(client_id, None if params.token_endpoint_auth_method in PUBLIC else client_secret)


async def _kept(control: Control, credentials: Credentials, *, predefined: bool) -> Secret:
    """What is kept of a secret: a predefined one may be weak."""
    if credentials.client_secret is None:
        return Secret("none")
    if predefined:
        return Secret("argon2", await control.passwords.make(credentials.client_secret))
    return Secret("sha256", digest(credentials.client_secret).hex())


async def _check_scopes(control: Control, names: tuple[str, ...]) -> None:
    """Refuse Invalid `scope.not_known`. Earlier than the store does, because it comes before the checks of the id."""
    if len(await control.scopes.named(names)) < len(names):
        raise Invalid("scope.not_known", "A scope does not exist")


def _change(control: Control, params: UpdateApplication) -> ApplicationChange:
    """What is to change. Refuses Invalid `application.nothing`, `application.field`."""
    others = (params.active, params.application_details, params.grant_types, params.rotate_refresh_tokens)
    if not params.scope and not params.description and all(each is None for each in (*others, params.rate_limit)):
        raise Invalid("application.nothing", "There is nothing to change")
    grants = None if params.grant_types is None else _grants(params.grant_types)
    check_texts("application", {"description": params.description or ""})
    check_fields(params.application_details, grants, params.rate_limit, control.rules)
    return ApplicationChange(
        scopes=UNSET if params.scope is None else split_scopes(params.scope),
        description=_set(params.description),
        active=_set(params.active),
        details=_set(params.application_details),
        grant_types=_set(grants),
        rotate_refresh_tokens=_set(params.rotate_refresh_tokens),
        rate_limit=_set(params.rate_limit),
    )


def _set(value: T | None) -> T | UnsetType:
    return UNSET if value is None else value


def _told(seq: int, params: UpdateApplication) -> Change | None:
    """What workers must forget. A reactivated application's tokens are remembered as refused, under no client."""
    if params.active:
        return Change(seq, everything=True, streams=False)
    if params.active is False:
        return Change(seq, clients=[params.client_id])
    if params.application_details is not None or params.rate_limit is not None:
        return Change(seq, clients=[params.client_id], streams=False)
    return None
