"""Authorization codes: given for a user for whom the caller vouches, or who is at the browser."""

from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from ostiary.control.call import Call
from ostiary.control.consents import principal, signed_in
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.core.digest import digest
from ostiary.core.oauth import (
    Application,
    CodeRequest,
    Scope,
    consented,
    decide_code,
    granted_scopes,
    hex_ok,
    location,
    redirect_of,
)
from ostiary.core.oauth.applications import authenticate
from ostiary.core.refusal import Refusal, Unauthenticated


class IssueCode(Struct, frozen=True):
    """A request for an authorization code."""

    client_id: Annotated[str, Meta(description="id of the client application")]
    response_type: Annotated[str, Meta(description="code")] = "code"
    redirect_uri: Annotated[str | None, Meta(description="where the code is sent; absent: to the registered one")] = (
        None
    )
    scope: Annotated[
        str | None, Meta(description="names separated by one space; absent or empty: all of the application's")
    ] = None
    state: Annotated[str | None, Meta(description="handed back as it is")] = None
    user: Annotated[str, Meta(description="for whom the caller vouches; empty: nobody in particular")] = ""
    code_challenge: Annotated[str | None, Meta(description="of PKCE: 43 base64url characters")] = None
    code_challenge_method: Annotated[str | None, Meta(description="S256, if there is a challenge")] = None


class IssuedCode(Struct, frozen=True):
    """Where to send the user agent; the code, shown only here, is in its query."""

    redirect_uri: str


class Authorize(Struct, frozen=True):
    """A request for an authorization code as a browser brings it (RFC 6749 section 4.1.1)."""

    client_id: Annotated[str, Meta(description="id of the client application")]
    response_type: Annotated[str, Meta(description="code")] = ""
    redirect_uri: Annotated[str | None, Meta(description="the registered one; absent: that")] = None
    scope: Annotated[
        str | None, Meta(description="names separated by one space; absent or empty: all of the application's")
    ] = None
    state: Annotated[str | None, Meta(description="handed back as it is")] = None
    code_challenge: Annotated[str | None, Meta(description="of PKCE: 43 base64url characters")] = None
    code_challenge_method: Annotated[str | None, Meta(description="S256")] = None
    browser: Annotated[str, Meta(description="secret of the log-in in the browser")] = ""
    allow: Annotated[bool, Meta(description="the user allows these scopes now; else it must have been before")] = False
    issuer: Annotated[str, Meta(description="named beside the code (RFC 9207)")] = ""


class Asked(Struct, frozen=True):
    """What a request for a code asks for."""

    application: Application
    redirect_uri: str
    """Where every further answer goes."""
    refusal: Refusal | None
    """Why there will be no code; None: it is for the user to say."""


async def asked(control: Control, params: Authorize) -> Asked:
    """Look at a request. Refuses `client.invalid` and `redirect_uri.invalid`, which may not be told to any URI."""
    request = _request(control, params, b"", strict=True)
    client = authenticate(await control.applications.client(request.client_id), None)
    redirect = redirect_of(client.application, request)
    try:
        decide_code(client, request, disabled=False)
    except Refusal as refusal:
        return Asked(client.application, redirect, refusal)
    return Asked(client.application, redirect, None)


async def wanted(control: Control, application: Application, scope: str | None) -> list[Scope]:
    """The scopes that a good request asks for, with what they mean."""
    names = granted_scopes(application, scope)
    known = await control.scopes.named(names)
    return [known[name] for name in names if name in known]


async def allowed(control: Control, application: Application, scope: str | None, user: str) -> bool:
    """Whether the user need not be asked."""
    before = await control.consents.allowed(user, application.client_id)
    return consented(application, granted_scopes(application, scope), before)


@operation("codes.authorize", permission="", target="client_id")
async def authorize(control: Control, call: Call, params: Authorize) -> IssuedCode:
    """Issue an authorization code for the user who is logged in in a browser, and who allows it or has."""
    login = await signed_in(control, params.browser)
    if login is None:
        raise Unauthenticated("login.ended", "The log-in has ended")
    code, kept = control.entropy(32).hex(), digest(params.browser)
    request = replace(_request(control, params, digest(code), strict=True), user=login.user, details=login.details)
    record = call.done(request.now, "", principal(login, kept))
    redirect_uri = await control.consents.authorize(request, kept, params.allow, record)
    return IssuedCode(location(redirect_uri, code=code, state=params.state, iss=params.issuer or None))


@operation("codes.issue", permission="tokens:issue", target="client_id")
async def issue(control: Control, call: Call, params: IssueCode) -> IssuedCode:
    """Issue an authorization code for a user."""
    code = control.entropy(32).hex()
    request = replace(_request(control, params, digest(code)), user=params.user)
    redirect_uri = await control.tokens.issue_code(request, call.done(request.now))
    return IssuedCode(location(redirect_uri, code=code, state=params.state))


def _request(control: Control, params: IssueCode | Authorize, kept: bytes, *, strict: bool = False) -> CodeRequest:
    """What is decided, for nobody yet."""
    rules = control.rules
    return CodeRequest(
        client_id=params.client_id if hex_ok(params.client_id) else "",
        digest=kept,
        family=control.entropy(16),
        now=control.clock(),
        default_grants=rules.default_grants,
        lifetime=rules.code_lifetime,
        response_type=params.response_type,
        redirect_uri=params.redirect_uri,
        any_redirect=rules.any_redirect,
        scope=params.scope,
        challenge=params.code_challenge,
        challenge_method=params.code_challenge_method,
        strict=strict,
    )
