"""Settings of upstreams: their backends, and how one is chosen."""

from typing import Annotated, Literal

from msgspec import Meta

from ostiary.core.configuration.measure import Backend, Duration, Timeout
from ostiary.core.configuration.settings.section import MINUTE, PortNumber, Positive, Section, about
from ostiary.core.snapshot import SECOND


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
    director_port: Annotated[PortNumber, about("director: port of hosts that operators add", "80")] = 80
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
