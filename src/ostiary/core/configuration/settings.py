"""The settings: every one declared once, with what it means, an example, and whether a reload can change it.

The keys (`log.level` is LOG_LEVEL), the environment variables, `config.current`, `config.reloadable_keys` and
docs/configuration.md are all read off these declarations.
"""

from collections.abc import Iterator
from functools import cache, reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

from msgspec import NODEFAULT, Meta, Struct, field
from msgspec.structs import FieldInfo, replace
from msgspec.structs import fields as declared_fields

from ostiary.core.configuration.measure import (
    Address,
    Backend,
    Duration,
    Host,
    Issuer,
    Network,
    Origin,
    Secret,
    Size,
    Timeout,
    Url,
    shown,
)
from ostiary.core.snapshot import SECOND

MINUTE = 60 * SECOND
HOUR = 3600 * SECOND
DAY = 86_400 * SECOND
KIB = 1 << 10
MIB = 1 << 20


def about(description: str, example: str = "", *, restart: bool = False) -> Meta:
    """What a setting means and how it may look; `restart`: a reload does not change it."""
    return Meta(description=description, examples=[example] if example else [], extra={"restart": restart})


Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Positive = Annotated[int, Meta(ge=1, le=1 << 40)]
Status = Annotated[int, Meta(ge=300, le=599)]
OwnStatus = Annotated[int, Meta(ge=400, le=599)]
Body = str | dict[str, Any] | list[Any]


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the settings; unknown names in it are mistakes."""


S = TypeVar("S", bound=Section)


class TlsSettings(Section, frozen=True):
    """TLS on the gateway's listener."""

    certificate: Annotated[str, about("PEM file: the certificate and its chain", "tls/gateway.pem")]
    key: Annotated[str, about("PEM file: its private key", "tls/gateway.key")]
    client_ca: Annotated[str, about("PEM file: clients must show a certificate of one of these authorities", "")] = ""
    minimum: Annotated[Literal["1.2", "1.3"], about("lowest protocol version, in quotes", '"1.2"')] = "1.2"


class GatewaySettings(Section, frozen=True):
    """The data plane: its listener, its limits and its deadlines."""

    listen: Annotated[Address, about("where clients connect; port 0: any free one", "127.0.0.1:8080", restart=True)] = (
        Address("127.0.0.1:8080")
    )
    workers: Annotated[
        Annotated[int, Meta(ge=0, le=256)] | Literal["auto"],
        about("worker processes; auto: one a core; 0: inside the control process", "auto", restart=True),
    ] = "auto"
    tls: Annotated[TlsSettings | None, about("TLS on the listener; absent: plain HTTP", restart=True)] = None
    head_timeout: Annotated[Timeout, about("until the head of a request is complete", "10s")] = Timeout(10 * SECOND)
    body_timeout: Annotated[Timeout, about("between two pieces of a request body", "30s")] = Timeout(30 * SECOND)
    idle_timeout: Annotated[Timeout, about("how long an unused client connection is kept", "75s")] = Timeout(
        75 * SECOND
    )
    write_timeout: Annotated[Timeout, about("how long a client may refuse to read an answer", "30s")] = Timeout(
        30 * SECOND
    )
    tunnel_timeout: Annotated[Timeout, about("how long a silent tunnel (WebSocket) is kept", "1h")] = Timeout(
        60 * MINUTE
    )
    drain_timeout: Annotated[Timeout, about("how long a stop waits for exchanges in flight", "30s")] = Timeout(
        30 * SECOND
    )
    max_head: Annotated[Size, about("request line and headers; more: 431, or 414", "16KiB")] = Size(16 * KIB)
    max_headers: Annotated[Positive, about("header fields of a request; more: 431", "100")] = 100
    max_body: Annotated[Size, about("request body; more: 413", "1TiB")] = Size(1 << 40)
    max_buffered_body: Annotated[Size, about("bodies held for plug-ins that ask for a whole one", "1MiB")] = Size(MIB)
    max_connections: Annotated[Positive, about("client connections of one worker", "20000")] = 20_000
    max_connections_per_address: Annotated[Positive, about("of these from one address", "10000")] = 10_000
    max_admissions: Annotated[Positive, about("tokens that one worker remembers", "100000")] = 100_000
    kick_grace: Annotated[
        Duration, about("how long exchanges in flight may go on when their session is ended or their user moved", "5s")
    ] = Duration(5 * SECOND)
    ratelimit_headers: Annotated[
        bool, about("tell admitted requests too what their limits have left (RateLimit, RateLimit-Policy)", "true")
    ] = True
    trusted_proxies: Annotated[
        list[Network], about("networks whose X-Forwarded-*, Forwarded and X-Request-Id are believed", "10.0.0.0/8")
    ] = []


class AdminSettings(Section, frozen=True):
    """The admin listener: every surface for operators."""

    listen: Annotated[
        Address, about("where operators connect; port 0: any free one", "127.0.0.1:8081", restart=True)
    ] = Address("127.0.0.1:8081")
    trusted_proxies: Annotated[
        list[Network], about("networks whose X-Forwarded-For and X-Forwarded-Proto are believed", "10.0.0.0/8")
    ] = []
    public_url: Annotated[
        str, about("how operators reach it, for addresses in answers; empty: as they asked", "https://ops.example")
    ] = ""
    hosts: Annotated[
        list[Host], about("names, beside addresses and localhost, by which trusted peers may call it", "ops.internal")
    ] = []


class StoreSettings(Section, frozen=True):
    """What must last."""

    url: Annotated[
        Url,
        about(
            "the database: sqlite:///PATH, where a relative path starts at the configuration's directory, "
            "or postgresql://USER@HOST:PORT/DATABASE; empty: ostiary.db in the state directory",
            "sqlite:///var/ostiary.db",
            restart=True,
        ),
    ] = Url("")


class LogSettings(Section, frozen=True):
    """What is written down."""

    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], about("least level that is logged", "INFO")] = "INFO"
    format: Annotated[Literal["json", "text"], about("one JSON object a line, or text for people", "json")] = "json"
    access: Annotated[
        str, about("access log: a file, - for standard output, empty for none; opened anew at each reload", "-")
    ] = "-"


class UpstreamTlsSettings(Section, frozen=True):
    """TLS towards the backends of an upstream."""

    ca: Annotated[str, about("PEM file of authorities; empty: the system's", "tls/ca.pem")] = ""
    name: Annotated[str, about("name that certificates must show; empty: the backend's host", "api.internal")] = ""
    verify: Annotated[bool, about("whether certificates are verified at all", "true")] = True
    certificate: Annotated[str, about("PEM file: the certificate that Ostiary shows", "")] = ""
    key: Annotated[str, about("PEM file: its private key", "")] = ""


class HealthSettings(Section, frozen=True):
    """Looking after the hosts of a director: a connection to each, again and again."""

    every: Annotated[Timeout, about("time between two looks", "2s")] = Timeout(2 * SECOND)
    timeout: Annotated[Timeout, about("until a connection must stand", "1s")] = Timeout(SECOND)
    fall: Annotated[Positive, about("failures in a row that bring a host down and move its users", "3")] = 3
    rise: Annotated[Positive, about("successes in a row that bring it up again", "2")] = 2


PortNumber = Annotated[int, Meta(ge=1, le=65535)]


class UpstreamDropletSettings(Section, frozen=True):
    """Droplets as backends of an upstream: those of a template, or those of one type of an app."""

    template: Annotated[str, about("all droplets of this template that are no app's", "web")] = ""
    app: Annotated[str, about("or all droplets of this app", "shop")] = ""
    type: Annotated[str, about("of the app: which of its process types", "web")] = "web"
    port: Annotated[PortNumber | None, about("port of the template; absent: its first", "80")] = None


class UpstreamSettings(Section, frozen=True):
    """A set of backends and how one is chosen."""

    servers: Annotated[
        list[Backend],
        about(
            "backends: HOST:PORT, [IPV6]:PORT or unix:/PATH; a director's are addresses, and may be none",
            '["127.0.0.1:5000", "127.0.0.1:5001"]',
        ),
    ] = []
    droplets: Annotated[
        UpstreamDropletSettings | None,
        about("droplets that serve it besides, a director's as hosts; each joins when it is ready"),
    ] = None
    balance: Annotated[
        Literal["round_robin", "least_connections", "director"],
        about("how a backend is chosen; director: each user has one, which operators can change", "least_connections"),
    ] = "round_robin"
    director_port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)], about("director: port of hosts that operators add", "80")
    ] = 80
    user_from: Annotated[
        Annotated[str, Meta(pattern=r"^(token|(header|cookie) [!#$%&'*+.^_`|~0-9A-Za-z-]+)$")],
        about("director: where the user's name is: token, header NAME, or cookie NAME", "header X-User"),
    ] = "token"
    user_hash: Annotated[
        Literal["%Lu", "%u", "%Ln", "%n"],
        about("director: what of the name counts: n: up to the first @; L: in lower case", "%Lu"),
    ] = "%Lu"
    user_expire: Annotated[Timeout, about("director: how long a user who is away keeps a backend, from 10s", "15m")] = (
        Timeout(15 * MINUTE)
    )
    health: Annotated[
        HealthSettings | None,
        about("director: hosts that do not answer go down by themselves; absent: only operators do that"),
    ] = None
    preserve_host: Annotated[bool, about("send the client's Host instead of the backend's", "true")] = False
    connect_timeout: Annotated[Timeout, about("until a connection stands, or one is free", "1s")] = Timeout(SECOND)
    timeout: Annotated[Timeout, about("until the response head, and between pieces of its body", "30s")] = Timeout(
        30 * SECOND
    )
    idle_timeout: Annotated[Timeout, about("how long an unused connection is kept", "60s")] = Timeout(60 * SECOND)
    max_connections: Annotated[Positive, about("of one worker to one backend", "1024")] = 1024
    fail_timeout: Annotated[Duration, about("how long a backend that refused is passed over", "5s")] = Duration(
        5 * SECOND
    )
    tls: Annotated[UpstreamTlsSettings | None, about("TLS towards the backends; {} for plain defaults", "{}")] = None


class LimitSettings(Section, frozen=True):
    """A rate limit; all of it may come at once."""

    requests: Annotated[Positive, about("how many requests", "100")]
    per: Annotated[Timeout, about("in which time", "1s")] = Timeout(SECOND)
    by: Annotated[
        Literal["client", "user", "address", "route"],
        about("counted for each client application, user or address, or for all requests together", "client"),
    ] = "client"


ANY_CLIENT: Literal["client-app"] = "client-app"


class RequireSettings(Section, frozen=True):
    """What the token of a request must be."""

    token: Annotated[
        Literal["client-app", "user"], about("user: a token with a user; client-app: any token", "user")
    ] = ANY_CLIENT
    scope: Annotated[
        str | list[str], about("one of these scopes; text separated by blanks, or a list; empty: any token", "basic")
    ] = ""


PluginUse = str | dict[str, dict[str, Any]]


class RouteSettings(Section, frozen=True):
    """A public method and path, what it requires, and the backend path that it becomes."""

    match: Annotated[
        str,
        about(
            "methods (one, some with commas, or *) and path; {name} is one segment, {name:EXPRESSION} what it matches",
            "GET /v1.0/countries/{code:[A-Z]{3}}",
        ),
    ]
    upstream: Annotated[str, about("name of the upstream", "countries")]
    to: Annotated[str, about("path at the backend, {name} filled in; absent: the public path", "/countries/{code}")] = (
        ""
    )
    require: Annotated[
        RequireSettings | None, about("the token it takes; absent: public", "{token: user, scope: basic}")
    ] = None
    limit: Annotated[
        str | LimitSettings | None, about("a name from limits, or a limit of its own", "{requests: 5, per: 1m}")
    ] = None
    actions: Annotated[
        list[PluginUse], about("plug-ins on the request: a name, or {name: {its arguments}}", "[replace_user_id]")
    ] = []
    filters: Annotated[
        list[PluginUse], about("plug-ins on the response", "[{remove_json_field: {field: balance}}]")
    ] = []
    errors: Annotated[
        dict[Status, Body], about("bodies that replace backend answers of these statuses", "{404: {error: unknown}}")
    ] = {}
    keep_authorization: Annotated[bool, about("send the Authorization header on to the backend", "false")] = False
    max_body: Annotated[Size | None, about("request body; absent: the gateway's limit", "1MiB")] = None
    timeout: Annotated[Duration, about("for the whole exchange; 0s: no limit", "0s")] = Duration(0)
    director_tag: Annotated[
        str, about("tag of the director's hosts that serve it, unless the token's details name one", "eu")
    ] = ""


class MappingFiles(Section, frozen=True):
    """ApiFest mapping files that are read alike."""

    files: Annotated[str, about("a file, a directory, or a pattern", "mappings/*.xml")]
    legacy_regex: Annotated[bool, about("read external paths as one regular expression, as ApiFest did", "true")] = (
        False
    )


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


class CikitSettings(Section, frozen=True):
    """How closely the CIKit surface follows CIKit."""

    single_session: Annotated[bool, about("a log-in by code ends the tokens of earlier ones", "false")] = False
    qr: Annotated[Literal["data", "base64"], about("QR codes: a data URL, or its base64 part alone", "data")] = "data"
    strict: Annotated[bool, about("failures that CIKit answers with 400 or 401 get their own status", "false")] = False


class DeisSettings(Section, frozen=True):
    """How closely the Deis surface follows Deis."""

    api_version: Annotated[
        Literal["1.1", "1.5", "none"], about("what the version headers say; none: there are none", "1.1")
    ] = "1.1"
    page_size: Annotated[
        Annotated[int, Meta(ge=1, le=1000)], about("entries of a page that does not say how many", "100")
    ] = 100
    domain: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")],
        about("the URL of an app is its id and this; a label, nothing is routed by it", "apps.example.com"),
    ] = "ostiary.local"
    template: Annotated[str, about("what new apps run; empty: the default template of droplets", "web")] = ""
    max_apps: Annotated[Annotated[int, Meta(ge=0, le=100_000)], about("apps that one user may own", "50")] = 50
    max_scale: Annotated[Annotated[int, Meta(ge=0, le=10_000)], about("droplets that an app may have", "32")] = 32


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


class OauthSettings(Section, frozen=True):
    """The OAuth 2.0 server."""

    issuer: Annotated[
        Issuer,
        about("its name in metadata and answers; empty: the gateway's URL", "https://api.example.org"),
    ] = Issuer("")
    code_lifetime: Annotated[Timeout, about("life of an authorization code", "60s")] = Timeout(60 * SECOND)
    refresh_absolute_lifetime: Annotated[Timeout, about("refreshing ends so long after the first issue", "30d")] = (
        Timeout(30 * DAY)
    )
    login_lifetime: Annotated[
        Timeout, about("how long the authorization page knows a browser's user after a log-in", "12h")
    ] = Timeout(720 * MINUTE)
    resource: Annotated[
        Origin,
        about(
            "names what the gateway protects, in 401s and metadata (RFC 9728); empty: off", "https://api.example.org"
        ),
    ] = Origin("")
    authenticator: Annotated[str, about("who checks names and passwords: Ostiary, or a plug-in", "ostiary")] = "ostiary"
    grants: Annotated[dict[str, str], about("further grant types and the plug-in of each", "{sms: acme_sms}")] = {}
    signing_alg: Annotated[
        Literal["ES256", "EdDSA", "RS256"], about("algorithm of the key that signs; a change makes a new key", "ES256")
    ] = "ES256"


GRANT_TYPES = ("authorization_code", "client_credentials", "refresh_token", "password")


class ApifestSettings(Section, frozen=True):
    """How closely the ApiFest surface follows ApiFest."""

    revoke_as_string: Annotated[bool, about('revoke answers {"revoked":"true"}; false: the boolean', "true")] = True
    strict_status: Annotated[bool, about("failures that ApiFest answers with 200 get their own status", "true")] = False
    legacy_redirects: Annotated[bool, about("auth-codes accepts any URL: an open redirector", "false")] = False
    reload_by_get: Annotated[bool, about("GET /apifest-reload reloads too", "true")] = True
    reveal_client_secrets: Annotated[bool, about("keep new client secrets, encrypted, and list them", "false")] = False
    validate_reveals_refresh: Annotated[bool, about("tokens/validate shows the refresh token", "true")] = True
    gateway_status: Annotated[
        Literal["compat", "standard"],
        about("statuses of mapping files: ApiFest's, or 403, 405, 502, 504 where they fit", "compat"),
    ] = "compat"
    default_grant_types: Annotated[
        list[str],
        about("of applications registered without any", "[authorization_code, client_credentials, refresh_token]"),
    ] = field(default_factory=lambda: list(GRANT_TYPES[:3]))
    trusted_networks: Annotated[
        list[Network], about("peers of the admin listener that need no credentials there", "[127.0.0.0/8, ::1/128]")
    ] = []
    classes: Annotated[
        dict[str, PluginUse], about("Java class -> plug-in, as in a route", "{com.acme.Sign: {sign: {key: k1}}}")
    ] = {}
    global_errors: Annotated[str, about("global errors file; its bodies join errors", "global-errors.xml")] = ""


class ServiceKeySettings(Section, frozen=True):
    """A further key of the doveadm surface."""

    name: Annotated[Name, about("its name, in the audit", "monitor")]
    key: Annotated[Secret, about("the key", "{env: MONITOR_KEY}")]
    role: Annotated[str, about("what it may do", "viewer")] = "viewer"


class DoveadmSettings(Section, frozen=True):
    """The doveadm surface."""

    api_key: Annotated[Secret | None, about("key for X-Dovecot-API; absent: none", "{env: DOVEADM_KEY}")] = None
    password: Annotated[Secret | None, about("of doveadm, for Basic; absent: none", "{file: doveadm.pass}")] = None
    role: Annotated[str, about("what these two may do", "admin")] = "admin"
    keys: Annotated[list[ServiceKeySettings], about("further keys, each with a name and a role")] = []
    director: Annotated[
        str, about("upstream that director commands act on; empty: the only one with balance: director", "mail")
    ] = ""
    sockets: Annotated[
        dict[str, str], about("socketPath -> director upstream", "{/run/dovecot/eu-director: mail-eu}")
    ] = {}
    socket_path: Annotated[str, about("what directorDump calls the default socket")] = "/var/run/dovecot/director-admin"
    services: Annotated[
        dict[str, list[Literal["http", "ws", "oauth"]]], about("further names of services", "{imap: [http]}")
    ] = {}
    command_timeout: Annotated[Timeout, about("for one command", "30s")] = Timeout(30 * SECOND)
    payload_timeout: Annotated[Timeout, about("for all commands of a request", "120s")] = Timeout(120 * SECOND)


class DialectSettings(Section, frozen=True):
    """The outside surfaces."""

    apifest: Annotated[ApifestSettings, about("ApiFest")] = ApifestSettings()
    doveadm: Annotated[DoveadmSettings, about("doveadm")] = DoveadmSettings()


class ClusterSettings(Section, frozen=True):
    """How other nodes know this one."""

    address: Annotated[str, about("its address", "10.0.0.1", restart=True)] = "127.0.0.1"
    port: Annotated[Annotated[int, Meta(ge=1, le=65535)], about("its port", "9090", restart=True)] = 9090


class DropletHealthSettings(Section, frozen=True):
    """Looking after a droplet: by HTTP, or by a connection."""

    http: Annotated[str, about("path that is asked; healthy: a status below 400", "/healthz")] = ""
    tcp: Annotated[PortNumber | None, about("port of the template that must take a connection", "80")] = None
    port: Annotated[PortNumber | None, about("http: port of the template; absent: its first", "80")] = None
    every: Annotated[Timeout, about("time between two looks", "2s")] = Timeout(2 * SECOND)
    timeout: Annotated[Timeout, about("until the answer must be there", "1s")] = Timeout(SECOND)
    healthy_after: Annotated[Positive, about("successes in a row that make it healthy", "1")] = 1
    unhealthy_after: Annotated[Positive, about("failures in a row that make it unhealthy", "3")] = 3


class DropletStopSettings(Section, frozen=True):
    """How a droplet is ended."""

    signal: Annotated[
        Literal["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "KILL"], about("the signal that asks it to end", "TERM")
    ] = "TERM"
    timeout: Annotated[Timeout, about("until what is left of it is killed", "10s")] = Timeout(10 * SECOND)
    drain: Annotated[Duration, about("before the signal: what requests in flight have to end", "10s")] = Duration(
        10 * SECOND
    )


class DropletRestartSettings(Section, frozen=True):
    """What follows when a droplet ends by itself."""

    policy: Annotated[
        Literal["never", "on_failure", "always"], about("on_failure: unless its exit code is 0", "on_failure")
    ] = "on_failure"
    max: Annotated[Annotated[int, Meta(ge=0, le=1_000_000)], about("restarts without quiet between them", "5")] = 5
    first_wait: Annotated[Timeout, about("before the first restart; each further wait is twice as long", "1s")] = (
        Timeout(SECOND)
    )
    max_wait: Annotated[Timeout, about("the longest wait", "60s")] = Timeout(60 * SECOND)
    reset_after: Annotated[Timeout, about("running so long counts as quiet", "60s")] = Timeout(60 * SECOND)


class DropletLimitSettings(Section, frozen=True):
    """What a droplet may use."""

    memory: Annotated[Size | None, about("absent: no limit", "256MiB")] = None
    cpu: Annotated[float | None, about("cores; absent: no limit", "0.5")] = None
    pids: Annotated[Positive | None, about("processes and threads; absent: no limit", "128")] = None


class TemplateSettings(Section, frozen=True):
    """What droplets are made from."""

    default: Annotated[bool, about("taken where none is named; exactly one template is the default", "true")] = False
    command: Annotated[
        list[str],
        about(
            "program and arguments, through no shell; {port}, {port:N}, {name} and {python} are filled in, {{ is {",
            '["{python}", "-m", "http.server", "{port:80}", "--bind", "127.0.0.1"]',
        ),
    ] = []
    image: Annotated[str, about("docker: the image", "registry.example/web:3")] = ""
    ports: Annotated[list[PortNumber], about("each is reached at a free port of 127.0.0.1", "[80]")] = []
    env: Annotated[dict[str, Secret], about("environment", "{MODE: prod, KEY: {env: KEY}}")] = {}
    limits: Annotated[DropletLimitSettings, about("what it may use")] = DropletLimitSettings()
    user: Annotated[str, about("whom it runs as; empty: as Ostiary, or as the image says", "nobody")] = ""
    mounts: Annotated[list[str], about("docker: HOST:INSIDE or HOST:INSIDE:ro", '["/srv/web:/data:ro"]')] = []
    health: Annotated[DropletHealthSettings | None, about("absent: it is ready when it has lived for a second")] = None
    start_timeout: Annotated[Timeout, about("until it must be healthy", "60s")] = Timeout(60 * SECOND)
    stop: Annotated[DropletStopSettings, about("how it is ended")] = DropletStopSettings()
    restart: Annotated[DropletRestartSettings, about("what follows when it ends by itself")] = DropletRestartSettings()
    types: Annotated[
        dict[str, list[str]], about("an app's process types and their commands; absent: web is the command")
    ] = {}


class DockerSettings(Section, frozen=True):
    """The engine that runs containers: Docker's, or Podman's with the same interface."""

    socket: Annotated[str, about("its Unix socket", "/run/podman/podman.sock", restart=True)] = "/var/run/docker.sock"
    pull: Annotated[Literal["missing", "never", "always"], about("when images are fetched", "missing")] = "missing"


class DropletSettings(Section, frozen=True):
    """Managed workloads of this node."""

    driver: Annotated[
        Literal["process", "docker"], about("who runs them: local processes, or containers", "process", restart=True)
    ] = "process"
    docker: Annotated[DockerSettings, about("the engine of containers")] = DockerSettings()
    prefix: Annotated[
        Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,30}$")],
        about("names that Ostiary gives: this and a number", "droplet"),
    ] = "droplet"
    max: Annotated[Annotated[int, Meta(ge=0, le=10_000)], about("how many there may be", "100")] = 100
    concurrency: Annotated[Annotated[int, Meta(ge=1, le=1000)], about("so many are launched at once", "4")] = 4
    lock_timeout: Annotated[Timeout, about("how long an operation waits for another on the same", "30s")] = Timeout(
        30 * SECOND
    )
    on_stop: Annotated[
        Literal["stop", "keep"] | None,
        about("what becomes of them when Ostiary is stopped; absent: process stop, docker keep", "keep"),
    ] = None
    images: Annotated[
        list[str], about("docker: patterns of images that apps may name; * and ?", '["registry.example/*"]')
    ] = []
    templates: Annotated[dict[Name, TemplateSettings], about("what they are made from")] = {}


class PluginSettings(Section, frozen=True):
    """Plug-ins beside the bundled ones. Nothing that is not named here is ever imported."""

    directory: Annotated[str, about("where plug-in files are", "plugins")] = ""
    names: Annotated[
        dict[Name, str], about("name -> FILE.py:ATTRIBUTE in the directory, or entry-point", "{sign: sign.py:sign}")
    ] = {}


class Settings(Section, frozen=True):
    """The whole configuration."""

    gateway: Annotated[GatewaySettings, about("the data plane")] = GatewaySettings()
    admin: Annotated[AdminSettings, about("the admin listener")] = AdminSettings()
    store: Annotated[StoreSettings, about("what must last")] = StoreSettings()
    state_dir: Annotated[
        str, about("directory of all that Ostiary keeps; relative to the configuration file", "var", restart=True)
    ] = "var"
    pid_file: Annotated[
        str, about("empty: ostiary.pid in the state directory", "/run/ostiary/ostiary.pid", restart=True)
    ] = ""
    log: Annotated[LogSettings, about("what is written down")] = LogSettings()
    upstreams: Annotated[dict[Name, UpstreamSettings], about("upstreams by name")] = {}
    routes: Annotated[list[RouteSettings], about("routes")] = []
    mappings: Annotated[list[str | MappingFiles], about("ApiFest mapping files", '["mappings/*.xml"]')] = []
    errors: Annotated[
        dict[OwnStatus, Body],
        about("bodies of the answers that the gateway makes itself", '{404: {"error": "resource not found"}}'),
    ] = {}
    limits: Annotated[
        dict[Name, LimitSettings],
        about("limits by name; `default` holds for each client application without its own"),
    ] = {}
    session: Annotated[SessionSettings, about("log-ins of people")] = SessionSettings()
    login: Annotated[LoginSettings, about("protection of log-ins")] = LoginSettings()
    passwords: Annotated[PasswordSettings, about("what passwords must be")] = PasswordSettings()
    totp: Annotated[TotpSettings, about("log-ins by code")] = TotpSettings()
    tokens: Annotated[TokenSettings, about("tokens of people")] = TokenSettings()
    registration: Annotated[RegistrationSettings, about("who may make an account")] = RegistrationSettings()
    bootstrap: Annotated[BootstrapSettings, about("the first account", restart=True)] = BootstrapSettings()
    oauth: Annotated[OauthSettings, about("the OAuth 2.0 server")] = OauthSettings()
    dialects: Annotated[DialectSettings, about("the outside surfaces")] = DialectSettings()
    cluster: Annotated[ClusterSettings, about("this node among others")] = ClusterSettings()
    droplets: Annotated[DropletSettings, about("managed workloads")] = DropletSettings()
    cikit: Annotated[CikitSettings, about("the CIKit surface")] = CikitSettings()
    deis: Annotated[DeisSettings, about("the Deis surface")] = DeisSettings()
    plugins: Annotated[PluginSettings, about("plug-ins beside the bundled ones")] = PluginSettings()


class Declared(NamedTuple):
    """One setting as declared. `path` is its place in the file, `type` without None."""

    path: tuple[str, ...]
    type: object
    optional: bool
    """Whether its section may be absent; then its value is None."""
    default: object
    description: str
    example: str
    restart: bool

    @property
    def key(self) -> str:
        """`log.level` is LOG_LEVEL."""
        return "_".join(self.path).upper()

    @property
    def secret(self) -> bool:
        """Whether it is never shown."""
        return self.type is Secret


class Field(NamedTuple):
    """A field of a section: its type without None and Annotated, and what was said about it."""

    name: str
    hint: Any
    """The type as written."""
    type: Any
    required: bool
    default: object
    description: str
    example: str
    restart: bool


@cache
def fields(section: type[Section]) -> tuple[Field, ...]:
    """The fields of a section, as declared."""
    hints = get_type_hints(section, include_extras=True)
    return tuple(_field(each, hints[each.name]) for each in declared_fields(section))


def _field(each: FieldInfo, hint: object) -> Field:
    said = next(meta for meta in get_args(hint)[1:] if isinstance(meta, Meta) and meta.description is not None)
    default = each.default if each.default is not NODEFAULT else None
    if each.default_factory is not NODEFAULT:
        default = each.default_factory()
    example = str(said.examples[0]) if said.examples else ""
    restart = bool((said.extra or {})["restart"])
    return Field(each.name, hint, plain(hint), each.required, default, said.description or "", example, restart)


def plain(hint: Any) -> Any:
    """A type without Annotated around it and without None beside it."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        return reduce(or_, (plain(each) for each in get_args(hint) if each is not NoneType))
    return hint


def is_section(kind: object) -> TypeGuard[type[Section]]:
    """Whether a type is a section (and so its fields are settings)."""
    return isinstance(kind, type) and issubclass(kind, Section)


def is_scalar(kind: object) -> bool:
    """Whether a type holds one value, or a list of such: what has a key."""
    if get_origin(kind) is list:
        inner = plain(get_args(kind)[0])
        return get_origin(inner) is not list and is_scalar(inner)
    if get_origin(kind) in (Union, UnionType):
        return all(is_scalar(each) for each in get_args(kind))
    return get_origin(kind) is Literal or (isinstance(kind, type) and not is_section(kind))


def declared(section: type[Section], path: tuple[str, ...] = (), optional: bool = False) -> Iterator[Declared]:
    """Every setting that has a key, in the order of declaration."""
    for each in fields(section):
        here = (*path, each.name)
        if is_section(each.type):
            yield from declared(each.type, here, optional or each.default is None)
        elif is_scalar(each.type):
            yield Declared(here, each.type, optional, each.default, each.description, each.example, each.restart)


KEYS: dict[str, Declared] = {each.key: each for each in declared(Settings)}


def value_of(settings: Settings, path: tuple[str, ...]) -> object:
    """The value at `path`; None where its section is absent."""
    value: object = settings
    for name in path:
        if value is None:
            return None
        value = getattr(value, name)
    return value


def values(settings: Settings) -> dict[str, object]:
    """Every key with its effective value, secrets redacted, measures as they are written."""
    return {key: shown(value_of(settings, each.path)) for key, each in KEYS.items()}


def kept(old: S, new: S) -> S:
    """`new`, with what needs a restart as `old` has it."""
    changes: dict[str, object] = {}
    for each in fields(type(new)):
        before, after = getattr(old, each.name), getattr(new, each.name)
        if isinstance(before, Section) and isinstance(after, Section):
            changes[each.name] = kept(before, after)
        elif each.restart:
            changes[each.name] = before
    return replace(new, **changes)
