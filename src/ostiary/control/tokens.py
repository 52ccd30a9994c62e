"""Tokens: issued, checked, listed, revoked. Only digests are kept; a revocation is in force before its answer."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from ostiary.control import envelope, plugged
from ostiary.control.authenticators import person
from ostiary.control.call import Call
from ostiary.control.clients import asked_proof, proven
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.digest import digest, handle, named
from ostiary.core.oauth import BUILT_IN_GRANTS, Handed, TokenRequest, hex_ok, text_ok
from ostiary.core.oauth.codes import MOST_SUBJECT
from ostiary.core.oauth.people import Asking, User
from ostiary.core.permission import Principal
from ostiary.core.refusal import Invalid, NotFound
from ostiary.link.messages import Change
from ostiary.store.ports import Ended, Issued, Record, Token, TokenFilter

Text = str | None


class IssueToken(Struct, frozen=True):
    """A request for a token."""

    grant_type: Annotated[
        str, Meta(description="client_credentials, password, authorization_code, refresh_token, or a configured one")
    ]
    client_id: Annotated[str, Meta(description="id of the client application")]
    client_secret: Annotated[
        str | None, Meta(description="its secret; may be absent for an operator with tokens:issue")
    ] = None
    scope: Annotated[
        str | None, Meta(description="names separated by one space; absent or empty: all of the application's")
    ] = None
    code: Annotated[Text, Meta(description="of authorization_code: the code")] = None
    redirect_uri: Annotated[Text, Meta(description="of authorization_code: as in the request for the code")] = None
    code_verifier: Annotated[Text, Meta(description="of authorization_code with PKCE: the verifier")] = None
    refresh_token: Annotated[Text, Meta(description="of refresh_token: the refresh token")] = None
    username: Annotated[Text, Meta(description="of password: name or address of the user")] = None
    password: Annotated[Text, Meta(description="of password: the user's password")] = None
    strict: Annotated[
        bool, Meta(description="by RFC 9700: no password grant; each use of a refresh token gives a new one")
    ] = False
    form: Annotated[dict[str, str], Meta(description="further parameters, for configured grants")] = {}


class IssuedToken(Struct, frozen=True):
    """A token, shown only here."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    """Seconds."""
    scope: str
    refresh_token: str | None = None
    refresh_expires_in: int | None = None
    """Seconds."""


class CheckToken(Struct, frozen=True):
    """A token to be looked at."""

    token: Annotated[str, Meta(description="text of the token")]
    refresh: Annotated[bool, Meta(description="refresh tokens too, not only access tokens")] = False


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
    refresh: Annotated[bool, Meta(description="refresh tokens too, not only access tokens")] = False


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
    kind: str = ""
    """`access` or `refresh`."""
    grant: str = ""
    """How its family began."""
    issued: int = 0
    """Unix time in microseconds."""
    expires_in: int = 0
    """Seconds from the issue, as they were fixed then."""
    expires: int = 0
    """Unix time in microseconds."""
    details: dict[str, str] = {}
    application_details: dict[str, str] = {}
    number: int = 0
    code_id: str = ""
    """Names the code that its family began with; it is not the code."""
    refresh_handle: str = ""
    """Of the refresh token that was handed out with it."""
    refresh_token: str = ""
    """The text of that refresh token: only for who shows the access token."""
    refresh_expires_in: int | None = None


class Revoked(Struct, frozen=True):
    """Whether anything was revoked, and how many tokens."""

    revoked: bool
    tokens: int
    foreign: bool = False
    """The token is another client application's; nothing was done."""


@operation("tokens.issue", permission="", target="client_id")
async def issue(control: Control, call: Call, params: IssueToken) -> IssuedToken:
    """Issue an access token to a client application."""
    token, fresh = control.entropy(32).hex(), control.entropy(32).hex()
    request = _request(control, call, params, token, fresh)
    if _needs_user(request):
        user = await _user(control, call, params, request)
        request = replace(request, user=user.id, details=dict(user.details))
    record = call.done(request.now, "", _asker(call, params))
    issued = await _decided(control, call, params, request, record)
    if issued.replaced:
        call.trail.later = Change(issued.seq, digests=list(issued.replaced), streams=False)
    refresh = "" if not issued.refresh else fresh if issued.refresh == digest(fresh) else params.refresh_token
    return IssuedToken(
        token, "Bearer", issued.expires_in, " ".join(issued.scopes), refresh or None,
        issued.refresh_expires_in if refresh else None,
    )  # fmt: skip


def _request(control: Control, call: Call, params: IssueToken, token: str, fresh: str) -> TokenRequest:
    """What the store decides. `token` and `fresh` may become an access and a refresh token."""
    rules = control.rules
    known = {*BUILT_IN_GRANTS, *rules.custom_grants} - ({"password"} if params.strict else set())
    bare = params.grant_type == "client_credentials"
    presented = {"authorization_code": params.code, "refresh_token": params.refresh_token}.get(params.grant_type)
    return TokenRequest(
        client_id=params.client_id if hex_ok(params.client_id) else "",
        digest=digest(token),
        now=control.clock(),
        default_grants=rules.default_grants,
        scope=params.scope,
        proof=asked_proof(call, params.client_secret),
        grant=params.grant_type,
        known=frozenset(known),
        given=frozenset(name for name in PARAMETERS if getattr(params, name)),
        presented=digest(presented or ""),
        redirect_uri=params.redirect_uri or "",
        verifier=params.code_verifier or "",
        strict=params.strict,
        family=b"" if bare else control.entropy(16),
        fresh=None if bare else _handed(token, fresh),
        again=_handed(token, params.refresh_token) if params.refresh_token else None,
        refresh_absolute=rules.refresh_absolute,
    )


PARAMETERS = ("code", "redirect_uri", "refresh_token", "username", "password")


def _handed(token: str, refresh: str) -> Handed:
    return Handed(digest(refresh), envelope.close(token, refresh))


def _needs_user(request: TokenRequest) -> bool:
    return request.grant == "password" or request.grant not in BUILT_IN_GRANTS


async def _user(control: Control, call: Call, params: IssueToken, request: TokenRequest) -> User:
    """Who is behind a password or custom grant; asked only once the client may have the token at all."""
    await proven(control, call, request, params.client_secret or "", control.tokens.weigh)
    asking = Asking(params.client_id, params.grant_type, params.scope or "", params.form, call.address)
    rules = control.rules
    if params.grant_type != "password":
        return await plugged.ask("grants", rules.custom_grants[params.grant_type], asking)
    pair = (params.username or "", params.password or "")
    return await person(control, *pair, asking)


def _asker(call: Call, params: IssueToken) -> Principal:
    """An application by its own secret, or the operator who vouches for it."""
    if params.client_secret is None and call.principal.may("tokens:issue"):
        return call.principal
    return Principal("application", params.client_id, frozenset(), "secret")


async def _decided(control: Control, call: Call, params: IssueToken, request: TokenRequest, record: Record) -> Issued:
    """What the store decides. Where it ended a family, that is in force before the refusal goes out."""

    async def act(asked: TokenRequest) -> Issued:
        return await control.tokens.issue(asked, record)

    try:
        return await proven(control, call, request, params.client_secret or "", act)
    except Ended as ended:
        await control.workers.apply(Change(ended.seq, digests=list(ended.digests)))
        raise


@operation("tokens.check", reads=True)
async def check(control: Control, call: Call, params: CheckToken) -> TokenState:
    """Say what a token is: whether it passes, whose it is, for what."""
    presented, now = digest(params.token), control.clock()
    found = (await control.tokens.live([presented], now)).get(presented)
    if found is None and params.refresh:
        kept = await control.tokens.get(presented)
        found = kept if kept is not None and kept.kind == "refresh" and kept.live(now) else None
    if found is None:
        return TokenState(False)
    return replace(state(found), refresh_token=envelope.unfold(params.token, found.sealed))


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
    """Revoke a token and its family; no worker admits it any more when this answers."""
    if params.client_id is not None and not hex_ok(params.client_id):
        raise NotFound("application.unknown", "There is no such client application")
    presented = named(params.token)
    now = control.clock()
    record = call.done(now, handle(presented))
    ending = await control.tokens.revoke(presented, params.client_id or "", now, record, refresh=params.refresh)
    digests = [presented, *(each for each in ending.digests if each != presented)]
    if not ending.foreign:
        call.trail.receipt = await control.workers.apply(Change(ending.seq, digests=digests))
    return Revoked(ending.tokens > 0, ending.tokens, ending.foreign)


@operation("tokens.revoke_subject", target="user")
async def revoke_subject(control: Control, call: Call, params: RevokeSubject) -> Revoked:
    """Revoke every token and unspent code of a user, of all client applications."""
    if not params.user:
        raise Invalid("user.missing", "The user is missing")
    if not text_ok(params.user, MOST_SUBJECT):
        return Revoked(False, 0)  # no token can carry it
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
        kind=token.kind,
        grant=token.grant,
        issued=token.issued,
        expires_in=token.expires_in,
        expires=token.expires,
        details=token.details,
        application_details=token.application_details,
        number=token.number,
        code_id=token.family.hex() if token.grant == "authorization_code" else "",
        refresh_handle=handle(token.refresh) if token.refresh else "",
        refresh_expires_in=token.refresh_expires_in if token.refresh else None,
    )
