"""Tokens: issued, checked, listed, revoked. Only digests are kept; a revocation is in force before its answer."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.digest import digest, handle, named
from ostiary.core.oauth import GRANTS_SERVED, TokenRequest, Unproven, hex_ok, text_ok
from ostiary.core.permission import Principal
from ostiary.core.refusal import Invalid, NotFound, Unauthenticated
from ostiary.link.messages import Change
from ostiary.store.ports import Issued, Record, Token, TokenFilter

MOST_SUBJECT = 255


class IssueToken(Struct, frozen=True):
    """A request for a token."""

    grant_type: Annotated[str, Meta(description="client_credentials")]
    client_id: Annotated[str, Meta(description="id of the client application")]
    client_secret: Annotated[
        str | None, Meta(description="its secret; may be absent for an operator with tokens:issue")
    ] = None
    scope: Annotated[
        str | None, Meta(description="names separated by one space; absent or empty: all of the application's")
    ] = None


class IssuedToken(Struct, frozen=True):
    """A token, shown only here."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    """Seconds."""
    scope: str


class CheckToken(Struct, frozen=True):
    """A token to be looked at."""

    token: Annotated[str, Meta(description="text of the access token")]


class ListTokens(Struct, frozen=True):
    """Which live tokens."""

    client_id: Annotated[str, Meta(description="only those of this client application")] = ""
    user: Annotated[str, Meta(description="only those of this user")] = ""
    limit: Annotated[int, Meta(ge=1, le=10_000, description="at most so many")] = 1000
    after: Annotated[int, Meta(ge=0, description="those issued after the token of this number")] = 0


class RevokeToken(Struct, frozen=True):
    """A token to be revoked."""

    token: Annotated[str, Meta(description="text of the access token, or its handle (sha256:...)")]
    client_id: Annotated[str | None, Meta(description="only if it is this client application's")] = None


class RevokeSubject(Struct, frozen=True):
    """Whose tokens are revoked."""

    user: Annotated[str, Meta(description="user id as the tokens carry it, compared exactly")]


class TokenState(Struct, frozen=True):
    """What a token is now. Where `active` is false because there is no such live token, the rest is empty."""

    active: bool
    """Whether it passes."""
    handle: str = ""
    client_id: str = ""
    user: str = ""
    scope: str = ""
    grant: str = ""
    issued: int = 0
    """Unix time in microseconds."""
    expires_in: int = 0
    """Seconds from the issue, as they were fixed then."""
    details: dict[str, str] = {}
    application_details: dict[str, str] = {}
    number: int = 0


class Revoked(Struct, frozen=True):
    """Whether anything was revoked, and how many tokens."""

    revoked: bool
    tokens: int


@operation("tokens.issue", permission="", target="client_id")
async def issue(control: Control, call: Call, params: IssueToken) -> IssuedToken:
    """Issue an access token to a client application."""
    if params.grant_type not in GRANTS_SERVED:
        raise Invalid("grant.unsupported", "The grant type is not supported")
    if params.client_secret is None and not call.principal.may("tokens:issue"):
        raise Unauthenticated("client.invalid", "Unknown client, or its secret is wrong")
    token = control.entropy(32).hex()
    request = TokenRequest(
        client_id=params.client_id if hex_ok(params.client_id) else "",
        digest=digest(token),
        now=control.clock(),
        default_grants=control.rules.default_grants,
        scope=params.scope,
        proof=None if params.client_secret is None else digest(params.client_secret).hex(),
    )
    issued = await _decided(
        control, request, params.client_secret or "", call.done(request.now, "", _asker(call, params))
    )
    return IssuedToken(token, "Bearer", issued.expires_in, " ".join(issued.scopes))


def _asker(call: Call, params: IssueToken) -> Principal:
    """An application by its own secret, or the operator who vouches for it."""
    return (
        call.principal
        if params.client_secret is None
        else Principal("application", params.client_id, frozenset(), "secret")
    )


async def _decided(control: Control, request: TokenRequest, secret: str, record: Record) -> Issued:
    """The store decides; where it keeps argon2id, the secret is verified first, off the event loop."""
    try:
        return await control.tokens.issue(request, record)
    except Unproven as unproven:
        if not await control.passwords.verify(unproven.kept, secret):
            raise Unauthenticated("client.invalid", "Unknown client, or its secret is wrong") from None
        return await control.tokens.issue(replace(request, verified=unproven.kept), record)


@operation("tokens.check", reads=True)
async def check(control: Control, call: Call, params: CheckToken) -> TokenState:
    """Say what an access token is: whether it passes, whose it is, for what."""
    presented = digest(params.token)
    live = await control.tokens.live([presented], control.clock())
    return state(live[presented]) if presented in live else TokenState(False)


@operation("tokens.list", reads=True)
async def list_(control: Control, call: Call, params: ListTokens) -> list[TokenState]:
    """List the live tokens, oldest first."""
    if params.client_id and not hex_ok(params.client_id):
        raise NotFound("application.unknown", "There is no such client application")
    if not text_ok(params.user, MOST_SUBJECT):
        return []
    which = TokenFilter(control.clock(), params.client_id, params.user, params.after, params.limit)
    return [state(token) for token in await control.tokens.page(which)]


@operation("tokens.revoke", target="client_id")
async def revoke(control: Control, call: Call, params: RevokeToken) -> Revoked:
    """Revoke an access token; no worker admits it any more when this answers."""
    if params.client_id is not None and not hex_ok(params.client_id):
        raise NotFound("application.unknown", "There is no such client application")
    presented = named(params.token)
    now = control.clock()
    record = call.done(now, handle(presented))
    seq = await control.tokens.revoke(presented, params.client_id or "", now, record)
    call.trail.receipt = await control.workers.apply(Change(seq, digests=[presented]))
    return Revoked(seq > 0, int(seq > 0))


@operation("tokens.revoke_subject", target="user")
async def revoke_subject(control: Control, call: Call, params: RevokeSubject) -> Revoked:
    """Revoke every token of a user, of all client applications."""
    if not params.user or not text_ok(params.user, MOST_SUBJECT):
        raise Invalid("user.missing", "The user is missing or no valid user id")
    now = control.clock()
    changed = await control.tokens.revoke_user(params.user, now, call.done(now))
    call.trail.receipt = await control.workers.apply(Change(changed.seq, users=[params.user]))
    return Revoked(changed.value > 0, changed.value)


def state(token: Token) -> TokenState:
    """A kept token as operators see it."""
    return TokenState(
        active=token.active,
        handle=handle(token.digest),
        client_id=token.client_id,
        user=token.user,
        scope=" ".join(token.scopes),
        grant=token.grant,
        issued=token.issued,
        expires_in=token.expires_in,
        details=token.details,
        application_details=token.application_details,
        number=token.number,
    )
