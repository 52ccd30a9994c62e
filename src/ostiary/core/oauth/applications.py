"""Client applications: what may be registered, and how one shows that it is itself."""

import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from ostiary.core.apps import AppRules
from ostiary.core.digest import equal
from ostiary.core.director import DirectorRules
from ostiary.core.droplets import DropletRules
from ostiary.core.limit import Limit
from ostiary.core.oauth.scopes import MAX_SECONDS, MOST_TEXT, check_texts, field_refusal, split_scopes, text_ok
from ostiary.core.people import PeopleRules
from ostiary.core.refusal import Forbidden, Invalid, Refusal, Unauthenticated

SECOND = 1_000_000
BUILT_IN_GRANTS = ("authorization_code", "client_credentials", "refresh_token", "password")

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
    custom_grants: Mapping[str, str] = {}
    """Further grant types, and the plug-in of each."""
    default_limit: Limit | None = None
    """Of each client application without its own."""
    authenticator: str = "ostiary"
    """Who checks names and passwords of the password grant: Ostiary, or a plug-in."""
    code_lifetime: int = 60
    """Seconds."""
    refresh_absolute: int = 30 * 86_400
    """Seconds after the first issue beyond which nothing is refreshed."""
    any_redirect: bool = False
    """Codes may go to any well-formed URL, not only to the registered one: an open redirector."""
    login_lifetime: int = 12 * 3600
    """Seconds that the authorization page knows a browser's user."""
    signing_alg: str = "ES256"
    """Of the keys that sign tokens."""
    reveal_secrets: bool = False
    """New client secrets are kept, encrypted, and shown to operators who may see them."""
    people: PeopleRules = PeopleRules()
    directors: Mapping[str, DirectorRules] = {}
    """Upstreams with `balance: director`, by name."""
    droplets: DropletRules = DropletRules()
    apps: AppRules = AppRules()
    node: tuple[str, int] = ("127.0.0.1", 9090)
    """Address and port by which other nodes know this one."""
    kick_grace: int = 5_000_000
    """Microseconds that exchanges in flight may go on when their session is ended or their user moved."""
    services: Mapping[str, tuple[str, ...]] = {}
    """Further names of services, and what each stands for."""
    connections: int = 20_000
    """Of clients, that one worker takes."""


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
    client_secret: str = ""
    """Only where the settings keep it readable, and for those who may see it."""

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


class Unproven(Refusal):
    """The secret is kept as argon2id (`kept`) and must be verified against it before the request is decided."""

    def __init__(self, kept: str) -> None:
        super().__init__("client.unproven", "The client's secret has not been verified yet")
        self.kept = kept


def hex_ok(text: str) -> bool:
    """Whether `text` may be a predefined client id or secret: 1 to 128 lower-case hex digits."""
    return _HEX.fullmatch(text) is not None


def redirect_uri_ok(uri: str, method: str = "") -> bool:
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


def check_application(application: Application, rules: Rules) -> None:
    """Refuse `application.incomplete`, or `application.field` with the names of the fields that are not valid."""
    redirect = redirect_uri_ok(application.redirect_uri, application.token_endpoint_auth_method)
    if not application.name or not application.scopes or not redirect:
        raise Invalid("application.incomplete", "The name, a scope or a valid redirect_uri is missing")
    check_texts("application", {"name": application.name, "description": application.description})
    check_fields(application.details, application.grant_types, application.rate_limit, rules)


def check_fields(
    details: Mapping[str, str] | None, grants: tuple[str, ...] | None, limit: RateLimit | None, rules: Rules
) -> None:
    """Refuse `application.field` for details, grant types or a rate limit that cannot be."""
    known = {*BUILT_IN_GRANTS, *rules.custom_grants}
    wrong = {
        "application_details": not all(text_ok(each, MOST_TEXT) for pair in (details or {}).items() for each in pair),
        "grant_types": not set(grants or ()) <= known,
        "rate_limit": limit is not None and not limit_ok(limit),
    }
    if any(wrong.values()):
        raise field_refusal("application", [name for name, is_wrong in wrong.items() if is_wrong])


def limit_ok(limit: RateLimit) -> bool:
    """Whether both numbers are above 0 and fit 32 bits."""
    return 0 < limit.requests <= MAX_SECONDS and 0 < limit.per_seconds <= MAX_SECONDS


def granted_scopes(application: Application, asked: str | None) -> tuple[str, ...]:
    """The scopes that a request gets: all of the application's when none is asked for. Refuses `scope.not_valid`."""
    if not asked:
        return application.scopes
    names = split_scopes(asked)
    if not set(names) <= set(application.scopes):
        raise Invalid("scope.not_valid", "The scope is not one of the client application's")
    return names


class Proof(Struct, frozen=True):
    """What a client shows of itself."""

    digest: str = ""
    """SHA-256 (hex) of the secret as presented; empty: none was."""
    verified: str = ""
    """The argon2id text against which the presented secret was verified already, if one was."""


def authenticate(client: Client | None, proof: Proof | None) -> Client:
    """The client, if it is active and itself. Without a proof somebody else vouches for it.

    Refuses `client.invalid`; Unproven where argon2id has to be asked first.
    """
    if client is None or not client.application.active:
        raise _stranger()
    if proof is None:
        return client
    kept = client.secret
    if bool(proof.digest) == (kept.kind == "none"):
        raise _stranger()
    if kept.kind == "argon2" and proof.verified != kept.kept:
        raise Unproven(kept.kept)
    if kept.kind == "sha256" and not equal(proof.digest, kept.kept):
        raise _stranger()
    return client


def _stranger() -> Unauthenticated:
    return Unauthenticated("client.invalid", "Unknown client, or its secret is wrong")


def check_switch(application: Application, grant: str, default: tuple[str, ...]) -> None:
    """Refuse `grant.unauthorized` for what the application may not do. Without a secret it gets none for itself."""
    alone = application.public and grant == "client_credentials"
    if alone or grant not in switched_on(application, default):
        raise Forbidden("grant.unauthorized", "The client application may not use this grant")


def switched_on(application: Application, default: tuple[str, ...]) -> tuple[str, ...]:
    """The grants that the application may use."""
    return default if application.grant_types is None else application.grant_types
