"""The first start: nobody is registered, so the owner is made."""

from base64 import b32encode

from msgspec import Struct

from ostiary.control.call import Call
from ostiary.control.control import Control
from ostiary.core.people import check_password, email_ok, totp_secret_ok, user_name_ok
from ostiary.core.permission import OWNER_ROLE, Principal
from ostiary.core.refusal import Conflict, Invalid
from ostiary.store.people import NewUser

NODE = Principal("node", "ostiary")


class Owner(Struct, frozen=True):
    """The owner as the configuration wants it."""

    name: str
    password: str
    email: str = ""
    totp_secret: str = ""


class OneTime(Struct, frozen=True):
    """What the first start made up: to be printed once, on the terminal, and never logged."""

    name: str
    password: str


async def ensure_owner(control: Control, wanted: Owner | None) -> OneTime | None:
    """Register the owner if nobody is; what was made up for that, or None.

    Refuses Invalid `owner.name`, `owner.email`, `owner.password`, `owner.totp_secret` where `wanted` breaks the rules.
    """
    if not await control.users.empty():
        return None
    made = None if wanted else OneTime("admin", b32encode(control.entropy(15)).decode().lower())
    owner = wanted or Owner("admin", made.password if made else "")
    check(owner, control.rules.people.min_password)
    now = control.clock()
    record = Call(NODE, "start", operation="users.register", target=owner.name).done(now)
    kept = await control.passwords.make(owner.password)
    new = NewUser(owner.name, OWNER_ROLE, now, owner.email, kept, ui_access=True)
    try:
        user = await control.users.create(new, record, first="only")
    except Conflict:
        return None
    if owner.totp_secret:
        sealed = control.totp_vault.close(str(user.number), owner.totp_secret)
        await control.users.set_totp(user.number, sealed, record, again=False)
    return made


def check(owner: Owner, least: int) -> None:
    """Refuse an owner that breaks the rules."""
    if not user_name_ok(owner.name):
        raise Invalid("owner.name", "bootstrap.owner.name is not a valid user name")
    if owner.email and not email_ok(owner.email):
        raise Invalid("owner.email", "bootstrap.owner.email is not a valid address")
    if owner.totp_secret and not totp_secret_ok(owner.totp_secret):
        raise Invalid("owner.totp_secret", "bootstrap.owner.totp_secret is not 16 to 128 characters of base32")
    try:
        check_password(owner.password, owner.name, least)
    except Invalid as refusal:
        raise Invalid("owner.password", f"bootstrap.owner.password: {refusal.message}") from None
