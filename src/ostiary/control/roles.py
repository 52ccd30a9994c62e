"""Roles: named sets of permissions. A change holds on the next request of whoever has the role."""

import re
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.control.scopes import Deleted
from ostiary.core.oauth import text_ok
from ostiary.core.people import Role, role_name_ok
from ostiary.core.permission import ROLES, may_give
from ostiary.core.refusal import Forbidden, Invalid, NotFound

_PERMISSION = re.compile(r"[a-z]+(?:_[a-z]+)*:[a-z]+(?:_[a-z]+)*", re.ASCII)
MOST_DESCRIPTION = 255
MOST_PERMISSIONS = 200
Permissions = Annotated[list[str], Meta(description="what it allows: subject:verb", max_length=MOST_PERMISSIONS)]


class ListRoles(Struct, frozen=True):
    """All of them."""


class OneRole(Struct, frozen=True):
    """A role by name."""

    role: Annotated[str, Meta(description="name of the role")]


class CreateRole(Struct, frozen=True):
    """A new role."""

    role: Annotated[str, Meta(description="name: letters, digits and _.-")]
    permissions: Permissions = []
    description: Annotated[str | None, Meta(description="what it is, for people")] = None


class UpdateRole(Struct, frozen=True):
    """What to change of a role; absent fields stay."""

    role: Annotated[str, Meta(description="name of the role")]
    permissions: Annotated[Permissions | UnsetType, Meta(description="what it allows: subject:verb")] = UNSET
    description: Annotated[str | UnsetType | None, Meta(description="what it is, for people")] = UNSET


def _unknown() -> NotFound:
    return NotFound("role.unknown", "There is no such role")


@operation("roles.list", reads=True, also=("users:manage",))
async def list_(control: Control, call: Call, params: ListRoles) -> list[Role]:
    """List the roles: the built-in ones, each of which holds what stands above it, then the others by name."""
    return [*(Role(name, ROLES[name], built_in=True) for name in ROLES), *await control.roles.page()]


@operation("roles.get", reads=True, also=("users:manage",))
async def get(control: Control, call: Call, params: OneRole) -> Role:
    """Show a role."""
    found = await control.roles.get(params.role) if role_name_ok(params.role) else None
    if found is None:
        raise _unknown()
    return found


@operation("roles.create", target="role")
async def create(control: Control, call: Call, params: CreateRole) -> Role:
    """Make a role."""
    if not role_name_ok(params.role):
        raise Invalid("role.name", "A role name has 1 to 50 letters, digits or _.- and is not all")
    permissions = frozenset(params.permissions)
    _check(call, permissions, params.description)
    role = Role(params.role, permissions, params.description)
    await control.roles.create(role, call.done(control.clock()))
    return role


@operation("roles.update", target="role")
async def update(control: Control, call: Call, params: UpdateRole) -> Role:
    """Change a role, for everybody who has it."""
    found = await get.run(control, call, OneRole(params.role))
    _check(call, found.permissions, None)
    permissions = None if params.permissions is UNSET else frozenset(params.permissions)
    description = None if params.description is UNSET else params.description
    _check(call, permissions or frozenset(), description)
    record = call.done(control.clock())
    return (await control.roles.update(params.role, permissions, params.description, record)).value


@operation("roles.delete", target="role")
async def delete(control: Control, call: Call, params: OneRole) -> Deleted:
    """Delete a role that nobody has."""
    found = await get.run(control, call, params)
    _check(call, found.permissions, None)
    await control.roles.delete(params.role, call.done(control.clock()))
    return Deleted(params.role)


def _check(call: Call, permissions: frozenset[str], description: str | None) -> None:
    """Refuse Invalid `role.permission`, `role.description`; Forbidden `role.above`."""
    if not all(_well_formed(each) for each in permissions):
        raise Invalid("role.permission", "A permission is subject:verb, in lower-case letters and _")
    if description is not None and not text_ok(description, MOST_DESCRIPTION):
        raise Invalid("role.description", f"A description has at most {MOST_DESCRIPTION} characters")
    if not may_give(call.principal.permissions, permissions):
        raise Forbidden("role.above", "The role has a permission that you do not hold")


def _well_formed(permission: str) -> bool:
    return len(permission) <= 64 and _PERMISSION.fullmatch(permission) is not None
