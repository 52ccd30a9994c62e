"""Grants: what a request for a token is worth, decided in one place.

    client -> grant known -> grant switch -> parameters -> scope -> the grant itself

All that came from one code, log-in or custom grant is a family: it refers to one first moment, and ends as a whole.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from hmac import compare_digest

from msgspec import Struct

from ostiary.core.oauth.applications import (
    SECOND,
    Application,
    Client,
    Proof,
    authenticate,
    check_switch,
    granted_scopes,
    switched_on,
)
from ostiary.core.oauth.scopes import Scope, lifetime, split_scopes
from ostiary.core.refusal import Invalid, Mistake

NEEDS: Mapping[str, tuple[str, ...]] = {
    "authorization_code": ("code",),
    "refresh_token": ("refresh_token",),
    "password": ("username", "password"),
}
"""What a grant's request must bring."""
FROM_KEPT = ("authorization_code", "refresh_token")
"""Grants that rest on something that was handed out before."""
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)


class Handed(Struct, frozen=True):
    """A refresh token that may be handed out: its digest, and its text sealed for the holder of the access token."""

    digest: bytes
    sealed: bytes


class Held(Struct, frozen=True):
    """A code or a refresh token that was handed out, as the store has it."""

    number: int
    digest: bytes
    kind: str
    """`code` or `refresh`."""
    application: int
    user: str
    scopes: tuple[str, ...]
    grant: str
    """How its family began."""
    details: dict[str, str]
    family: bytes
    began: int
    """When its family was first issued; Unix microseconds."""
    expires: int
    spent: bool
    """Used (a code), or replaced (a refresh token)."""
    revoked: bool
    redirect_uri: str = ""
    redirect_given: bool = False
    """The request for the code named its redirect_uri; else the registered one holds."""
    challenge: str = ""


class TokenRequest(Struct, frozen=True):
    """A request for a token, with everything that the decision takes."""

    client_id: str
    digest: bytes
    """SHA-256 of the access token to be issued."""
    now: int
    """Unix time in microseconds."""
    default_grants: tuple[str, ...]
    scope: str | None = None
    proof: Proof | None = None
    """None: somebody who may issue tokens vouches for the client."""
    grant: str = "client_credentials"
    known: frozenset[str] = frozenset({"client_credentials"})
    """Grants that there are."""
    given: frozenset[str] = frozenset()
    """Names of the parameters that were given and not empty."""
    presented: bytes = b""
    """SHA-256 of the code or refresh token."""
    redirect_uri: str = ""
    verifier: str = ""
    strict: bool = False
    """By the rules of RFC 9700: refresh tokens rotate, narrowing binds the access token only."""
    user: str = ""
    """Of the password and custom grants, as its authenticator says."""
    details: dict[str, str] = {}
    family: bytes = b""
    """Name of the family that may begin."""
    fresh: Handed | None = None
    """A new refresh token, if one is due."""
    again: Handed | None = None
    """The presented refresh token, if it stays."""
    refresh_absolute: int = 30 * 86_400
    """Seconds."""


class Refreshing(Struct, frozen=True):
    """The refresh token that goes with a new access token."""

    handed: Handed
    scopes: tuple[str, ...]
    expires_in: int
    """Seconds."""
    began: int


class Grant(Struct, frozen=True):
    """What a granted request becomes: the token's client, scopes and life, and what was used up for it."""

    client: Client
    scopes: tuple[str, ...]
    issued: int
    expires_in: int
    details: dict[str, str]
    grant: str = "client_credentials"
    """How its family began."""
    user: str = ""
    family: bytes = b""
    """Empty: a token of client_credentials stands alone."""
    refresh: Refreshing | None = None
    used: Held | None = None


class Reused(Invalid):
    """A spent code or refresh token was shown again: its whole family has to end."""

    def __init__(self, held: Held) -> None:
        super().__init__(*_REFUSED[held.kind])
        self.held = held


_REFUSED = {
    "code": ("code.invalid", "The code is not valid"),
    "refresh": ("refresh.invalid", "The refresh token is not valid"),
}


def decide(
    client: Client | None, scopes: Mapping[str, Scope], request: TokenRequest, held: Held | None = None
) -> Grant:
    """Grant a request, or refuse it. `held` is what `request.presented` names; the store has read it.

    Refuses `client.invalid`, `grant.missing`, `grant.unsupported`, `grant.unauthorized`, `parameter.missing`,
    `scope.not_valid`, `code.invalid`, `code.foreign`, `refresh.invalid`; Unproven; Reused.
    """
    client = authenticate(client, request.proof)
    check_grant(client.application, request)
    return _GRANTS.get(request.grant, _by_user)(client, scopes, request, held)


def check_grant(application: Application, request: TokenRequest) -> None:
    """Refuse a grant that is not there, switched off, or lacks its parameters."""
    if not request.grant:
        raise Invalid("grant.missing", "The grant type is missing", (Mistake("grant_type", "is missing"),))
    if request.grant not in request.known:
        raise Invalid("grant.unsupported", "The grant type is not supported")
    check_switch(application, request.grant, request.default_grants)
    for name in NEEDS.get(request.grant, ()):
        if name not in request.given:
            raise Invalid("parameter.missing", f"The parameter {name} is missing", (Mistake(name, "is missing"),))


def _by_client(client: Client, scopes: Mapping[str, Scope], request: TokenRequest, held: Held | None) -> Grant:
    names = granted_scopes(client.application, request.scope)
    return Grant(client, names, request.now, lifetime(names, scopes), client.application.details)


def _by_user(client: Client, scopes: Mapping[str, Scope], request: TokenRequest, held: Held | None) -> Grant:
    """Password and custom grants: the user was authenticated, or will be."""
    names = granted_scopes(client.application, request.scope)
    refresh = _first(client, scopes, request, names)
    return Grant(
        client, names, request.now, lifetime(names, scopes, "pass_expires_in"), request.details, request.grant,
        request.user, request.family, refresh,
    )  # fmt: skip


def _by_code(client: Client, scopes: Mapping[str, Scope], request: TokenRequest, held: Held | None) -> Grant:
    """Refuse `code.invalid`, `code.foreign` (another client's); Reused."""
    if held is None or held.kind != "code" or held.revoked:
        raise Invalid(*_REFUSED["code"])
    if held.spent:
        raise Reused(held)
    if held.expires < request.now or not _redirect_fits(held, request) or not proves(held.challenge, request.verifier):
        raise Invalid(*_REFUSED["code"])
    if held.application != client.number:
        raise Invalid("code.foreign", "The code is another client's")
    names = still_held(client.application, held.scopes)
    refresh = _first(client, scopes, request, names)
    return Grant(
        client, names, request.now, lifetime(names, scopes, "pass_expires_in"), held.details, held.grant, held.user,
        held.family, refresh, held,
    )  # fmt: skip


def _redirect_fits(held: Held, request: TokenRequest) -> bool:
    """Whether the redirect_uri is the code's; one that was never named need not be named now either."""
    if "redirect_uri" not in request.given and not held.redirect_given:
        return True
    return request.redirect_uri == held.redirect_uri


def proves(challenge: str, verifier: str) -> bool:
    """Whether `verifier` is that of an S256 challenge (RFC 7636 section 4.6). Without a challenge none may come."""
    if not challenge or not verifier:
        return challenge == verifier
    if not _VERIFIER.fullmatch(verifier):
        return False
    computed = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=")
    return compare_digest(computed, challenge.encode())


def _by_refresh(client: Client, scopes: Mapping[str, Scope], request: TokenRequest, held: Held | None) -> Grant:
    """Refuse `refresh.invalid`, `scope.not_valid`; Reused."""
    if held is None or held.kind != "refresh" or held.revoked:
        raise Invalid(*_REFUSED["refresh"])
    if held.spent:
        raise Reused(held)
    if held.expires < request.now or held.application != client.number:
        raise Invalid(*_REFUSED["refresh"])
    asked = narrowed(held.scopes, request.scope)
    names = still_held(client.application, asked)
    rotates = request.strict or bool(client.application.rotate_refresh_tokens)
    handed = request.fresh if rotates else request.again
    kept = held.scopes if request.strict else asked
    refresh = _refreshing(scopes, request, handed, kept, held.began)
    return Grant(
        client, names, request.now, lifetime(names, scopes, "pass_expires_in"), held.details, held.grant, held.user,
        held.family, refresh, held,
    )  # fmt: skip


def narrowed(held: tuple[str, ...], asked: str | None) -> tuple[str, ...]:
    """The scopes of a refresh: as before, or those asked for among them. Refuses `scope.not_valid`."""
    if asked is None:
        return held
    names = split_scopes(asked)
    if not set(names) <= set(held):
        raise Invalid("scope.not_valid", "The scope is not within the token's")
    return names


def still_held(application: Application, names: Sequence[str]) -> tuple[str, ...]:
    """What the application has not lost meanwhile. Refuses `scope.not_valid` where nothing is left."""
    left = tuple(name for name in names if name in application.scopes)
    if not left:
        raise Invalid("scope.not_valid", "The client application has lost all of these scopes")
    return left


def _first(
    client: Client, scopes: Mapping[str, Scope], request: TokenRequest, names: tuple[str, ...]
) -> Refreshing | None:
    """The first refresh token of a family, if the application may refresh."""
    if "refresh_token" not in switched_on(client.application, request.default_grants):
        return None
    return _refreshing(scopes, request, request.fresh, names, request.now)


def _refreshing(
    scopes: Mapping[str, Scope],
    request: TokenRequest,
    handed: Handed | None,
    names: tuple[str, ...],
    began: int,
) -> Refreshing | None:
    if handed is None:
        return None
    left = (began - request.now) // SECOND + request.refresh_absolute
    life = lifetime(names, scopes, "refresh_expires_in")
    return Refreshing(handed, names, max(0, min(life, left)), began)


_GRANTS: dict[str, Callable[[Client, Mapping[str, Scope], TokenRequest, Held | None], Grant]] = {
    "client_credentials": _by_client,
    "authorization_code": _by_code,
    "refresh_token": _by_refresh,
}
