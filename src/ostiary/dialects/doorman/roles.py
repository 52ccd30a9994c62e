"""Roles, in Doorman's 16 flags. A flag stands for all permissions beside it; those without a flag are left alone."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from ostiary.control.roles import MOST_DESCRIPTION, CreateRole, OneRole, UpdateRole
from ostiary.core.people import Role
from ostiary.core.permission import ADMINISTRATORS, OWNER_ROLE
from ostiary.core.refusal import Conflict, Forbidden, Invalid, NotFound
from ostiary.dialects.doorman.asked import Asked, Row
from ostiary.dialects.doorman.bodies import given, read
from ostiary.dialects.doorman.paging import page_of
from ostiary.dialects.doorman.words import Said, Words, done, message
from ostiary.dialects.message import Answer

FLAGS: dict[str, frozenset[str]] = {
    "manage_users": frozenset({"users:manage", "users:read"}),
    "manage_apis": frozenset({"apis:manage"}),
    "manage_endpoints": frozenset({"endpoints:manage"}),
    "manage_groups": frozenset({"groups:manage"}),
    "manage_roles": frozenset({"roles:manage"}),
    "manage_routings": frozenset({"routings:manage"}),
    "manage_gateway": frozenset({"gateway:manage", "config:read", "config:reload"}),
    "manage_subscriptions": frozenset({"subscriptions:manage"}),
    "manage_security": frozenset({"security:manage"}),
    "manage_tiers": frozenset({"tiers:manage"}),
    "manage_rate_limits": frozenset({"rate_limits:manage"}),
    "manage_credits": frozenset({"credits:manage"}),
    "manage_auth": frozenset({"auth:manage", "tokens:manage", "tokens:read", "penalties:manage"}),
    "view_analytics": frozenset({"metrics:read"}),
    "view_logs": frozenset({"logs:read"}),
    "export_logs": frozenset({"logs:export"}),
}

Name = Annotated[str, Meta(max_length=50)]
Description = Annotated[str, Meta(max_length=MOST_DESCRIPTION)]


class Flags(Struct, frozen=True, kw_only=True):
    """Those that are given."""

    manage_users: bool | UnsetType = UNSET
    manage_apis: bool | UnsetType = UNSET
    manage_endpoints: bool | UnsetType = UNSET
    manage_groups: bool | UnsetType = UNSET
    manage_roles: bool | UnsetType = UNSET
    manage_routings: bool | UnsetType = UNSET
    manage_gateway: bool | UnsetType = UNSET
    manage_subscriptions: bool | UnsetType = UNSET
    manage_security: bool | UnsetType = UNSET
    manage_tiers: bool | UnsetType = UNSET
    manage_rate_limits: bool | UnsetType = UNSET
    manage_credits: bool | UnsetType = UNSET
    manage_auth: bool | UnsetType = UNSET
    view_analytics: bool | UnsetType = UNSET
    view_logs: bool | UnsetType = UNSET
    export_logs: bool | UnsetType = UNSET

    def applied(self, permissions: frozenset[str]) -> frozenset[str]:
        """The permissions, with what the given flags set and without what they clear."""
        values = {name: getattr(self, name) for name in FLAGS}
        cleared = frozenset().union(*(FLAGS[name] for name, value in values.items() if value is False))
        return (permissions - cleared).union(*(FLAGS[name] for name, value in values.items() if value is True))


class CreateRoleBody(Flags, frozen=True, kw_only=True):
    """A new role."""

    role_name: Name
    role_description: Description | UnsetType = UNSET


class UpdateRoleBody(Flags, frozen=True, kw_only=True):
    """What to change of a role."""

    role_name: str | UnsetType = UNSET
    role_description: Description | UnsetType = UNSET


NO_READ = ("ROLE012", "You do not have permission to read roles")
NO_CREATE = ("ROLE009", "You do not have permission to create roles")
NO_UPDATE = ("ROLE010", "You do not have permission to update roles")
NO_DELETE = ("ROLE011", "You do not have permission to delete roles")
_CREATE: Words = {
    "role.exists": Said(400, "ROLE001", "Role already exists"),
    "role.administrators": Said(403, "ROLE013", "Only admin may create the admin role"),
}
_UPDATE: Words = {
    "role.renamed": Said(400, "ROLE005", "Role name cannot be changed"),
    "role.nothing": Said(400, "ROLE007", "No data to update"),
    "role.administrators": Said(403, "ROLE014", "Only admin may modify the admin role"),
    "role.built_in": Said(400, "ROLE006", "Unable to update role"),
}
_DELETE: Words = {
    "role.built_in": Said(400, "ROLE008", "Unable to delete role"),
    "role.in_use": Said(400, "ROLE008", "Unable to delete role"),
    "role.administrators": Said(403, "ROLE016", "Only admin may delete the admin role"),
}


def shown(role: Role) -> dict[str, object]:
    """A role as Doorman shows one.

    Of the built-in ones, administrators have every flag and the others none, as Doorman's clients know them, although
    some hold the permissions of one.
    """
    flags: dict[str, Any] = {name: bundle <= role.permissions for name, bundle in FLAGS.items()}
    if role.built_in:
        flags = dict.fromkeys(FLAGS, role.name in ADMINISTRATORS)
    return {"role_name": role.name, "role_description": role.description, **flags}


def _check_hidden(asked: Asked) -> None:
    """Refuse Forbidden `role.administrators` where the path names a role that is above who asks."""
    if asked.item in ADMINISTRATORS and not asked.sees_administrators:
        raise Forbidden("role.administrators", "This role is for administrators")


async def list_(asked: Asked) -> Answer:
    """Roles by name."""
    page = page_of(asked.request)
    roles: list[Role] = await asked.run("roles.list")
    seen = sorted((each for each in roles if _visible(asked, each.name)), key=lambda each: each.name)
    part = seen[page.offset : page.offset + page.size]
    return done(page.show("roles", [shown(each) for each in part], len(seen)))


async def get(asked: Asked) -> Answer:
    """A role by name."""
    if not _visible(asked, asked.item):
        raise NotFound("role.unknown", "There is no such role")
    return done(shown(await asked.run("roles.get", OneRole(asked.item))))


def _visible(asked: Asked, name: str) -> bool:
    return asked.sees_administrators or name not in ADMINISTRATORS


async def create(asked: Asked) -> Answer:
    """A new role."""
    body = read(asked.request.body, CreateRoleBody)
    if not _visible(asked, body.role_name):
        raise Forbidden("role.administrators", "This role is for administrators")
    permissions = sorted(body.applied(frozenset()))
    description = None if body.role_description is UNSET else body.role_description
    await asked.run("roles.create", CreateRole(body.role_name, permissions, description))
    return message("Role created successfully", status=201)


async def update(asked: Asked) -> Answer:
    """Change a role, for everybody who has it."""
    body = read(asked.request.body, UpdateRoleBody)
    if not given(body):
        raise Invalid("role.nothing", "There is nothing to change")
    _check_hidden(asked)
    if asked.item == OWNER_ROLE:
        raise Forbidden("role.administrators", "The owner's role stays")
    role: Role = await asked.run("roles.get", OneRole(asked.item))
    if body.role_name not in (UNSET, role.name):
        raise Invalid("role.renamed", "A role's name stays")
    if role.built_in:
        raise Conflict("role.built_in", "A built-in role stays as it is")
    permissions = sorted(body.applied(role.permissions))
    changed: Role = await asked.run("roles.update", UpdateRole(role.name, permissions, body.role_description))
    return done(shown(changed), *asked.receipt())


async def delete(asked: Asked) -> Answer:
    """Delete a role that nobody has."""
    _check_hidden(asked)
    await asked.run("roles.delete", OneRole(asked.item))
    return message("Role deleted successfully", *asked.receipt())


_PATH = "/platform/role"
_ONE = f"{_PATH}/{{role_name}}"
_READERS = ("roles:manage", "users:manage")
ROWS = (
    Row("GET", _PATH, "roles.list", list_, NO_READ, permissions=_READERS),
    Row("GET", f"{_PATH}/all", "roles.list", list_, NO_READ, permissions=_READERS),
    Row("GET", _ONE, "roles.get", get, NO_READ, permissions=_READERS),
    Row("POST", _PATH, "roles.create", create, NO_CREATE, words=_CREATE),
    Row("PUT", _ONE, "roles.update", update, NO_UPDATE, words=_UPDATE),
    Row("DELETE", _ONE, "roles.delete", delete, NO_DELETE, words=_DELETE),
)
