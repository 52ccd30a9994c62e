"""Services: keys of the configuration that stand for a role (doveadm.md 1.2), on every surface alike.

They are kept as SHA-256, and made anew when the settings change, which is how a reload takes a key away at once.
"""

from collections.abc import Callable
from hmac import compare_digest
from typing import NamedTuple

from msgspec.structs import replace

from ostiary.control.control import Control
from ostiary.core.configuration.settings import DoveadmSettings, Settings
from ostiary.core.digest import digest
from ostiary.core.people import RESERVED_NAME
from ostiary.core.permission import ROLES, Principal

SERVICE = "service"
"""The kind of a principal that is a key of the configuration."""


class Service(NamedTuple):
    """A key: what is kept of it, and for whom it stands."""

    kept: bytes
    principal: Principal


class Services:
    """The keys, as the settings have them now."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._now = settings
        self._settings = DoveadmSettings()
        self._keys: list[Service] = []

    def all(self) -> list[Service]:
        """Every key; what is kept of other settings is dropped."""
        settings = self._now().dialects.doveadm
        if settings is not self._settings:
            self._settings = settings
            keys = [(f"key {each.name}", each.key, each.role) for each in settings.keys]
            if settings.api_key:
                keys.insert(0, ("api_key", settings.api_key, settings.role))
            self._keys = [Service(digest(key.reveal()), service(name, role)) for name, key, role in keys if key]
        return self._keys

    def of(self, key: str) -> Principal | None:
        """Whom a key stands for, its role yet to be looked up (`permitted`); all are compared, whichever fits."""
        shown = digest(key)
        fitting = [each.principal for each in self.all() if compare_digest(each.kept, shown)]
        return fitting[0] if fitting else None


def service(credential: str, role: str) -> Principal:
    """Who shows that credential of the configuration."""
    return Principal(SERVICE, RESERVED_NAME, frozenset(), credential, role=role)


async def permitted(control: Control, principal: Principal) -> Principal:
    """A service with what its role holds now. Refuses Unavailable where that cannot be asked."""
    if principal.role in ROLES:
        return replace(principal, permissions=ROLES[principal.role])
    role = await control.roles.get(principal.role)
    return replace(principal, permissions=role.permissions if role else frozenset())
