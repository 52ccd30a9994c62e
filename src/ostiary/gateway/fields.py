"""The fields of a request as the gateway reads them once, and as the backend gets them.

Dropped for good: hop-by-hop fields and those that Connection names, and everything that says who the client is: only
the gateway says that. Names with `_` count as their `-` twins, because CGI-like backends cannot tell them apart.
"""

import re
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple

from ostiary.core.http1 import BadMessage, Fields, RequestLine, framing, host_of, parse_fields, tokens

Networks = tuple[IPv4Network | IPv6Network, ...]

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
     b"http2-settings", b"proxy-authorization", b"content-length", b"host", b"expect")
)  # fmt: skip
OURS = frozenset(
    (b"authorization", b"via", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host",
     b"x-forwarded-port", b"x-real-ip", b"x-original-url", b"x-rewrite-url", b"proxy", b"x-request-id", b"x-client-id",
     b"x-user-id", b"x-scope")
)  # fmt: skip
UNTOUCHABLE = frozenset((b"authorization", b"cookie", b"content-type", b"host", b"cache-control"))
"""What a Connection field may not name away."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BEARER = re.compile(rb"bearer[ ]+([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
_ANY_BEARER = re.compile(rb"bearer(?:[ \t].*)?", re.IGNORECASE | re.DOTALL)


class Peer(NamedTuple):
    """The other end of a client connection: its address, whether it is a trusted proxy, and the scheme it used."""

    address: str
    trusted: bool
    scheme: str


class RequestFields:
    """One block of request fields, read: what the exchange needs of it, and `kept`, the bytes for the backend.

    `digest` is the SHA-256 of the bearer token; None without one; b"" for a text that can be no token of ours.
    `plain`: HTTP/1.1, no body, no upgrade. `kept` has whole lines, framing and forwarding fields among them, without
    Host, identity and request id.
    """

    __slots__ = (
        "address", "authorization", "chunked", "close", "digest", "expect", "has_body", "host", "kept", "length",
        "minor", "named", "pairs", "plain", "request_id", "upgrade",
    )  # fmt: skip

    def __init__(self, line: RequestLine, block: bytes, peer: Peer, trusted: Networks, most: int) -> None:
        fields = parse_fields(block, most)
        self.named: tuple[object, str] | None = None
        """Who is named here, and for which director that was found out."""
        self.length, self.chunked = framing(fields)
        if self.chunked and not line.minor:
            raise BadMessage(400, "Transfer-Encoding in HTTP/1.0")
        self.has_body = self.chunked or self.length > 0
        self.minor = line.minor
        self.host = host_of(line, fields)
        options = tokens(fields, b"connection")
        if not UNTOUCHABLE.isdisjoint(options):
            raise BadMessage(400, "Connection names an end-to-end field")
        self.close = b"close" in options or (not line.minor and b"keep-alive" not in options)
        self.upgrade = self._upgrade(fields, options)
        self.expect = self._expect(fields)
        self.plain = self.minor == 1 and not self.has_body and not self.upgrade
        self._authorize(fields)
        self.request_id = _given_request_id(fields) if peer.trusted else b""
        drop = HOP_BY_HOP.union(options)
        self.pairs = [pair for pair in fields if pair[0] not in drop and pair[0].replace(b"_", b"-") not in OURS]
        self.address, forwarded = _forwarding(fields, self.host, peer, trusted)
        self.pairs += forwarded
        self.kept = b"".join(b"%s: %s\r\n" % pair for pair in self.pairs) + self.framing()

    def framing(self) -> bytes:
        """The line that delimits the body towards the backend, if there is one."""
        if self.chunked:
            return b"transfer-encoding: chunked\r\n"
        return b"content-length: %d\r\n" % self.length if self.length >= 0 else b""

    def _upgrade(self, fields: Fields, options: list[bytes]) -> bytes:
        """`websocket`, if that is asked for and can be (RFC 9110 section 7.8).

        Nothing else is passed on: behind `h2c` the backend would take requests that no route has seen.
        """
        if b"upgrade" not in options or self.has_body or not self.minor:
            return b""
        asked = tokens(fields, b"upgrade")
        return b"websocket" if b"websocket" in asked else b""

    def _expect(self, fields: Fields) -> bool:
        expected = tokens(fields, b"expect")
        if expected and expected != [b"100-continue"]:
            raise BadMessage(417, "unknown expectation")
        return bool(expected) and bool(self.minor)

    def _authorize(self, fields: Fields) -> None:
        values = [value for name, value in fields if name == b"authorization"]
        if len(values) > 1:
            raise BadMessage(400, "repeated Authorization")
        self.authorization = values[0] if values else b""
        self.digest: bytes | None = None
        if match := _BEARER.fullmatch(self.authorization):
            self.digest = sha256(match[1]).digest()
        elif _ANY_BEARER.fullmatch(self.authorization):
            self.digest = b"" if self.authorization[6:].strip() else None


def _given_request_id(fields: Fields) -> bytes:
    given = [value for name, value in fields if name == b"x-request-id"]
    return given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else b""


def _forwarding(fields: Fields, host: bytes, peer: Peer, trusted: Networks) -> tuple[str, Fields]:
    """The client's address, and the fields that tell the backend of the way (RFC 7239, RFC 9110 section 7.6.3).

    What a client says of itself is dropped; what a trusted proxy says is kept and added to.
    """
    said = {name: b", ".join(v for n, v in fields if n == name) for name in _SAID} if peer.trusted else {}
    own = peer.address.encode()
    chain = said.get(b"x-forwarded-for", b"")
    scheme = said.get(b"x-forwarded-proto") or peer.scheme.encode()
    public = said.get(b"x-forwarded-host") or host
    node = b'"[%s]"' % own if b":" in own else own
    element = b'for=%s;proto=%s;host="%s"' % (node, peer.scheme.encode(), host)
    via = b", ".join([v for n, v in fields if n == b"via"] + [b"1.1 ostiary"])
    out = [
        (b"x-forwarded-for", b"%s, %s" % (chain, own) if chain else own),
        (b"x-forwarded-proto", scheme),
        (b"x-forwarded-host", public),
        (b"forwarded", b"%s, %s" % (said[b"forwarded"], element) if said.get(b"forwarded") else element),
        (b"via", via),
    ]
    return _client(chain, peer.address, trusted), out


_SAID = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded")


def _client(chain: bytes, address: str, trusted: Networks) -> str:
    """The right-most address of the chain that is no trusted proxy."""
    for hop in reversed([*chain.decode("latin-1").split(","), address] if chain else [address]):
        hop = hop.strip()
        if not is_trusted(hop, trusted):
            return hop if _is_address(hop) else address
        address = hop
    return address


def is_trusted(address: str, networks: Networks) -> bool:
    """Whether `address` (text) lies in one of `networks`; what is no address does not."""
    if not networks or not _is_address(address):
        return False
    parsed = ip_address(address)
    return any(parsed.version == network.version and parsed in network for network in networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
