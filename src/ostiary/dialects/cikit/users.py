"""Log-in by code, its tokens, and users."""

from typing import Any

from ostiary.control.login import ByCode, LoggedIn, Presented
from ostiary.control.totp import Enrolment
from ostiary.control.users import Created, CreateUser, ListUsers, OwnUser
from ostiary.core.people import User
from ostiary.core.refusal import Invalid
from ostiary.dialects.cikit.asked import Asked, Row
from ostiary.dialects.cikit.words import NO_REFRESH_TOKEN, NO_USER_AT_LOGIN, NOT_OWNER, moment, say
from ostiary.dialects.desk import applied
from ostiary.dialects.message import Answer
from ostiary.store.people import Page

MOST = 10_000
"""Users that are read at once."""


async def login(asked: Asked) -> Answer:
    """Give a pair of tokens for a code."""
    name, code = asked.text("username"), asked.text("code")
    if not name or not code:
        raise Invalid("login.incomplete", "A log-in needs a code and a user name")
    asked.desk.control.penalties.admit(asked.call.address)
    return _pair(await asked.run("login.totp", ByCode(name, code)))


async def refresh(asked: Asked) -> Answer:
    """Give a new pair of tokens for a refresh token (RFC 6749 section 6)."""
    grant = asked.fields.get("grant_type")
    if grant != "refresh_token":
        raise Invalid(
            "grant.unsupported", f"Unsupported grant type: {grant if isinstance(grant, str) else 'undefined'}"
        )
    token = asked.text("refresh_token")
    if not token:
        raise Invalid("refresh.missing", "Missing required parameter: refresh_token")
    return _pair(await asked.run("tokens.refresh", Presented(token)))


def _pair(given: LoggedIn) -> Answer:
    return say({
        "token_type": "Bearer", "expires_in": given.expires_in,
        "access_token": given.access_token, "refresh_token": given.refresh_token,
    })  # fmt: skip


async def revoke(asked: Asked) -> Answer:
    """End every token of a user."""
    await asked.run("tokens.revoke_all", OwnUser(asked.item))
    return say({"status": "ok"}, *applied(asked.call))


async def setup(asked: Asked) -> Answer:
    """Show a user's secret."""
    enrolment: Enrolment = await asked.run("users.totp_setup", OwnUser(asked.item))
    return say(_secret(asked, enrolment))


def _secret(asked: Asked, enrolment: Enrolment) -> dict[str, str]:
    bare = asked.settings.qr == "base64"
    return {"qr": enrolment.png.partition(",")[2] if bare else enrolment.png, "secret": enrolment.secret}


async def list_(asked: Asked) -> Answer:
    """List the users, oldest first."""
    return say([_item(user) for user in await _all(asked)])


async def _all(asked: Asked) -> list[User]:
    users: list[User] = []
    while True:
        page: Page = await asked.run("users.list", ListUsers(limit=MOST, offset=len(users)))
        users += page.users
        if len(page.users) < MOST:
            return users


async def add(asked: Asked) -> Answer:
    """Make a user; the new one stands last, and shows its secret this once."""
    name, group = asked.text("username"), asked.text("group")
    if not name or not group:
        raise Invalid("user.incomplete", "A new user needs a group and a user name")
    made: Created = await asked.run("users.create", CreateUser(name, group, totp=True))
    others = [_item(user) for user in await _all(asked) if user.number != made.user.number]
    secret = _secret(asked, made.enrolment) if made.enrolment else {}
    return say([*others, _item(made.user) | secret])


async def delete(asked: Asked) -> Answer:
    """Delete a user with every token."""
    await asked.run("users.delete", OwnUser(asked.item))
    return say([_item(user) for user in await _all(asked)], *applied(asked.call))


def _item(user: User) -> dict[str, Any]:
    """A user as CIKit shows one; `_id` looks as the original's (12 bytes in hex)."""
    return {
        "_id": f"{user.number:024x}", "username": user.name, "group": user.role,
        "created": moment(user.created),
    }  # fmt: skip


NO_REFRESH = dict.fromkeys(("refresh.unknown", "credential.spent", "login.inactive"), NO_REFRESH_TOKEN)

ROWS = (
    Row("POST", "user/auth", "login.totp", "", login, {"user.unknown": NO_USER_AT_LOGIN}, public=True),
    Row("POST", "user/auth/refresh", "tokens.refresh", "", refresh, NO_REFRESH, public=True),
    Row("DELETE", "user/auth/revoke/:user", "tokens.revoke_all", "tokens:manage", revoke,
        {"permission.denied": NOT_OWNER}, own=True),
    Row("GET", "user/auth/setup/:user", "users.totp_setup", "users:secrets", setup),
    Row("GET", "user/list", "users.list", "users:read", list_),
    Row("POST", "user/add", "users.create", "users:manage", add),
    Row("DELETE", "user/delete/:user", "users.delete", "users:manage", delete),
)  # fmt: skip
