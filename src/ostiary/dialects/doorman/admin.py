"""Revoke, unrevoke, disable, enable: what a user holds, and whether they may come in."""

from ostiary.control.users import OneUser, OwnUser, Status
from ostiary.core.permission import OWNER_ROLE
from ostiary.core.refusal import Forbidden
from ostiary.dialects.doorman.asked import Asked, Handler, Row
from ostiary.dialects.doorman.users import sought
from ostiary.dialects.doorman.words import NO_AUTH, done, message
from ostiary.dialects.message import Answer


async def status(asked: Asked) -> Answer:
    """Whether the user may come in, and whether there is a cut-off."""
    user = await sought(asked)
    found: Status = await asked.run("users.status", OneUser(user.name))
    return done({"active": found.active, "revoked": found.revoked})


async def disable(asked: Asked) -> Answer:
    """Keep a user out; the owner stays, whoever asks."""
    user = await sought(asked)
    if user.role == OWNER_ROLE:
        raise Forbidden("owner.active", "The owner cannot be disabled")
    await asked.run("users.disable", OneUser(user.name))
    return message(f"User {user.name} disabled and tokens revoked", *asked.receipt())


def _change(operation: str, kind: type[OneUser] | type[OwnUser], text: str) -> Handler:
    """The handler of a change, which answers when it is in force everywhere."""

    async def change(asked: Asked) -> Answer:
        user = await sought(asked)
        await asked.run(operation, kind(user.name))
        return message(text.format(user.name), *asked.receipt())

    return change


def _row(method: str, verb: str, operation: str, handler: Handler, permission: str = "auth:manage") -> Row:
    path = f"/platform/authorization/admin/{verb}/{{username}}"
    return Row(method, path, operation, handler, NO_AUTH, permissions=(permission,))


revoke = _change("tokens.revoke_all", OwnUser, "All tokens revoked for {}")
unrevoke = _change("tokens.unrevoke_all", OneUser, "Token revocation cleared for {}")
enable = _change("users.enable", OneUser, "User {} enabled")
ROWS = (
    _row("GET", "status", "users.status", status),
    _row("POST", "revoke", "tokens.revoke_all", revoke, "tokens:manage"),
    _row("POST", "unrevoke", "tokens.unrevoke_all", unrevoke, "tokens:manage"),
    _row("POST", "disable", "users.disable", disable),
    _row("POST", "enable", "users.enable", enable),
)
