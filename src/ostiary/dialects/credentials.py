"""Who is asking: operators' credentials, read the same way on every surface.

The session cookie, `Bearer` with any token of a person or a client application or a service key, or `Basic`
name:password. Basic credentials ride along on requests that another site makes a browser send (it attaches them by
itself), so a foreign request has none.
"""

import base64
import binascii
import re
from functools import lru_cache
from ipaddress import ip_network

from ostiary.control.principals import presented
from ostiary.core.digest import equal
from ostiary.core.mask import Network, parse_address
from ostiary.core.permission import NOBODY, Principal
from ostiary.core.refusal import Forbidden, Unauthenticated
from ostiary.dialects.desk import Desk
from ostiary.dialects.message import Request, within
from ostiary.dialects.services import permitted

CHALLENGE = 'Bearer realm="ostiary", Basic realm="ostiary"'
MAX_NAME, MAX_PASSWORD = 254, 1024
_BASIC = re.compile(r"basic +([A-Za-z0-9+/]+={0,2}) *", re.IGNORECASE)
_BEARER = re.compile(r"bearer +([!-~]+) *", re.IGNORECASE)
SESSION_COOKIE, CSRF_COOKIE = "access_token_cookie", "csrf_token"
SAFE = ("GET", "HEAD", "OPTIONS")
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
    return "authorization" in request.headers or cookies(request, SESSION_COOKIE) != []


def cookies(request: Request, name: str) -> list[str]:
    """The values of all cookies of that name (RFC 6265 section 4.2.1)."""
    pairs = (pair.strip(" ").partition("=") for value in request.headers.get("cookie", []) for pair in value.split(";"))
    return [value for found, equals, value in pairs if equals and found == name]


def bearer(request: Request) -> str:
    """The token of exactly one `Authorization: Bearer` header, else empty."""
    match = _BEARER.fullmatch(request.one("authorization"))
    return match[1] if match else ""


async def operator(desk: Desk, request: Request) -> Principal:
    """The principal that the request's credential stands for; NOBODY where none was sent.

    A request with the session cookie is judged by it alone, and one that another site made a browser send needs its
    CSRF token. Refuses Unauthenticated `credential.refused` and others for whatever does not hold, Forbidden
    `csrf.invalid`, Limited for a throttled log-in or address.
    """
    found = cookies(request, SESSION_COOKIE)
    if found:
        return await by_cookie(desk, request, found)
    if not offered(request):
        return NOBODY
    token = bearer(request)
    if token:
        return await by_token(desk, request, token)
    pair = None if foreign(request) else basic(request)
    if pair is None or len(pair[0]) > MAX_NAME or len(pair[1]) > MAX_PASSWORD:
        raise Unauthenticated("credential.refused", "The credential is not valid")
    return await desk.control.login.password(*pair, request.address)


async def by_cookie(desk: Desk, request: Request, found: list[str]) -> Principal:
    """The principal of the session cookie, which must be there once."""
    if len(found) != 1:
        raise Unauthenticated("credential.refused", "The credential is not valid")
    principal = await by_token(desk, request, found[0])
    if request.method not in SAFE and foreign(request) and not _shown(desk, request, principal):
        raise Forbidden("csrf.invalid", "A request from another site needs the CSRF token of its session")
    return principal


def _shown(desk: Desk, request: Request, principal: Principal) -> bool:
    """Whether header and cookie show the CSRF token that was made for this very session."""
    shown = request.one("x-csrf-token")
    twin = cookies(request, CSRF_COOKIE)
    if len(twin) != 1 or not equal(shown, twin[0]):
        return False
    return desk.control.csrf.holds("session", principal.digest.hex(), shown)


async def by_token(desk: Desk, request: Request, token: str, *, refresh: bool = False) -> Principal:
    """The principal of a token; `refresh` as for `presented`. One that never was ours is a guess of its address.

    A service key is one, too. It may be weak, so an address that has guessed too often is not even told a right one.
    """
    service = desk.services.of(token)
    if service is not None:
        desk.control.penalties.check(request.address)
        return await permitted(desk.control, service)
    try:
        return await presented(desk.control, token, refresh=refresh)
    except Unauthenticated as refusal:
        if refusal.code == "credential.unknown":
            desk.control.penalties.failed(request.address, "", token)
        raise
