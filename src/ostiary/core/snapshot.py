"""The snapshot: everything that a worker needs of one configuration, immutable, as it travels over the link.

Durations are whole microseconds, sizes whole bytes. Routes share what they have in common: a route names its upstream
and its policy by index, so that 100,000 routes cost little more than their paths.
"""

from typing import Literal

from msgspec import Struct

from ostiary.core.limit import Limit

SECOND = 1_000_000


class Tls(Struct, frozen=True):
    """Server side TLS: files in PEM form. `minimum` is the lowest protocol version."""

    certificate: str
    key: str
    client_ca: str = ""
    minimum: Literal["1.2", "1.3"] = "1.2"


class UpstreamTls(Struct, frozen=True):
    """TLS towards backends. `ca` empty: the system's; `name` empty: the backend's host is verified."""

    ca: str = ""
    name: str = ""
    verify: bool = True
    certificate: str = ""
    key: str = ""


class Director(Struct, frozen=True):
    """How an upstream finds out who a user is, and where its users go (doveadm.md 7)."""

    port: int = 80
    """Of hosts that are known by their address only."""
    user_from: str = "token"
    """`token`, `header NAME` or `cookie NAME`."""
    user_hash: str = "%Lu"
    user_expire: int = 900 * SECOND
    drain: int = 0
    """What requests in flight may have when one of its droplets leaves (microseconds): so long its users wait."""


class Upstream(Struct, frozen=True):
    """A set of backends and how one is chosen."""

    name: str
    backends: tuple[str, ...]
    """Each `host:port`, `[v6]:port` or `unix:/path`."""
    balance: Literal["round_robin", "least_connections", "director"] = "round_robin"
    preserve_host: bool = False
    connect_timeout: int = 1 * SECOND
    timeout: int = 30 * SECOND
    """Until the response head, and between two pieces of the response body."""
    idle_timeout: int = 60 * SECOND
    """How long an unused connection is kept."""
    max_connections: int = 1024
    """A backend and worker; further exchanges wait for one, at most `connect_timeout`."""
    fail_timeout: int = 5 * SECOND
    """How long a backend that refused is passed over."""
    tls: UpstreamTls | None = None
    director: Director | None = None
    """With `balance: director` only."""


class RouteLimit(Struct, frozen=True):
    """A limit that routes name. Its key is `name` and, by `by`, the client, the user, the address, or nothing more."""

    name: str
    limit: Limit
    by: Literal["client", "user", "address", "route"] = "client"


class Plugin(Struct, frozen=True):
    """A plug-in by name with the arguments it is built from (validated against the plug-in's own declaration)."""

    name: str
    arguments: dict[str, object] = {}


class Policy(Struct, frozen=True):
    """What a route asks of an exchange and does to it, shared by all routes that say the same."""

    token: str = ""
    """`""`: public; `user`: a token with a user; `client-app`: any token; another text never passes."""
    scopes: tuple[str, ...] = ()
    """One of these must be among the token's; empty: any token."""
    limit: RouteLimit | None = None
    actions: tuple[Plugin, ...] = ()
    filters: tuple[Plugin, ...] = ()
    errors: dict[int, str] = {}
    """Bodies that replace a backend's answers of these statuses."""
    compat: bool = False
    """Statuses as ApiFest gives them (`contracts`: scope and kind 401, no 405, backend 500)."""
    keep_authorization: bool = False
    max_body: int = -1
    """Bytes; -1: the gateway's."""
    timeout: int = 0
    """Microseconds for the whole exchange; 0: no total limit."""
    director_tag: str = ""
    """Of the director's hosts that serve this, unless the token's details say another."""
    properties: dict[str, str] = {}
    """Handed to actions, not used by Ostiary (ApiFest's customProperties)."""


class Variable(Struct, frozen=True, array_like=True, tag="v"):
    """A named part of a path: `expression` empty: one or more characters of one segment."""

    name: str
    expression: str = ""


class Fixed(Struct, frozen=True, array_like=True, tag="l"):
    """A fixed part of a path, canonical (percent-encoding normalised)."""

    text: str


Piece = Fixed | Variable


class Route(Struct, frozen=True, array_like=True, gc=False):
    """A public method and path, and the backend path it becomes.

    `method` is a token, or `*` for any. `pieces` is the public path; a route without Variable pieces is exact.
    `to` is the backend path (with its query, if any) where `{name}` stands for what the variable captured, or, when
    nothing captures it, for what an action fills in. `order` breaks ties after specificity: lower goes first.
    """

    name: str
    method: str
    pieces: tuple[Piece, ...]
    to: str
    upstream: int
    policy: int
    order: int = 0


class Gateway(Struct, frozen=True):
    """The data plane's own settings."""

    tls: Tls | None = None
    head_timeout: int = 10 * SECOND
    body_timeout: int = 30 * SECOND
    idle_timeout: int = 75 * SECOND
    write_timeout: int = 30 * SECOND
    """How long a client may refuse to read a pending answer."""
    tunnel_timeout: int = 3600 * SECOND
    drain_timeout: int = 30 * SECOND
    kick_grace: int = 5 * SECOND
    max_head: int = 16_384
    """Bytes of the request line and headers; more: 431 (414 when the request line alone is longer)."""
    max_headers: int = 100
    max_body: int = 1 << 40
    max_buffered_body: int = 1 << 20
    """For plug-ins that ask for a whole body."""
    max_connections: int = 20_000
    max_connections_per_address: int = 10_000
    max_admissions: int = 100_000
    """Entries of a worker's cache of admissions."""
    ratelimit_headers: bool = True
    """Whether admitted requests are told what their limits have left; refused ones always are."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose X-Forwarded-*, Forwarded and X-Request-Id are believed."""
    errors: dict[int, str] = {}
    """Error bodies for answers that the gateway makes itself."""
    access_log: str = "-"
    """`-`: standard output; empty: off; else a file, opened anew at each reload."""
    log_level: str = "INFO"
    log_format: str = "json"
    plugins: dict[str, str] = {}
    """Further plug-ins: name -> `file.py:attribute` in `plugin_directory`, or `entry-point`."""
    plugin_directory: str = ""
    resource: str = ""
    """What 401s name as the protected resource (RFC 9728): an origin; empty: nothing."""


class Snapshot(Struct, frozen=True):
    """One configuration as a worker runs it, without its routes, which follow in pieces."""

    revision: int
    gateway: Gateway
    upstreams: tuple[Upstream, ...]
    policies: tuple[Policy, ...]
    routes: int
    """How many follow."""
