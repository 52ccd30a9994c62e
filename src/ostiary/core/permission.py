"""Permissions and the built-in roles: who may do what, as data."""

from msgspec import Struct

MEMBER = frozenset({"apps:own"})
VIEWER = MEMBER | {
    "config:read", "routes:read", "scopes:read", "applications:read", "droplets:read", "director:read",
    "sessions:read", "penalties:read", "stats:read", "services:read", "metrics:read",
}  # fmt: skip
MANAGER = VIEWER | {
    "config:reload", "gateway:manage", "scopes:manage", "applications:manage", "tokens:read", "droplets:manage",
    "droplets:logs", "director:manage", "sessions:kick", "stats:manage", "cluster:read",
}  # fmt: skip
LATER = frozenset({
    "apis:manage", "endpoints:manage", "groups:manage", "routings:manage", "subscriptions:manage", "tiers:manage",
    "rate_limits:manage", "credits:manage",
})  # fmt: skip
"""Nothing asks for these yet; roles may hold them."""
ADMIN = MANAGER | {
    "users:read", "users:manage", "users:promote", "roles:manage", "tokens:issue", "tokens:manage",
    "applications:secrets", "settings:manage", "penalties:manage", "apps:manage", "audit:read", "logs:read",
    "logs:export", "security:manage", "services:manage", "cluster:manage", "keys:manage", "store:manage",
    "node:stop", "auth:manage",
} | LATER  # fmt: skip
OWNER = ADMIN | {"users:secrets", "users:own"}

USER = "user"
"""The kind of a principal who is a person."""
OWNER_ROLE = "owner"
ADMINISTRATORS = frozenset({"admin", OWNER_ROLE})

ROLES: dict[str, frozenset[str]] = {
    "member": MEMBER, "viewer": VIEWER, "manager": MANAGER, "admin": ADMIN, "owner": OWNER,
}  # fmt: skip


class Principal(Struct, frozen=True):
    """Who is asking: a user, an application, a service or a trusted network, with what it may do."""

    kind: str
    """`user`, `application`, `service`, `network` or `node` (Ostiary itself: a signal, the first start)."""
    name: str
    permissions: frozenset[str] = frozenset()
    credential: str = ""
    """Kind and id of the credential, for the audit record: `password`, `session 5f…`, `network`; never the secret."""
    number: int = 0
    """Of the user; 0: it is none."""
    role: str = ""
    digest: bytes = b""
    """Of a kept credential, which can be ended by it."""

    def may(self, permission: str) -> bool:
        """Whether `permission` (empty: none is asked) is held; who manages a subject may read it."""
        subject, _, verb = permission.partition(":")
        managed = verb == "read" and f"{subject}:manage" in self.permissions
        return not permission or permission in self.permissions or managed


NOBODY = Principal("nobody", "")


def may_give(giver: frozenset[str], given: frozenset[str]) -> bool:
    """Whether who holds `giver` may give a role with `given`, or change an account that has it.

    Nobody reaches above themselves; what `viewer` holds does not count, so who manages users may have plain users.
    """
    return given - VIEWER <= giver
