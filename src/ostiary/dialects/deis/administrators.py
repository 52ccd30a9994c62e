"""Users, and who of them is an administrator."""

from ostiary.control.users import ListUsers, SetRole, unknown
from ostiary.core.people import User, user_name_ok
from ostiary.core.permission import ADMINISTRATORS, OWNER_ROLE
from ostiary.core.refusal import Conflict
from ostiary.dialects.deis.asked import Asked
from ostiary.dialects.deis.pages import page, user_object
from ostiary.dialects.message import Answer
from ostiary.store.people import Page


async def users(asked: Asked) -> Answer:
    """All users, oldest first."""
    wanted = page(asked)
    found: Page = await asked.run("users.list", ListUsers(limit=wanted.size, offset=wanted.offset))
    return wanted.answer(found.total, (user_object(each) for each in found.users))


async def administrators(asked: Asked) -> Answer:
    """Active administrators, oldest first."""
    wanted = page(asked)
    roles = sorted(ADMINISTRATORS)
    params = ListUsers(limit=wanted.size, offset=wanted.offset, roles=roles, active=True)
    found: Page = await asked.run("users.list", params)
    return wanted.answer(found.total, ({"username": each.name, "is_superuser": True} for each in found.users))


async def promote(asked: Asked) -> Answer:
    """Make an administrator; who is one stays what they are."""
    fields = asked.fields()
    name = fields.text("username", required=True)
    fields.done()
    found = await _named(asked, name)
    if found.role not in ADMINISTRATORS:
        await asked.run("users.set_role", SetRole(name, "admin"))
    return Answer(201)


async def demote(asked: Asked) -> Answer:
    """Make an administrator what those who register are; who is none stays what they are."""
    asked.fields()
    found = await _named(asked, asked.names["username"])
    if found.role == OWNER_ROLE:
        raise Conflict("owner.role", "Ownership is handed over, not taken")
    if found.role in ADMINISTRATORS:
        await asked.run("users.set_role", SetRole(found.name, asked.desk.control.rules.people.registration_role))
    return Answer(204)


async def _named(asked: Asked, name: str) -> User:
    found = await asked.desk.control.users.get(name) if user_name_ok(name) else None
    if found is None:
        raise unknown()
    return found
