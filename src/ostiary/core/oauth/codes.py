"""Authorization codes: who gets one, bound to what."""

import re
from urllib.parse import quote

from msgspec import Struct

from ostiary.core.oauth.applications import Client, authenticate, check_switch, granted_scopes, redirect_uri_ok
from ostiary.core.oauth.scopes import text_ok
from ostiary.core.refusal import Forbidden, Invalid

MOST_SUBJECT = 255
"""Characters of a user id."""
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class CodeRequest(Struct, frozen=True):
    """A request for a code, by somebody who vouches for the user."""

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


class Code(Struct, frozen=True):
    """What a granted request becomes."""

    client: Client
    scopes: tuple[str, ...]
    redirect_uri: str


def decide_code(client: Client | None, request: CodeRequest, *, disabled: bool) -> Code:
    """Give a code or refuse it, in the order of apifest.md B3; `disabled`: the user is one who may not come in.

    Refuses `client.invalid`, `response_type.unsupported`, `redirect_uri.invalid`, `grant.unauthorized`,
    `scope.not_valid`, `challenge.invalid`, `user.invalid`, `user.disabled`.
    """
    client = authenticate(client, None)
    application = client.application
    if request.response_type != "code":
        raise Invalid("response_type.unsupported", "The response type is not supported")
    redirect = _redirect(client, request)
    check_switch(application, "authorization_code", request.default_grants)
    names = granted_scopes(application, request.scope)
    if not _challenged(client, request):
        raise Invalid("challenge.invalid", "A code_challenge has 43 characters and the method S256")
    if not subject_ok(request.user):
        raise Invalid("user.invalid", "The user id is not valid")
    if disabled:
        raise Forbidden("user.disabled", "The user is disabled")
    return Code(client, names, redirect)


def _redirect(client: Client, request: CodeRequest) -> str:
    registered = client.application.redirect_uri
    asked = registered if request.redirect_uri is None else request.redirect_uri
    method = client.application.token_endpoint_auth_method
    if asked != registered and not (request.any_redirect and redirect_uri_ok(asked, method)):
        raise Invalid("redirect_uri.invalid", "The redirect_uri is not the registered one")
    return asked


def _challenged(client: Client, request: CodeRequest) -> bool:
    """Whether the challenge is as it must be: S256, and there if the application cannot keep a secret."""
    if request.challenge is None:
        return request.challenge_method is None and not client.application.public
    return request.challenge_method == "S256" and _CHALLENGE.fullmatch(request.challenge) is not None


def subject_ok(user: str) -> bool:
    """Whether `user` may be a token's: empty for none, at most 255 characters, no control characters."""
    return text_ok(user, MOST_SUBJECT) and not any(each < " " or "\x7f" <= each <= "\x9f" for each in user)


def location(redirect_uri: str, **values: str | None) -> str:
    """The URI as it stands with further parameters in its query; those that are None are left out."""
    pairs = "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items() if value is not None)
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{pairs}"
