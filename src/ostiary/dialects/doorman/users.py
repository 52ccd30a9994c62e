"""Users, in Doorman's 21 members.

For who is no administrator, administrators do not exist; the owner is changed by nobody over this surface.
"""

from msgspec import UNSET

from ostiary.control import users as accounts
from ostiary.control.users import CreateUser, ListUsers, OneUser, OwnUser, SetPassword, SetRole, UpdateUser
from ostiary.core.people import User, role_name_ok, user_name_ok
from ostiary.core.permission import ADMINISTRATORS, OWNER_ROLE, USER
from ostiary.core.refusal import Forbidden, Invalid
from ostiary.dialects.doorman.asked import Asked, Row, signed_in
from ostiary.dialects.doorman.bodies import NOT_KEPT, CreateUserBody, NotKept, PasswordBody, UpdateUserBody, given, read
from ostiary.dialects.doorman.cookies import no_cookies
from ostiary.dialects.doorman.paging import page_of
from ostiary.dialects.doorman.words import Headers, Said, Words, done, message
from ostiary.dialects.message import Answer
from ostiary.store.people import Page

RESERVED = frozenset({"me", "all", "email"})
"""They mean something else in these paths."""
RESTRICTED = frozenset({"role", "groups", "active", "username", "ui_access"})
"""What nobody changes of themselves without users:manage."""
MANAGE = "users:manage"

NOT_READ = ("USR008", "Unable to retrieve information for user")
NOT_YOURS = ("USR006", "Can only update your own information")
NOT_YOUR_PASSWORD = ("USR006", "Can only update your own password")
NOT_YOUR_ACCOUNT = ("USR007", "Can only delete your own account")
_GIVING = Said(403, "USR013", "Only admin may change admin role assignments")
_MAKING = Said(403, "USR015", "Only admin may create users with the admin role")
_NO_DELETE = Said(403, "USR021", "Super admin user cannot be deleted")
_CREATE: Words = {"role.promote": _MAKING, "owner.exists": _MAKING}
_UPDATE: Words = {
    "user.renamed": Said(400, "USR004", "Unable to update user"),
    "user.restricted": Said(403, "USR023"),
    "user.owner": Said(403, "USR020", "Super admin user cannot be modified"),
    "role.unknown": Said(400, "ROLE004", "Role does not exist"),
    "role.promote": _GIVING,
    "owner.role": _GIVING,
    "owner.exists": _GIVING,
}
_PASSWORD: Words = {"user.owner": Said(403, "USR022", "Super admin password cannot be changed via UI")}
_DELETE: Words = {
    "user.owner": _NO_DELETE,
    "owner.delete": _NO_DELETE,
    "user.owns_apps": Said(400, "USR003", "Unable to delete user"),
}


def shown(user: User) -> dict[str, object]:
    """A user as Doorman shows one; what is not kept is null."""
    return {
        "username": user.name,
        "email": user.email or None,
        "role": user.role,
        "groups": user.groups,
        "custom_attributes": user.attributes,
        "active": user.active,
        "ui_access": user.ui_access or user.role == OWNER_ROLE,
        **dict.fromkeys(NOT_KEPT),
    }


async def sought(asked: Asked) -> User:
    """The user whom the path names. Refuses NotFound `user.unknown`, also for administrators who are hidden."""
    return visible(asked, await asked.desk.control.users.get(asked.item) if user_name_ok(asked.item) else None)


def visible(asked: Asked, user: User | None) -> User:
    """The user, if there is one for who asks."""
    hidden = user is not None and user.role in ADMINISTRATORS and not asked.sees_administrators
    if user is None or hidden:
        raise accounts.unknown()
    return user


def check_name(name: str) -> None:
    """Refuse Invalid `user.name` for names that no user of this surface may have."""
    if name in RESERVED or not user_name_ok(name):
        raise Invalid("user.name", "must have 1 to 64 letters, digits or _.@+- and not be me, all or email")


def ignored(body: NotKept) -> Headers:
    """The header that names what was given and is not kept."""
    names = [name for name in given(body) if name in NOT_KEPT]
    return (("X-Ostiary-Ignored", ", ".join(names)),) if names else ()


async def me(asked: Asked) -> Answer:
    """Who is signed in."""
    if asked.call.principal.kind != USER:
        raise accounts.unknown()
    return done(shown(await asked.run("users.get")))


async def list_(asked: Asked) -> Answer:
    """Users by name."""
    page = page_of(asked.request)
    which = ListUsers("name", page.size, page.offset, hide_administrators=not asked.sees_administrators)
    found: Page = await asked.run("users.list", which)
    return done(page.show("users", [shown(user) for user in found.users], found.total))


async def get(asked: Asked) -> Answer:
    """A user by name."""
    return done(shown(await sought(asked)))


async def by_address(asked: Asked) -> Answer:
    """A user by address, or oneself."""
    user = await asked.desk.control.users.at(asked.item)
    oneself = user is not None and asked.call.principal.kind == USER and user.number == asked.call.principal.number
    if not oneself and not asked.may("users:read"):
        raise Forbidden("permission.denied", "This needs the permission users:read")
    return done(shown(visible(asked, user)))


async def create(asked: Asked) -> Answer:
    """A new user, and with it the role if there is none of that name."""
    body = read(asked.request.body, CreateUserBody)
    check_name(body.username)
    if not role_name_ok(body.role):
        raise Invalid("user.role", "must have 1 to 50 letters, digits or _.- and not be all")
    _check_giving(asked, body.role)
    new = CreateUser(
        body.username, body.role, body.password, body.email,
        groups=[] if body.groups is UNSET else body.groups,
        attributes={} if body.custom_attributes is UNSET else body.custom_attributes,
        active=body.active is not False, ui_access=body.ui_access is True, make_role=True,
    )  # fmt: skip
    await asked.run("users.create", new)
    return message("User created successfully", *ignored(body), status=201)


async def update(asked: Asked) -> Answer:
    """Change what is kept of a user; role and activity by their own operations."""
    body = read(asked.request.body, UpdateUserBody)
    sent = [name for name in given(body) if name not in NOT_KEPT]
    _check_members(asked, sent)
    user = await sought(asked)
    if user.role == OWNER_ROLE and sent:
        raise Forbidden("user.owner", "The owner is not changed over this surface")
    if body.username not in (UNSET, user.name):
        raise Invalid("user.renamed", "A user name stays")
    await _check_role(asked, body)
    await _apply(asked, user, body, sent)
    return message("User updated successfully", *ignored(body), *asked.receipt())


def _check_members(asked: Asked, sent: list[str]) -> None:
    """Refuse Forbidden `user.restricted`, `auth.denied`."""
    restricted = [name for name in sent if name in RESTRICTED]
    if restricted and not asked.may(MANAGE):
        names = ", ".join(restricted)
        told = f"Cannot modify restricted fields without manage_users permission: {names}"
        raise Forbidden("user.restricted", told)
    if "active" in sent and not asked.may("auth:manage"):
        raise Forbidden("auth.denied", "This needs the permission auth:manage")


async def _check_role(asked: Asked, body: UpdateUserBody) -> None:
    """Refuse before anything has changed: Forbidden `role.promote`, `role.above`, NotFound `role.unknown`."""
    if body.role is UNSET:
        return
    _check_giving(asked, body.role)
    await accounts.check_role(asked.desk.control, asked.call, body.role)


def _check_giving(asked: Asked, role: str) -> None:
    """Refuse Forbidden `role.promote`."""
    if role == OWNER_ROLE or (role in ADMINISTRATORS and not asked.sees_administrators):
        raise Forbidden("role.promote", "Only administrators make administrators, and nobody makes an owner")


async def _apply(asked: Asked, user: User, body: UpdateUserBody, sent: list[str]) -> None:
    if set(sent) - {"role", "active", "username"} or not set(sent) - {"username"}:
        change = UpdateUser(user.name, body.email, body.groups, body.custom_attributes, body.ui_access)
        await asked.run("users.update", change)
    if body.role is not UNSET:
        await asked.run("users.set_role", SetRole(user.name, body.role))
    if body.active is not UNSET:
        await asked.run("users.enable" if body.active else "users.disable", OneUser(user.name))


async def set_password(asked: Asked) -> Answer:
    """Another password; of oneself by the present one."""
    body = read(asked.request.body, PasswordBody)
    user = await sought(asked)
    if user.role == OWNER_ROLE:
        raise Forbidden("user.owner", "The owner's password is set on the command line")
    present = body.old_password if body.current_password is UNSET else body.current_password
    if present is UNSET and asked.oneself:
        raise Invalid("password.current", "The current password is needed")
    change = SetPassword(body.new_password, user.name, None if present is UNSET else present)
    await asked.run("users.set_password", change)
    return message("User updated successfully", *asked.receipt())


async def delete(asked: Asked) -> Answer:
    """Delete a user, and take back the cookies of who deletes themselves."""
    user = await sought(asked)
    if user.role == OWNER_ROLE:
        raise Forbidden("user.owner", "The owner cannot be deleted")
    await asked.run("users.delete", OwnUser(user.name))
    return message("User deleted successfully", *(no_cookies(asked) if asked.oneself else ()), *asked.receipt())


_PATH = "/platform/user"
_ONE = f"{_PATH}/{{username}}"
ROWS = (
    Row("GET", f"{_PATH}/me", "users.get", me, NOT_READ, signed_in),
    Row("GET", _PATH, "users.list", list_, NOT_READ),
    Row("GET", f"{_PATH}/all", "users.list", list_, NOT_READ),
    Row("GET", f"{_PATH}/email/{{email}}", "users.get", by_address, NOT_READ, signed_in),
    Row("GET", _ONE, "users.get", get, NOT_READ, own=True),
    Row("POST", _PATH, "users.create", create, NOT_YOURS, words=_CREATE),
    Row("PUT", _ONE, "users.update", update, NOT_YOURS, own=True, words=_UPDATE),
    Row("PUT", f"{_ONE}/update-password", "users.set_password", set_password, NOT_YOUR_PASSWORD, own=True,
        words=_PASSWORD),
    Row("DELETE", _ONE, "users.delete", delete, NOT_YOUR_ACCOUNT, own=True, words=_DELETE),
)  # fmt: skip
