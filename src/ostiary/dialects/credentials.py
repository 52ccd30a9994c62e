"""Who is asking: operators' credentials, read the same way on every surface.

Only `Basic` name:password exists yet; sessions and tokens join here. Basic credentials ride along on requests that
another site makes a browser send (it attaches them by itself), so a foreign request has none.
"""

import base64
import binascii
import re
from functools import lru_cache
from ipaddress import ip_network

from ostiary.core.permission import NOBODY, Principal
from ostiary.core.refusal import Unauthenticated
from ostiary.dialects.desk import Desk
from ostiary.dialects.message import Network, Request, parse_address, within

CHALLENGE = 'Bearer realm="ostiary", Basic realm="ostiary"'
MAX_NAME, MAX_PASSWORD = 254, 1024
_BASIC = re.compile(r"basic +([A-Za-z0-9+/]+={0,2}) *", re.IGNORECASE)
_PORTS = {"http": "80", "https": "443"}


def basic(request: Request) -> tuple[str, str] | None:
    """Name and password of exactly one well-formed `Authorization: Basic` header (RFC 7617, UTF-8)."""
    match = _BASIC.fullmatch(request.one("authorization"))
    if match is None:
        return None
    try:
        name, colon, password = base64.b64decode(match[1], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, password) if colon else None


def foreign(request: Request) -> bool:
    """Whether a page of another origin made a browser send this (doorman.md 2.4)."""
    sites = request.headers.get("sec-fetch-site", [])
    if any(site not in ("same-origin", "none") for site in sites):
        return True
    scheme = "https" if request.secure else "http"
    own = _origin(f"{scheme}://{request.host}")
    return any(_origin(origin) != own for origin in request.headers.get("origin", []))


def _origin(text: str) -> str:
    scheme, _, authority = text.lower().partition("://")
    host, _, port = authority.rpartition(":")
    return f"{scheme}://{host}" if host and port == _PORTS.get(scheme) else f"{scheme}://{authority}"


def named_as_ours(request: Request, names: frozenset[str]) -> bool:
    """Whether `Host` is an address, localhost or one of `names`: else a web page may be leading a browser here."""
    host = request.host.lower()
    name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
    return name == "localhost" or name in names or parse_address(name.strip("[]")) is not None


def trusted(desk: Desk, request: Request) -> bool:
    """Whether the TCP peer needs no credentials (apifest.md 0.3): listed, and no web page leading a browser here."""
    settings = desk.settings()
    listed = _networks(tuple(settings.dialects.apifest.trusted_networks))
    if request.public or not within(request.peer, listed) or foreign(request):
        return False
    return named_as_ours(request, frozenset(settings.admin.hosts))


@lru_cache(maxsize=8)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


def offered(request: Request) -> bool:
    """Whether any credential was sent."""
    return "authorization" in request.headers


async def operator(desk: Desk, request: Request) -> Principal:
    """The principal that the request's credential stands for; NOBODY where none was sent.

    Refuses Unauthenticated `credential.refused` for whatever does not hold, Limited for a throttled log-in.
    """
    if not offered(request):
        return NOBODY
    pair = None if foreign(request) else basic(request)
    if pair is None or len(pair[0]) > MAX_NAME or len(pair[1]) > MAX_PASSWORD:
        raise Unauthenticated("credential.refused", "The credential is not valid")
    return await desk.control.login.password(*pair)
