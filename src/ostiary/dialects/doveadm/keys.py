"""Who is asking: service keys and the service password of the configuration, and every other operator's credential.

The password is kept as argon2id, made anew when the settings change. A wrong one is a guess of its address, and of
nobody's account, as is a wrong key.
"""

import asyncio
import base64
import binascii
import re

from msgspec.structs import replace

from ostiary.core.configuration.settings import DoveadmSettings
from ostiary.core.people import RESERVED_NAME
from ostiary.core.permission import NOBODY, Principal
from ostiary.core.refusal import Unauthenticated
from ostiary.dialects.credentials import operator
from ostiary.dialects.desk import Desk
from ostiary.dialects.message import Request
from ostiary.dialects.services import SERVICE, permitted, service

KEY, BASIC = "x-dovecot-api", "basic"
MOST = 4096
"""Characters of a credential that are looked at."""
_AUTHORIZATION = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?: +(.*))?", re.DOTALL)
_WITH_ORIGIN = ("origin", "sec-fetch-site")


class Keys:
    """The credentials of the surface, as the settings have them now."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._settings = DoveadmSettings()
        self._password: asyncio.Future[str] | None = None

    @property
    def challenges(self) -> tuple[tuple[str, str], ...]:
        """A line for each scheme that is configured; where none is, other operators may still come."""
        settings = self._now()
        schemes = [
            *(["X-Dovecot-API"] if self._desk.services.all() else []),
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
        return await permitted(self._desk.control, principal) if principal.kind == SERVICE else principal

    async def _guarded(self, request: Request, name: str, secret: str) -> Principal:
        """The service that a key (without a name) or the password is of."""
        penalties = self._desk.control.penalties
        penalties.check(request.address)
        found = (
            await self._by_password(secret, request.address) if name else self._desk.services.of(_decoded(secret) or "")
        )
        if found is None:
            penalties.failed(request.address, name, secret)
            raise Unauthenticated("credential.refused", "The credential is not valid")
        return found

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
        return service("password", settings.role) if fits else None

    def _now(self) -> DoveadmSettings:
        """The settings; a password of other ones is forgotten."""
        settings = self._desk.settings().dialects.doveadm
        if settings is not self._settings:
            if settings.password != self._settings.password:
                self._password = None
            self._settings = settings
        return settings


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
