"""OAuth 2.0, decided: scopes, client applications and what a token request is worth. Values and rules, nothing kept."""

import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from ostiary.core.digest import equal
from ostiary.core.limit import Limit
from ostiary.core.refusal import Forbidden, Invalid, Mistake, Refusal, Unauthenticated

SECOND = 1_000_000
BUILT_IN_GRANTS = ("authorization_code", "client_credentials", "refresh_token", "password")
GRANTS_SERVED = frozenset({"client_credentials"})
GONE = (1800, 900, 900)
"""The lifetimes (client_credentials, others, refresh; seconds) that a scope counts for once it is gone."""
SCOPE_NAME_LENGTH = 128
MOST_TEXT = 4096
"""Characters of a name, a description or a detail."""
MAX_SECONDS = 2**31 - 1

# Letters and digits in runs joined by `-`, `_` or `-_`, one of which may end the name. Each run is followed by a
# character that cannot belong to it, so the expression never tries a second way.
_SCOPE_NAME = re.compile(r"[A-Za-z0-9]+(?:(?:-_?|_)[A-Za-z0-9]+)*(?:-_?|_)?", re.ASCII)
_HEX = re.compile(r"[a-f0-9]{1,128}", re.ASCII)
_PRIVATE_USE = re.compile(r"[a-z][a-z0-9+-]*(?:\.[a-z0-9+-]+)+", re.ASCII | re.IGNORECASE)
_URI = re.compile(r"[!-~]{1,2048}", re.ASCII)

AuthMethod = Literal["", "client_secret_basic", "client_secret_post", "none"]

PUBLIC = frozenset({"none"})
"""Authentication methods of applications that cannot keep a secret."""


class RateLimit(Struct, frozen=True):
    """A client application's own limit: `requests` in `per_seconds`."""

    requests: int
    per_seconds: int

    @property
    def limit(self) -> Limit:
        """As it is counted."""
        return Limit(self.requests, self.per_seconds * SECOND)


class Rules(Struct, frozen=True):
    """What the settings say on tokens and log-ins."""

    default_grants: tuple[str, ...] = ("authorization_code", "client_credentials", "refresh_token")
    """Of applications that were registered without any."""
    custom_grants: frozenset[str] = frozenset()
    default_limit: Limit | None = None
    """Of each client application without its own."""
    min_password: int = 8


class Scope(Struct, frozen=True):
    """What an application may be allowed, and how long tokens with it live, in seconds."""

    scope: str
    description: str
    cc_expires_in: int
    """Access tokens of client_credentials."""
    pass_expires_in: int
    """Access tokens of every other grant."""
    refresh_expires_in: int


class Application(Struct, frozen=True):
    """A registered OAuth client, without its secret."""

    client_id: str
    name: str
    scopes: tuple[str, ...]
    """In the order in which they were given."""
    redirect_uri: str
    registered: int
    """Unix time in microseconds."""
    description: str = ""
    active: bool = False
    details: dict[str, str] = {}
    grant_types: tuple[str, ...] | None = None
    """What the application may do; None: what the settings say for those that were not told."""
    rotate_refresh_tokens: bool | None = None
    rate_limit: RateLimit | None = None
    token_endpoint_auth_method: AuthMethod = ""

    @property
    def public(self) -> bool:
        """Whether it cannot keep a secret, and so has none."""
        return self.token_endpoint_auth_method in PUBLIC


class Secret(Struct, frozen=True):
    """How a secret is kept: SHA-256 (hex) of a machine-made one, argon2id of a predefined one, or not at all."""

    kind: Literal["sha256", "argon2", "none"]
    kept: str = ""


class Client(Struct, frozen=True):
    """An application as its own requests meet it: with what is kept of its secret and its number in the store."""

    number: int
    application: Application
    secret: Secret


class TokenRequest(Struct, frozen=True):
    """A request for a token by client_credentials, with everything that the decision takes."""

    client_id: str
    digest: bytes
    """SHA-256 of the token to be issued."""
    now: int
    """Unix time in microseconds."""
    default_grants: tuple[str, ...]
    scope: str | None = None
    proof: str | None = ""
    """SHA-256 (hex) of the secret as presented; None: an operator who may issue tokens vouches."""
    verified: str = ""
    """The argon2id text against which the presented secret was verified already, if one was."""


class Grant(Struct, frozen=True):
    """What a granted request becomes: the token's client, scopes and life."""

    client: Client
    scopes: tuple[str, ...]
    issued: int
    expires_in: int
    details: dict[str, str]


class Unproven(Refusal):
    """The secret is kept as argon2id (`kept`) and must be verified against it before the request is decided."""

    def __init__(self, kept: str) -> None:
        super().__init__("client.unproven", "The client's secret has not been verified yet")
        self.kept = kept


def text_ok(text: str, most: int) -> bool:
    """Whether `text` can be kept: at most `most` characters, no NUL and no lone surrogate."""
    return len(text) <= most and "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


def scope_name_ok(name: str) -> bool:
    """Whether `name` may be a scope's (apifest.md B1); the length is looked at first."""
    return len(name) <= SCOPE_NAME_LENGTH and _SCOPE_NAME.fullmatch(name) is not None


def hex_ok(text: str) -> bool:
    """Whether `text` may be a predefined client id or secret: 1 to 128 lower-case hex digits."""
    return _HEX.fullmatch(text) is not None


def redirect_uri_ok(uri: str, method: AuthMethod = "") -> bool:
    """Whether `uri` may be registered: absolute, http(s) with a host, no fragment.

    An application that cannot keep a secret (`none`) may use a private-use scheme with a dot (RFC 8252 section 7.1).
    """
    if not _URI.fullmatch(uri) or "#" in uri:
        return False
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme in ("http", "https"):
        return bool(parts.hostname) and "\\" not in uri
    return method == "none" and _PRIVATE_USE.fullmatch(parts.scheme) is not None


def check_scope(scope: Scope) -> None:
    """Refuse `scope.incomplete` (a name of 2 characters or more and lifetimes above 0), `scope.text`, `scope.name`."""
    lifetimes = (scope.cc_expires_in, scope.pass_expires_in, scope.refresh_expires_in)
    if len(scope.scope) < 2 or not all(0 < each <= MAX_SECONDS for each in lifetimes):
        raise Invalid("scope.incomplete", "A scope has a name of two characters or more and lifetimes above zero")
    check_texts("scope", {"description": scope.description})
    if not scope_name_ok(scope.scope):
        raise Invalid("scope.name", "A scope name holds letters and digits, joined by - or _")


def check_application(application: Application, rules: Rules) -> None:
    """Refuse `application.incomplete`, or `application.field` with the names of the fields that are not valid."""
    redirect = redirect_uri_ok(application.redirect_uri, application.token_endpoint_auth_method)
    if not application.name or application.scopes in ((), ("",)) or not redirect:
        raise Invalid("application.incomplete", "The name, a scope or a valid redirect_uri is missing")
    check_texts("application", {"name": application.name, "description": application.description})
    check_fields(application.details, application.grant_types, application.rate_limit, rules)


def check_fields(
    details: Mapping[str, str] | None, grants: tuple[str, ...] | None, limit: RateLimit | None, rules: Rules
) -> None:
    """Refuse `application.field` for details, grant types or a rate limit that cannot be."""
    known = set(BUILT_IN_GRANTS) | rules.custom_grants
    wrong = {
        "application_details": not all(text_ok(each, MOST_TEXT) for pair in (details or {}).items() for each in pair),
        "grant_types": not set(grants or ()) <= known,
        "rate_limit": limit is not None and not limit_ok(limit),
    }
    if any(wrong.values()):
        raise _field("application", [name for name, is_wrong in wrong.items() if is_wrong])


def check_texts(subject: str, texts: Mapping[str, str]) -> None:
    """Refuse `SUBJECT.field` for texts that cannot be kept."""
    wrong = [name for name, text in texts.items() if not text_ok(text, MOST_TEXT)]
    if wrong:
        raise _field(subject, wrong)


def limit_ok(limit: RateLimit) -> bool:
    """Whether both numbers are above 0 and fit 32 bits."""
    return 0 < limit.requests <= MAX_SECONDS and 0 < limit.per_seconds <= MAX_SECONDS


def _field(subject: str, names: list[str]) -> Invalid:
    mistakes = tuple(Mistake(name, "is not valid") for name in names)
    return Invalid(f"{subject}.field", f"{names[0]} is not valid", mistakes)


def split_scopes(text: str) -> tuple[str, ...]:
    """Names separated by exactly one space; a further space makes an empty name. Duplicates are dropped."""
    return tuple(dict.fromkeys(text.split(" ")))


def granted_scopes(application: Application, asked: str | None) -> tuple[str, ...]:
    """The scopes that a request gets: all of the application's when none is asked for. Refuses `scope.not_valid`."""
    if not asked:
        return application.scopes
    names = split_scopes(asked)
    if not set(names) <= set(application.scopes):
        raise Invalid("scope.not_valid", "The scope is not one of the client application's")
    return names


def lifetime(names: tuple[str, ...], scopes: Mapping[str, Scope]) -> int:
    """Seconds that an access token of client_credentials lives: the least of its scopes."""
    return min(scopes[name].cc_expires_in if name in scopes else GONE[0] for name in names)


def authenticate(client: Client | None, request: TokenRequest) -> Client:
    """The client that made the request. Refuses `client.invalid`; Unproven where argon2id has to be asked first."""
    if client is None or not client.application.active:
        raise Unauthenticated("client.invalid", "Unknown client, or its secret is wrong")
    if request.proof is None:
        return client
    if client.secret.kind == "argon2" and request.verified != client.secret.kept:
        raise Unproven(client.secret.kept)
    if client.secret.kind == "sha256" and not equal(request.proof, client.secret.kept):
        raise Unauthenticated("client.invalid", "Unknown client, or its secret is wrong")
    if client.secret.kind == "none":
        raise Forbidden("grant.unauthorized", "The client application may not use this grant")
    return client


def decide(client: Client | None, scopes: Mapping[str, Scope], request: TokenRequest) -> Grant:
    """Grant a client_credentials request, or refuse it, in the order of apifest.md B4."""
    client = authenticate(client, request)
    application = client.application
    grants = request.default_grants if application.grant_types is None else application.grant_types
    if "client_credentials" not in grants:
        raise Forbidden("grant.unauthorized", "The client application may not use this grant")
    names = granted_scopes(application, request.scope)
    return Grant(client, names, request.now, lifetime(names, scopes), application.details)
