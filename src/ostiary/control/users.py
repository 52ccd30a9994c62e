"""Users: accounts of people. What a change takes away is refused on every surface before its answer.

Two rules hold everywhere (core.permission.may_give): nobody gives a role with a permission that they lack, and nobody
changes an account whose role has a permission that they lack.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ostiary.control import totp
from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.control.registry import operation
from ostiary.control.totp import Enrolment
from ostiary.core.oauth import text_ok
from ostiary.core.people import Role, User, check_password, email_ok, role_name_ok, user_name_ok
from ostiary.core.permission import ADMINISTRATORS, OWNER_ROLE, USER, may_give
from ostiary.core.refusal import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from ostiary.link.messages import Change
from ostiary.store.people import Attributes, NewUser, Page, UserChange, UserFilter
from ostiary.store.ports import Record

MOST_TEXT = 255
MOST_ATTRIBUTES = 10
Name = Annotated[str, Meta(description="name of the user")]
Own = Annotated[str, Meta(description="name of the user; empty: oneself")]
Password = Annotated[str, Meta(description="the password")]


class ListUsers(Struct, frozen=True):
    """Which users."""

    order: Annotated[Literal["created", "name"], Meta(description="oldest first, or by name")] = "created"
    limit: Annotated[int, Meta(ge=1, le=10_000, description="at most so many")] = 100
    offset: Annotated[int, Meta(ge=0, description="without the first so many")] = 0
    roles: Annotated[list[str], Meta(description="only those with one of these roles")] = []
    active: Annotated[bool | None, Meta(description="only active, or only disabled ones")] = None
    hide_administrators: Annotated[bool, Meta(description="without those whose role is admin or owner")] = False


class OneUser(Struct, frozen=True):
    """A user by name."""

    user: Name


class OwnUser(Struct, frozen=True):
    """A user by name, or oneself."""

    user: Own = ""


class FindUser(Struct, frozen=True):
    """A user by name or address, or oneself."""

    user: Own = ""
    email: Annotated[str, Meta(description="address of the user, instead of the name")] = ""


class RegisterUser(Struct, frozen=True):
    """A new account of one's own."""

    name: Annotated[str, Meta(description="user name: letters, digits and _.@+-")]
    password: Password
    email: Annotated[str, Meta(description="address, an alternative to the name at log-in")] = ""
    first_name: Annotated[str, Meta(description="given name")] = ""
    last_name: Annotated[str, Meta(description="family name")] = ""
    spare_email: Annotated[bool, Meta(description="leave out an address that another account has")] = False


class CreateUser(Struct, frozen=True):
    """A new account."""

    name: Annotated[str, Meta(description="user name: letters, digits and _.@+-")]
    role: Annotated[str, Meta(description="name of its role")]
    password: Annotated[str | None, Meta(description="password; absent: log-in by code only")] = None
    email: Annotated[str, Meta(description="address, an alternative to the name at log-in")] = ""
    groups: Annotated[list[str], Meta(description="labels, without effect")] = []
    attributes: Annotated[Attributes, Meta(description="up to 10 values kept with it")] = {}
    active: Annotated[bool, Meta(description="whether it may come in")] = True
    ui_access: Annotated[bool, Meta(description="whether it may use the console")] = False
    totp: Annotated[bool, Meta(description="make a TOTP secret and show it, once")] = False
    make_role: Annotated[bool, Meta(description="make the role, without permissions, if there is none")] = False


class UpdateUser(Struct, frozen=True):
    """What to change of a user; absent fields stay."""

    user: Own = ""
    email: Annotated[str | UnsetType, Meta(description="address")] = UNSET
    groups: Annotated[list[str] | UnsetType, Meta(description="labels")] = UNSET
    attributes: Annotated[Attributes | UnsetType, Meta(description="values kept with it")] = UNSET
    ui_access: Annotated[bool | UnsetType, Meta(description="whether it may use the console")] = UNSET
    first_name: Annotated[str | UnsetType, Meta(description="given name")] = UNSET
    last_name: Annotated[str | UnsetType, Meta(description="family name")] = UNSET


class SetPassword(Struct, frozen=True):
    """A new password."""

    new_password: Annotated[str, Meta(description="the new password")]
    user: Own = ""
    current_password: Annotated[str | None, Meta(description="the present one: needed for oneself")] = None


class ResetTotp(Struct, frozen=True):
    """Whose secret is replaced."""

    user: Own = ""
    current_password: Annotated[str | None, Meta(description="the password: needed for oneself")] = None


class SetRole(Struct, frozen=True):
    """Another role."""

    user: Name
    role: Annotated[str, Meta(description="name of the role")]


class Transfer(Struct, frozen=True):
    """Who becomes owner."""

    user: Name


class Created(Struct, frozen=True):
    """A new user; the TOTP secret is shown only here."""

    user: User
    enrolment: Enrolment | None = None


class Status(Struct, frozen=True):
    """Whether a user may come in, and whether what was issued before a cut-off is refused."""

    user: str
    active: bool
    revoked: bool


class Done(Struct, frozen=True):
    """Whom it was about."""

    user: str


def unknown() -> NotFound:
    """What there is no user of that name is called."""
    return NotFound("user.unknown", "There is no such user")


async def named(control: Control, call: Call, name: str) -> User:
    """The user of that name (empty: who asks). Refuses NotFound `user.unknown`."""
    wanted = name or (call.principal.name if call.principal.kind == USER else "")
    found = await control.users.get(wanted) if user_name_ok(wanted) else None
    if found is None:
        raise unknown()
    return found


async def target(control: Control, call: Call, name: str) -> User:
    """The same, if who asks may change that account. Refuses also Forbidden `user.above`."""
    found = await named(control, call, name)
    if found.number != call.principal.number:
        role = await control.roles.get(found.role)
        _check_reach(call, role)
    return found


def _check_reach(call: Call, role: Role | None) -> None:
    if role is not None and not may_give(call.principal.permissions, role.permissions):
        raise Forbidden("user.above", "The user's role has a permission that you do not hold")


async def check_role(control: Control, call: Call, name: str) -> Role:
    """The role to be given. Refuses NotFound `role.unknown`, Forbidden `role.above`."""
    role = await control.roles.get(name) if role_name_ok(name) else None
    if role is None:
        raise NotFound("role.unknown", "There is no such role")
    if not may_give(call.principal.permissions, role.permissions):
        raise Forbidden("role.above", "The role has a permission that you do not hold")
    return role


async def check_ownerless(control: Control) -> None:
    """Refuse Conflict `owner.exists`. The store refuses a second owner too, whoever looks first."""
    if (await control.users.page(UserFilter(limit=1, roles=(OWNER_ROLE,)))).users:
        raise Conflict("owner.exists", "The system cannot have multiple owners")


@operation("users.list", reads=True)
async def list_(control: Control, call: Call, params: ListUsers) -> Page:
    """List the users."""
    hidden = tuple(sorted(ADMINISTRATORS)) if params.hide_administrators else ()
    roles = tuple(role for role in params.roles if text_ok(role, MOST_TEXT))
    if params.roles and not roles:
        return Page([], 0)
    return await control.users.page(UserFilter(params.order, params.offset, params.limit, roles, hidden, params.active))


@operation("users.get", reads=True, own="user")
async def get(control: Control, call: Call, params: FindUser) -> User:
    """Show a user."""
    if not params.email:
        return await named(control, call, params.user)
    found = await control.users.at(params.email) if email_ok(params.email) else None
    if found is None:
        raise unknown()
    return found


@operation("users.status", reads=True, also=("auth:manage",))
async def status(control: Control, call: Call, params: OneUser) -> Status:
    """Say whether a user may come in, and whether earlier credentials are refused."""
    found = await named(control, call, params.user)
    return Status(found.name, found.active, found.cut_off is not None)


@operation("users.register", permission="", target="name")
async def register(control: Control, call: Call, params: RegisterUser) -> User:
    """Make an account of one's own; on an empty system the first one is the owner's."""
    control.penalties.admit_registration(call.address)
    await check_switch(control, call)
    _check(control, params.name, params.email, params.password)
    _check_texts(params.first_name, params.last_name)
    kept = await control.passwords.make(params.password, known=False)
    rules, now = control.rules.people, control.clock()
    role = rules.registration_role
    new = NewUser(params.name, role, now, params.email, kept, first_name=params.first_name, last_name=params.last_name)
    first: Literal["owner", "no"] = "owner" if await mode(control) == "enabled" else "no"
    return await _made(control, new, call.done(now), first, spare=params.spare_email)


async def _made(control: Control, new: NewUser, record: Record, first: Literal["owner", "no"], *, spare: bool) -> User:
    try:
        return await control.users.create(new, record, first=first)
    except Conflict as refusal:
        if not spare or refusal.code != "email.exists":
            raise
    return await control.users.create(msgspec.structs.replace(new, email=""), record, first=first)


async def mode(control: Control) -> str:
    """Who may register: `enabled`, `disabled`, `admin_only`; what operators have set stands above the file."""
    return (await control.settings.all()).get("registration.mode", control.rules.people.registration_mode)


async def check_switch(control: Control, call: Call) -> None:
    """Refuse Forbidden `registration.disabled`, `registration.administrators` where who asks may not register."""
    switch = await mode(control)
    if switch == "admin_only" and call.principal.may("users:manage"):
        return
    if switch != "enabled":
        code = "disabled" if switch == "disabled" else "administrators"
        raise Forbidden(f"registration.{code}", "Registration is disabled")


def _check(control: Control, name: str, email: str, password: str | None) -> None:
    if not user_name_ok(name):
        raise Invalid("user.name", "A user name has 1 to 64 letters, digits or _.@+- (first a letter, digit or _)")
    if email and not email_ok(email):
        raise Invalid("user.email", "The address is not valid")
    if password is not None:
        check_password(password, name, control.rules.people.min_password)


def _check_texts(*texts: str | UnsetType) -> None:
    if not all(each is UNSET or text_ok(each, MOST_TEXT) for each in texts):
        raise Invalid(
            "user.text", f"A text has at most {MOST_TEXT} characters, none of them NUL or half a surrogate pair"
        )


def _check_kept(groups: list[str] | UnsetType, attributes: Attributes | UnsetType) -> None:
    if groups is not UNSET and (len(groups) > 100 or not all(text_ok(each, MOST_TEXT) for each in groups)):
        raise Invalid("user.groups", f"There may be 100 labels of at most {MOST_TEXT} characters")
    if attributes is UNSET:
        return
    if len(attributes) > MOST_ATTRIBUTES:
        raise Invalid("user.attributes", f"Maximum {MOST_ATTRIBUTES} custom attributes allowed.")
    texts = [*attributes, *(each for each in attributes.values() if isinstance(each, str))]
    if not all(text_ok(each, MOST_TEXT) for each in texts):
        raise Invalid("user.attribute", f"A custom attribute has at most {MOST_TEXT} characters")


@operation("users.create", target="name")
async def create(control: Control, call: Call, params: CreateUser) -> Created:
    """Make an account."""
    _check(control, params.name, params.email, params.password)
    _check_kept(params.groups, params.attributes)
    if await control.users.taken(params.name):
        raise Conflict("user.exists", "The user name is taken")
    if params.role == OWNER_ROLE:
        await check_ownerless(control)
    if not (params.make_role and role_name_ok(params.role) and await control.roles.get(params.role) is None):
        await check_role(control, call, params.role)
    kept = "" if params.password is None else await control.passwords.make(params.password)
    now = control.clock()
    new = NewUser(
        params.name, params.role, now, params.email, kept, active=params.active, groups=tuple(params.groups),
        attributes=params.attributes, ui_access=params.ui_access, make_role=params.make_role,
    )  # fmt: skip
    user = await control.users.create(new, call.done(now))
    if not params.totp:
        return Created(user)
    return Created(msgspec.structs.replace(user, has_totp=True), await _enrol(control, call, user, again=True))


@operation("users.update", own="user", target="user")
async def update(control: Control, call: Call, params: UpdateUser) -> User:
    """Change what is kept of a user."""
    found = await target(control, call, params.user)
    if not call.principal.may("users:manage") and params.ui_access is not UNSET:
        raise Forbidden("user.restricted", "Only who manages users changes this")
    if params.email is not UNSET and params.email and not email_ok(params.email):
        raise Invalid("user.email", "The address is not valid")
    _check_texts(params.first_name, params.last_name)
    _check_kept(params.groups, params.attributes)
    change = UserChange(
        params.email, UNSET if params.groups is UNSET else tuple(params.groups), params.attributes, params.ui_access,
        params.first_name, params.last_name,
    )  # fmt: skip
    return (await control.users.update(found.number, change, call.done(control.clock()))).value


@operation("users.delete", own="user", target="user")
async def delete(control: Control, call: Call, params: OwnUser) -> Done:
    """Delete a user; nothing that was issued to them passes ever again."""
    found = await target(control, call, params.user)
    seq = await control.users.delete(found.number, call.done(control.clock(), found.name))
    await _tell(control, call, seq, found.name)
    return Done(found.name)


@operation("users.set_password", own="user", target="user")
async def set_password(control: Control, call: Call, params: SetPassword) -> Done:
    """Set a password; it ends all that the user holds, but for the credential that asks (unless settings say else)."""
    found = await target(control, call, params.user)
    own = found.number == call.principal.number
    if own or params.current_password is not None:
        await _prove(control, call, found, params.current_password or "")
    check_password(params.new_password, found.name, control.rules.people.min_password)
    kept = await control.passwords.make(params.new_password)
    keep = call.principal.digest if own else b""
    record, ends = call.done(control.clock(), found.name), control.rules.people.password_ends
    changed = await control.users.set_password(found.number, kept, record, keep, ends=ends)
    if ends:
        await _tell(control, call, changed.seq, found.name)
    return Done(found.name)


async def _prove(control: Control, call: Call, user: User, password: str) -> None:
    """Refuse Invalid `password.current`, Limited `login.throttled`."""
    try:
        await control.login.by_password(user.name, password, call.address)
    except Unauthenticated:
        raise Invalid("password.current", "The current password does not match") from None
    except Forbidden:
        return  # the password is right, though it does not let its user in


@operation("users.set_role", target="user")
async def set_role(control: Control, call: Call, params: SetRole) -> User:
    """Give a user another role."""
    found = await target(control, call, params.user)
    if params.role == found.role:
        return found
    await check_role(control, call, params.role)
    if "admin" in (found.role, params.role) and not call.principal.may("users:promote"):
        raise Forbidden("role.promote", "Giving or taking the role admin needs the permission users:promote")
    changed = await control.users.set_role(found.number, params.role, call.done(control.clock(), found.name))
    return changed.value


@operation("users.transfer_ownership", permission="users:own", target="user")
async def transfer_ownership(control: Control, call: Call, params: Transfer) -> User:
    """Hand ownership over; who was owner becomes admin."""
    heir = await named(control, call, params.user)
    if heir.number == call.principal.number:
        return heir
    record = call.done(control.clock(), heir.name)
    return (await control.users.transfer(call.principal.number, heir.number, record)).value


@operation("users.disable", target="user", also=("auth:manage",))
async def disable(control: Control, call: Call, params: OneUser) -> Status:
    """Keep a user out, and refuse all that was issued to them."""
    return await _switched(control, call, params.user, active=False)


@operation("users.enable", target="user", also=("auth:manage",))
async def enable(control: Control, call: Call, params: OneUser) -> Status:
    """Let a disabled user in again; what was issued before stays refused."""
    return await _switched(control, call, params.user, active=True)


async def _switched(control: Control, call: Call, name: str, *, active: bool) -> Status:
    found = await target(control, call, name)
    changed = await control.users.set_active(found.number, active, call.done(control.clock(), found.name))
    await _tell(control, call, changed.seq, found.name)
    return Status(found.name, changed.value.active, changed.value.cut_off is not None)


@operation("users.totp_setup", permission="users:secrets", own="user", target="user")
async def totp_setup(control: Control, call: Call, params: OwnUser) -> Enrolment:
    """Show the TOTP secret of a user, making one where there is none; nobody is shown their own twice."""
    found = await target(control, call, params.user)
    if found.has_totp and not call.principal.may("users:secrets"):
        raise Forbidden("totp.enrolled", "There is a TOTP secret already; a new one comes in its place by a reset")
    return await _enrol(control, call, found, again=False)


@operation("users.totp_reset", permission="users:secrets", own="user", target="user")
async def totp_reset(control: Control, call: Call, params: ResetTotp) -> Enrolment:
    """Give a user a new TOTP secret; codes of the old one are refused at once."""
    found = await target(control, call, params.user)
    if found.number == call.principal.number and found.has_password:
        await _prove(control, call, found, params.current_password or "")
    return await _enrol(control, call, found, again=True)


async def _enrol(control: Control, call: Call, user: User, *, again: bool) -> Enrolment:
    fresh = totp.new_secret(control.entropy)
    sealed = control.totp_vault.close(str(user.number), fresh)
    record = call.done(control.clock(), user.name)
    kept = (await control.users.set_totp(user.number, sealed, record, again=again)).value
    secret = control.totp_vault.open(str(user.number), kept)
    if not secret:
        raise Conflict("totp.sealed", "The TOTP secret was sealed with another key; reset it")
    return totp.enrolment(secret, user.name, control.rules.people.totp_issuer)


async def _tell(control: Control, call: Call, seq: int, name: str) -> None:
    """Have every worker forget what it knows of the user's tokens."""
    call.trail.receipt = await control.workers.apply(Change(seq, users=[name]))
