"""People: what accounts and their credentials are, and what names, addresses and passwords may be."""

import re
from enum import Enum

from msgspec import Struct

from ostiary.core.common_passwords import common
from ostiary.core.refusal import Invalid
from ostiary.core.snapshot import SECOND

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}", re.ASCII)
RESERVED_NAME = "doveadm"
"""What a service key is called; no user can have it, in whatever letter case (doveadm.md 1.2)."""
_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+")
_SECRET = re.compile(r"[A-Z2-7]{16,128}", re.ASCII)
_ROLE = re.compile(r"[A-Za-z0-9_.-]{1,50}", re.ASCII)
MOST_EMAIL = 254
MOST_PASSWORD = 1024
KNOWN_FOR = 30 * 86_400 * SECOND
"""How long an address counts as its user's own after a log-in from there."""


class OwnKey(Struct, frozen=True):
    """A key for session tokens out of the configuration."""

    kid: str
    alg: str
    """`EdDSA`, `ES256` or `HS256`."""
    secret: str
    """PEM of a private key, or the text of a shared one."""

    def __repr__(self) -> str:
        """Without the secret."""
        return f"OwnKey({self.kid!r}, {self.alg!r})"


class PeopleRules(Struct, frozen=True):
    """What the settings say on people. Times in microseconds."""

    min_password: int = 8
    session_ttl: int = 1800 * SECOND
    session_keys: tuple[OwnKey, ...] = ()
    """The first signs, all verify; none: a key of Ostiary's own."""
    session_max_age: int = 12 * 3600 * SECOND
    """Refreshing a session token ends so long after the log-in."""
    access_lifetime: int = 2 * 3600 * SECOND
    refresh_lifetime: int = 30 * 86_400 * SECOND
    refresh_grace: int = 0
    """So long a refresh token that was used once more only fails."""
    personal_idle: int = 365 * 86_400 * SECOND
    single_session: bool = False
    """Whether a log-in by code ends the other credentials that such log-ins gave."""
    totp_window: int = 1
    """Steps before and after the present one of which a code is taken."""
    totp_issuer: str = "Ostiary"
    totp_single_use: bool = True
    """Whether a code is taken once, and none of an earlier step after it."""
    second_factor: bool = False
    """Whether a password alone does not do for users with a TOTP secret."""
    password_ends: bool = True
    """Whether a new password ends what its user holds."""
    account_failures: int = 5
    address_failures: int = 100
    penalty_waits: tuple[int, ...] = ()
    """How long an address waits by its penalty (0 to 4), in microseconds; empty: never."""
    trusted_networks: tuple[str, ...] = ()
    """Addresses that are never barred."""
    login_limit: int = 600
    registration_mode: str = "enabled"
    registration_role: str = "member"


class User(Struct, frozen=True):
    """A person's account, without its secrets."""

    number: int
    name: str
    role: str
    email: str = ""
    active: bool = True
    """Not disabled."""
    created: int = 0
    """Unix time in microseconds."""
    groups: tuple[str, ...] = ()
    """Labels, without effect."""
    attributes: dict[str, str | int | float | bool | None] = {}
    ui_access: bool = False
    first_name: str = ""
    last_name: str = ""
    last_login: int = 0
    """Unix time in microseconds, 0: never."""
    cut_off: int | None = None
    """Number of the change before which all credentials are refused."""
    has_password: bool = True
    has_totp: bool = False


class Role(Struct, frozen=True):
    """A named set of permissions."""

    name: str
    permissions: frozenset[str] = frozenset()
    description: str | None = None
    built_in: bool = False


class Kind(Enum):
    """What a credential of a person is."""

    SESSION = "session"
    """The session token of a log-in: a signed token, of which the store knows the `jti`."""
    PERSONAL = "personal"
    """A personal token: opaque, made by a log-in or by hand."""
    ACCESS = "access"
    """The access token of a log-in by code."""
    REFRESH = "refresh"
    """Its refresh token."""


class Credential(Struct, frozen=True):
    """A kept credential of a person; its text is not kept. Times are Unix microseconds, 0: never."""

    number: int
    digest: bytes
    kind: Kind
    label: str
    """What its owner calls it."""
    family: bytes
    """Names what came from the same log-in."""
    seq: int
    """The newest number of the change log when it was issued."""
    issued: int
    expires: int
    authenticated: int
    """The log-in that it goes back to."""
    used: int
    ended: bool
    spent: bool
    """A refresh token that was used."""


class State(Enum):
    """What a credential is worth now."""

    LIVE = "live"
    EXPIRED = "expired"
    ENDED = "ended"
    """Singly: invalidated, refreshed, re-issued."""
    CUT_OFF = "cut_off"
    INACTIVE = "inactive"
    """Its user is disabled."""


def state(credential: Credential, user: User, now: int, idle: int = 0) -> State:
    """What `credential` of `user` is worth at `now`; `idle` microseconds without use end a personal token (0: none)."""
    if credential.ended or credential.spent:
        return State.ENDED
    if not user.active:
        return State.INACTIVE
    if user.cut_off is not None and credential.seq < user.cut_off:
        return State.CUT_OFF
    ends = end(credential, idle)
    return State.EXPIRED if ends and ends <= now else State.LIVE


def end(credential: Credential, idle: int = 0) -> int:
    """When it ends by itself, 0: never; `idle` as for `state`."""
    unused = credential.used + idle if credential.kind is Kind.PERSONAL and idle else 0
    return min((each for each in (unused, credential.expires) if each), default=0)


def user_name_ok(name: str) -> bool:
    """Whether `name` may be a user's."""
    return _NAME.fullmatch(name) is not None and name.casefold() != RESERVED_NAME


def totp_secret_ok(secret: str) -> bool:
    """Whether `secret` is base32 text (RFC 4648 section 6) of 80 bits or more, as authenticator applications make."""
    return _SECRET.fullmatch(secret) is not None and len(secret) % 8 not in (1, 3, 6)


def role_name_ok(name: str) -> bool:
    """Whether `name` may be a role's."""
    return _ROLE.fullmatch(name) is not None and name != "all"


def email_ok(email: str) -> bool:
    """Whether `email` may be a user's address: one `@` with text on both sides, at most 254 characters."""
    return len(email) <= MOST_EMAIL and email.isprintable() and _EMAIL.fullmatch(email) is not None


def check_password(password: str, name: str, least: int) -> None:
    """Refuse what is no good password of the user `name`.

    Refuses Invalid `password.short` (under `least` characters), `password.long` (over 1,024), `password.common` (the
    name itself, or one of those that are tried first; NIST SP 800-63B section 5.1.1.2).
    """
    if len(password) < least:
        raise Invalid("password.short", f"The password must have at least {least} characters")
    if len(password) > MOST_PASSWORD:
        raise Invalid("password.long", f"The password must have at most {MOST_PASSWORD} characters")
    if password.casefold() == name.casefold() or common(password):
        raise Invalid("password.common", "The password is too common")
