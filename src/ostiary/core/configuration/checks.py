"""Checks of settings that stand by themselves: what the types of the settings cannot say."""

from collections.abc import Iterator, Set
from ipaddress import ip_address

from ostiary.core.configuration.binding import Fault, Where
from ostiary.core.configuration.droplet_checks import checked_droplets
from ostiary.core.configuration.near import near
from ostiary.core.configuration.settings import Settings, UpstreamSettings
from ostiary.core.configuration.settings.section import DAY
from ostiary.core.oauth import BUILT_IN_GRANTS
from ostiary.core.people import check_password, email_ok, totp_secret_ok, user_name_ok
from ostiary.core.refusal import Invalid
from ostiary.core.signing import key_fault
from ostiary.core.snapshot import SECOND

LEAST_EXPIRE = 10 * SECOND
UNSEEN = frozenset(
    ("authorization", "proxy-authorization", "connection", "proxy-connection", "keep-alive", "te", "trailer", "upgrade",
     "transfer-encoding", "content-length", "host", "expect", "http2-settings", "proxy", "x-request-id", "x-client-id",
     "x-user-id", "x-scope", "x-real-ip", "x-original-url", "x-rewrite-url", "x-forwarded-port")
)  # fmt: skip
"""Header fields that the gateway takes off or says itself, whatever a client sends."""
LEVELS = 5
"""Of penalties: 0 to 4."""


def checked(settings: Settings, broken: Set[Where]) -> Iterator[Fault]:
    """Every fault of `settings`, but for what is `broken` anyway."""
    default = settings.limits.get("default")
    if default and default.by != "client":
        yield Fault(("limits", "default", "by"), "the default limit is counted for each client application")
    if settings.session.ttl > DAY:
        yield Fault(("session", "ttl"), "a session lives at most 24h")
    if len(settings.login.penalty_waits) not in (0, LEVELS):
        yield Fault(("login", "penalty_waits"), f"there are {LEVELS} waits, one for each penalty from 0 to 4")
    yield from _grants(settings)
    if ("bootstrap", "owner") not in broken:
        yield from _owner(settings)
    yield from _session_keys(settings)
    yield from _upstreams(settings, broken)
    yield from checked_droplets(settings, broken)
    yield from _doveadm(settings)


def _grants(settings: Settings) -> Iterator[Fault]:
    grants = {*BUILT_IN_GRANTS, *settings.oauth.grants}
    for index, grant in enumerate(settings.dialects.apifest.default_grant_types):
        if grant not in grants:
            where: Where = ("dialects", "apifest", "default_grant_types", index)
            yield Fault(where, f"no grant type is named {grant[:64]}{near(grant, tuple(grants))}")


def _session_keys(settings: Settings) -> Iterator[Fault]:
    """Keys of session tokens: each name once, each secret of its algorithm."""
    named: set[str] = set()
    for index, key in enumerate(settings.session.keys):
        where: Where = ("session", "keys", index)
        if key.kid in named:
            yield Fault((*where, "kid"), f"another key is named {key.kid}")
        named.add(key.kid)
        wrong = key_fault(key.alg, key.secret.reveal())
        if wrong:
            yield Fault((*where, "secret"), wrong)


def _owner(settings: Settings) -> Iterator[Fault]:
    owner, where = settings.bootstrap.owner, ("bootstrap", "owner")
    if owner is None:
        return
    if not user_name_ok(owner.name):
        yield Fault((*where, "name"), "no user name: letters, digits and _.@+- (first a letter, digit or _)")
    if owner.email and not email_ok(owner.email):
        yield Fault((*where, "email"), "no e-mail address")
    try:
        check_password(owner.password.reveal(), owner.name, settings.passwords.min_length)
    except Invalid as refusal:
        yield Fault((*where, "password"), refusal.message)
    if owner.totp_secret is not None and not totp_secret_ok(owner.totp_secret.reveal()):
        yield Fault((*where, "totp_secret"), "a TOTP secret has 16 to 128 base32 characters (A-Z, 2-7)")


def _upstreams(settings: Settings, broken: Set[Where]) -> Iterator[Fault]:
    for name, each in settings.upstreams.items():
        if ("upstreams", name) in broken:
            continue
        if each.balance == "director":
            yield from _director(each, ("upstreams", name))
        elif not each.servers and each.droplets is None:
            yield Fault(("upstreams", name, "servers"), "an upstream needs at least one backend")


def _director(each: UpstreamSettings, where: Where) -> Iterator[Fault]:
    """Hosts of a director are known by their address."""
    known: set[str] = set()
    for index, server in enumerate(each.servers):
        host = server.rpartition(":")[0].strip("[]")
        if not is_address(host):
            yield Fault((*where, "servers", index), "a director's backends are addresses: IPV4:PORT or [IPV6]:PORT")
        if host in known:
            yield Fault((*where, "servers", index), f"another backend has the address {host}")
        known.add(host)
    source, _, name = each.user_from.partition(" ")
    if source == "header" and name.lower().replace("_", "-") in UNSEEN:
        yield Fault((*where, "user_from"), f"nobody is named by {name}: the gateway takes that header off")
    if each.user_expire < LEAST_EXPIRE:
        yield Fault((*where, "user_expire"), "users keep a backend for at least 10s")


def _doveadm(settings: Settings) -> Iterator[Fault]:
    doveadm, where = settings.dialects.doveadm, ("dialects", "doveadm")
    directors = tuple(name for name, each in settings.upstreams.items() if each.balance == "director")
    places = {("director",): doveadm.director} | {("sockets", path): name for path, name in doveadm.sockets.items()}
    for place, name in places.items():
        if name and name not in directors:
            yield Fault(
                (*where, *place), f"no upstream with balance: director is named {name[:64]}{near(name, directors)}"
            )
    names = [each.name for each in doveadm.keys]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Fault((*where, "keys", index, "name"), f"another key is named {name}")


def is_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
