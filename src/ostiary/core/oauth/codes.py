"""Authorization codes: who gets one, bound to what."""

import re
from collections.abc import Callable, Collection
from urllib.parse import quote

from msgspec import Struct

from ostiary.core.oauth.applications import (
    Application,
    Client,
    authenticate,
    check_switch,
    granted_scopes,
    redirect_uri_ok,
)
from ostiary.core.oauth.scopes import text_ok
from ostiary.core.refusal import Forbidden, Invalid

MOST_SUBJECT = 255
"""Characters of a user id."""
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_LOOPBACK = re.compile(r"(http://(?:127(?:\.[0-9]{1,3}){3}|\[::1\]))(?::([0-9]{1,5}))?((?:[/?][!-~]*)?)", re.ASCII)


class CodeRequest(Struct, frozen=True):
    """A request for a code, by somebody who vouches for the user, or (`strict`) by the user's own browser."""

    client_id: str
    digest: bytes
    """SHA-256 of the code to be issued."""
    family: bytes
    """Name of the family that begins."""
    now: int
    """Unix time in microseconds."""
    default_grants: tuple[str, ...]
    lifetime: int
    """Seconds."""
    response_type: str = "code"
    redirect_uri: str | None = None
    any_redirect: bool = False
    scope: str | None = None
    user: str = ""
    challenge: str | None = None
    challenge_method: str | None = None
    strict: bool = False
    """By the rules of RFC 9700: a challenge always, and only the registered redirect_uri."""
    details: dict[str, str] = {}
    """What its authenticator says of the user."""


class Code(Struct, frozen=True):
    """What a granted request becomes."""

    client: Client
    scopes: tuple[str, ...]
    redirect_uri: str


def decide_code(client: Client | None, request: CodeRequest, *, disabled: bool) -> Code:
    """Give a code or refuse it, in the order of apifest.md B3 or Part C; `disabled`: a user who may not come in.

    Refuses `client.invalid`, `response_type.unsupported`, `redirect_uri.invalid`, `grant.unauthorized`,
    `scope.not_valid`, `challenge.invalid`, `user.invalid`, `user.disabled`.
    """
    client = authenticate(client, None)
    for check in _BY_THE_STANDARDS if request.strict else _BY_APIFEST:
        check(client.application, request)
    if not subject_ok(request.user):
        raise Invalid("user.invalid", "The user id is not valid")
    if disabled:
        raise Forbidden("user.disabled", "The user is disabled")
    names = granted_scopes(client.application, request.scope)
    return Code(client, names, redirect_of(client.application, request))


def redirect_of(application: Application, request: CodeRequest) -> str:
    """Where the code goes. Refuses `redirect_uri.invalid` for what is not the registered URI.

    Of an application that keeps no secret the port of a loopback address may differ (RFC 8252 section 7.3).
    """
    registered = application.redirect_uri
    asked = registered if request.redirect_uri is None else request.redirect_uri
    if asked == registered:
        return asked
    if request.strict:
        fits = application.public and _another_port(asked, registered)
    else:
        fits = request.any_redirect and redirect_uri_ok(asked, application.token_endpoint_auth_method)
    if not fits:
        raise Invalid("redirect_uri.invalid", "The redirect_uri is not the registered one")
    return asked


def _another_port(asked: str, registered: str) -> bool:
    here, there = _LOOPBACK.fullmatch(asked), _LOOPBACK.fullmatch(registered)
    if here is None or there is None or not 0 < int(here[2] or 80) < 65_536:
        return False
    return here.group(1, 3) == there.group(1, 3)


def _check_redirect(application: Application, request: CodeRequest) -> None:
    redirect_of(application, request)


def _check_response_type(application: Application, request: CodeRequest) -> None:
    if request.response_type != "code":
        raise Invalid("response_type.unsupported", "The response type is not supported")


def _check_grant(application: Application, request: CodeRequest) -> None:
    check_switch(application, "authorization_code", request.default_grants)


def _check_scope(application: Application, request: CodeRequest) -> None:
    granted_scopes(application, request.scope)


def _check_challenge(application: Application, request: CodeRequest) -> None:
    """S256, and there if the application cannot keep a secret, or by the standards' rules."""
    if request.challenge is None:
        good = request.challenge_method is None and not application.public and not request.strict
    else:
        good = request.challenge_method == "S256" and _CHALLENGE.fullmatch(request.challenge) is not None
    if not good:
        raise Invalid("challenge.invalid", "A code_challenge has 43 characters and the method S256")


_Check = Callable[[Application, CodeRequest], None]
_BY_APIFEST: tuple[_Check, ...] = (
    _check_response_type, _check_redirect, _check_grant, _check_scope, _check_challenge,
)  # fmt: skip
_BY_THE_STANDARDS: tuple[_Check, ...] = (
    _check_redirect, _check_response_type, _check_challenge, _check_scope, _check_grant,
)  # fmt: skip


def consented(application: Application, scopes: Collection[str], allowed: Collection[str]) -> bool:
    """Whether what the user `allowed` before covers `scopes`, so that nobody is asked again.

    Who keeps no secret and has no https redirect_uri may be anybody on the user's machine: there the user is asked
    each time (RFC 8252 section 8.6).
    """
    known = not application.public or application.redirect_uri.startswith("https:")
    return known and set(scopes) <= set(allowed)


def subject_ok(user: str) -> bool:
    """Whether `user` may be a token's: empty for none, at most 255 characters, no control characters."""
    return text_ok(user, MOST_SUBJECT) and not any(each < " " or "\x7f" <= each <= "\x9f" for each in user)


def location(redirect_uri: str, **values: str | None) -> str:
    """The URI as it stands with further parameters in its query; those that are None are left out."""
    pairs = "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items() if value is not None)
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{pairs}"
