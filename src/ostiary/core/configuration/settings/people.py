"""Settings of people: their log-ins, their tokens, who may make an account, and the first one."""

from typing import Annotated, Literal

from msgspec import Meta

from ostiary.core.configuration.measure import Duration, Secret, Timeout
from ostiary.core.configuration.settings.section import DAY, HOUR, MINUTE, Name, Positive, Section, about


class KeySettings(Section, frozen=True):
    """A key that signs session tokens."""

    kid: Annotated[Name, about("its name, in every token that it signs", "2026-11")]
    alg: Annotated[Literal["EdDSA", "ES256", "HS256"], about("how it signs; for ever the same", "EdDSA")]
    secret: Annotated[Secret, about("PEM of a private key; for HS256 32 bytes of text or more", "{file: session.pem}")]


class SessionSettings(Section, frozen=True):
    """Log-ins of people over the Doorman surface: session tokens."""

    ttl: Annotated[Timeout, about("life of a session token, at most 24h", "30m")] = Timeout(30 * MINUTE)
    max_age: Annotated[Timeout, about("refreshing ends so long after the log-in", "12h")] = Timeout(12 * HOUR)
    end_on_password_change: Annotated[
        bool, about("a new password ends what its user holds, but for the credential that asks", "true")
    ] = True
    cookie_secure: Annotated[
        Literal["auto", "always"], about("mark cookies Secure: where the client's side is https, or always", "auto")
    ] = "auto"
    keys: Annotated[
        list[KeySettings], about("the first signs, all verify; absent: Ostiary makes and keeps an Ed25519 key")
    ] = []


class LoginSettings(Section, frozen=True):
    """Protection of log-ins, on all surfaces together."""

    limit: Annotated[Positive, about("requests to log in from one address in 300 s", "600")] = 600
    account_failures: Annotated[Positive, about("failures in a row after which an account's log-ins wait", "5")] = 5
    address_failures: Annotated[Positive, about("failures of one address in 10 minutes that bar it", "100")] = 100
    penalty_waits: Annotated[
        list[Duration],
        about(
            "how long an address waits before it may try again, by its penalty from 0 to 4", "[0s, 4s, 8s, 15s, 15s]"
        ),
    ] = []
    second_factor: Annotated[bool, about("users with a TOTP secret cannot log in by password alone", "false")] = False


class TotpSettings(Section, frozen=True):
    """Log-ins by code (RFC 6238)."""

    window: Annotated[
        Annotated[int, Meta(ge=0, le=10)], about("steps of 30 s before and after the present one that count", "1")
    ] = 1
    issuer: Annotated[str, about("what authenticator applications show", "Ostiary")] = "Ostiary"
    single_use: Annotated[bool, about("a code is taken once, and none of an earlier step after it", "true")] = True


class TokenSettings(Section, frozen=True):
    """Tokens of people."""

    access_lifetime: Annotated[Timeout, about("of a log-in by code: its access token", "2h")] = Timeout(2 * HOUR)
    refresh_lifetime: Annotated[Timeout, about("of a log-in by code: its refresh token", "30d")] = Timeout(30 * DAY)
    refresh_grace: Annotated[
        Duration, about("so long a refresh token that is used twice only fails; then it ends what came of it", "0s")
    ] = Duration(0)
    personal_idle: Annotated[Timeout, about("a personal token ends so long after its last use", "365d")] = Timeout(
        365 * DAY
    )


class RegistrationSettings(Section, frozen=True):
    """Who may make an account of their own."""

    mode: Annotated[
        Literal["enabled", "disabled", "admin_only"], about("anybody, nobody, or administrators for others", "enabled")
    ] = "enabled"
    role: Annotated[str, about("role of those who register", "member")] = "member"


class PasswordSettings(Section, frozen=True):
    """What passwords must be."""

    min_length: Annotated[Annotated[int, Meta(ge=1, le=1024)], about("least number of characters", "8")] = 8


class OwnerSettings(Section, frozen=True):
    """The first account."""

    name: Annotated[str, about("user name", "admin", restart=True)]
    password: Annotated[Secret, about("password", "{env: OSTIARY_OWNER_PASSWORD}", restart=True)]
    email: Annotated[str, about("address, an alternative to the name at log-in", "admin@example.org", restart=True)] = (
        ""
    )
    totp_secret: Annotated[
        Secret | None,
        about("base32 text of the secret of its codes", "{env: OSTIARY_OWNER_TOTP}", restart=True),
    ] = None


class BootstrapSettings(Section, frozen=True):
    """Read only while the store has no user: for unattended installations and tests."""

    owner: Annotated[
        OwnerSettings | None, about("absent: made with a one-time password, printed once", restart=True)
    ] = None
