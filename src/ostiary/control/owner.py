"""The first start: nobody is registered, so the owner is made."""

from base64 import b32encode

from msgspec import Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.core.people import email_ok, password_ok, user_name_ok
from ostiary.core.permission import Principal
from ostiary.core.refusal import Invalid
from ostiary.store.ports import User

NODE = Principal("node", "ostiary")


class Owner(Struct, frozen=True):
    """The owner as the configuration wants it."""

    name: str
    password: str
    email: str = ""


class OneTime(Struct, frozen=True):
    """What the first start made up: to be printed once, on the terminal, and never logged."""

    name: str
    password: str


async def ensure_owner(control: Control, wanted: Owner | None) -> OneTime | None:
    """Register the owner if nobody is; what was made up for that, or None.

    Refuses Invalid `owner.name`, `owner.email`, `owner.password` where `wanted` breaks the rules.
    """
    if not await control.users.empty():
        return None
    made = None if wanted else OneTime("admin", b32encode(control.entropy(15)).decode().lower())
    owner = wanted or Owner("admin", made.password if made else "")
    check(owner, control.rules.min_password)
    now = control.clock()
    record = Call(NODE, "start", operation="users.register", target=owner.name).done(now)
    user = User(0, owner.name, "owner", owner.email, True, now)
    kept = await control.passwords.make(owner.password)
    return made if await control.users.create_first(user, kept, record) else None


def check(owner: Owner, least: int) -> None:
    """Refuse an owner that breaks the rules."""
    if not user_name_ok(owner.name):
        raise Invalid("owner.name", "bootstrap.owner.name is not a valid user name")
    if owner.email and not email_ok(owner.email):
        raise Invalid("owner.email", "bootstrap.owner.email is not a valid address")
    if not password_ok(owner.password, owner.name, least):
        raise Invalid("owner.password", f"bootstrap.owner.password must have {least} to 1024 characters, not the name")
