"""Who is asking: service keys and the service password of the configuration, and every other operator's credential.

Keys are kept as SHA-256, the password as argon2id; both are made anew when the settings change, which is how a reload
takes a key away at once. A wrong one is a guess of its address, and of nobody's account.
"""

import asyncio
import base64
import binascii
import re
from hmac import compare_digest
from typing import NamedTuple

from msgspec.structs import replace

from ostiary.core.configuration.settings import DoveadmSettings
from ostiary.core.digest import digest
from ostiary.core.people import RESERVED_NAME
from ostiary.core.permission import NOBODY, ROLES, Principal
from ostiary.core.refusal import Unauthenticated
from ostiary.dialects.credentials import operator
from ostiary.dialects.desk import Desk
from ostiary.dialects.message import Request

KEY, BASIC = "x-dovecot-api", "basic"
MOST = 4096
"""Characters of a credential that are looked at."""
SERVICE = "service"
"""The kind of a principal that is a key of the configuration."""
_AUTHORIZATION = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?: +(.*))?", re.DOTALL)
_WITH_ORIGIN = ("origin", "sec-fetch-site")


class Service(NamedTuple):
    """A key: what is kept of it, and for whom it stands."""

    kept: bytes
    principal: Principal


class Keys:
    """The credentials of the surface, as the settings have them now."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._settings = DoveadmSettings()
        self._services: list[Service] = []
        self._password: asyncio.Future[str] | None = None

    @property
    def challenges(self) -> tuple[tuple[str, str], ...]:
        """A line for each scheme that is configured; where none is, other operators may still come."""
        settings = self._now()
        schemes = [
            *(["X-Dovecot-API"] if self._services else []),
            *(['Basic Realm="doveadm"'] if settings.password else []),
        ]
        return tuple(("WWW-Authenticate", scheme) for scheme in schemes or ['Bearer realm="ostiary"'])

    async def caller(self, request: Request) -> Principal:
        """Whom the request's credential stands for; a service has its role yet to be looked up (`permitted`).

        Refuses Unauthenticated and others where there is none that holds, Limited where the address is barred.
        """
        scheme, sent = authorization(request)
        if scheme == KEY:
            return await self._guarded(request, "", sent)
        name, password = _pair(sent) if scheme == BASIC else ("", "")
        if name == RESERVED_NAME:
            return await self._guarded(request, name, password)
        # A foreign request is refused by its own rule, after its credential: it is read here as if it were none.
        headers = {name: values for name, values in request.headers.items() if name not in _WITH_ORIGIN}
        if "authorization" in headers:
            headers["authorization"] = headers["authorization"][:1]
        principal = await operator(self._desk, replace(request, headers=headers))
        if principal is NOBODY:
            raise Unauthenticated("authentication.required", "Authentication is required")
        return principal

    async def permitted(self, principal: Principal) -> Principal:
        """The same with what its role holds now. Refuses Unavailable where that cannot be asked."""
        if principal.kind != SERVICE:
            return principal
        if principal.role in ROLES:
            return replace(principal, permissions=ROLES[principal.role])
        role = await self._desk.control.roles.get(principal.role)
        return replace(principal, permissions=role.permissions if role else frozenset())

    async def _guarded(self, request: Request, name: str, secret: str) -> Principal:
        """The service that a key (without a name) or the password is of."""
        penalties = self._desk.control.penalties
        penalties.check(request.address)
        found = await self._by_password(secret, request.address) if name else self._by_key(secret)
        if found is None:
            penalties.failed(request.address, name, secret)
            raise Unauthenticated("credential.refused", "The credential is not valid")
        return found

    def _by_key(self, sent: str) -> Principal | None:
        """All keys are compared, whichever fits."""
        self._now()
        shown = digest(_decoded(sent) or "")
        fitting = [each.principal for each in self._services if compare_digest(each.kept, shown)]
        return fitting[0] if fitting else None

    async def _by_password(self, password: str, address: str) -> Principal | None:
        settings = self._now()
        if not settings.password or len(password) > MOST:
            return None
        passwords = self._desk.control.passwords
        if self._password is None or (self._password.done() and self._password.exception() is not None):
            self._password = asyncio.ensure_future(passwords.make(settings.password.reveal()))
        kept = await asyncio.shield(self._password)
        doubt = self._desk.control.penalties.failures(address)
        fits = await passwords.verify(kept, password, doubt=doubt)
        return _service("password", settings.role) if fits else None

    def _now(self) -> DoveadmSettings:
        """The settings; what is kept of other ones is dropped."""
        settings = self._desk.settings().dialects.doveadm
        if settings is not self._settings:
            if settings.password != self._settings.password:
                self._password = None
            self._settings = settings
            keys = [(f"key {each.name}", each.key, each.role) for each in settings.keys]
            if settings.api_key:
                keys.insert(0, ("api_key", settings.api_key, settings.role))
            self._services = [Service(digest(key.reveal()), _service(name, role)) for name, key, role in keys if key]
        return settings


def _service(credential: str, role: str) -> Principal:
    return Principal(SERVICE, RESERVED_NAME, frozenset(), credential, role=role)


def authorization(request: Request) -> tuple[str, str]:
    """Scheme in lower case and credential of the first Authorization header; the cookie alone has none."""
    values = request.headers.get("authorization", [])
    match = _AUTHORIZATION.fullmatch(values[0].strip(" \t")) if values and len(values[0]) <= 2 * MOST else None
    return (match[1].lower(), (match[2] or "").strip(" ")) if match else ("", "")


def _pair(sent: str) -> tuple[str, str]:
    name, colon, password = (_decoded(sent) or "").partition(":")
    return (name, password) if colon else ("", "")


def _decoded(text: str) -> str | None:
    """The text of standard base64, padded or not; None where it is none."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
