"""Settings of the data plane."""

from typing import Annotated, Literal

from msgspec import Meta

from ostiary.core.configuration.measure import Address, Duration, Network, Size, Timeout
from ostiary.core.configuration.settings.section import KIB, MIB, MINUTE, Positive, Section, about
from ostiary.core.snapshot import SECOND


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
